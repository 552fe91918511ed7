"""Rows of the fault table: Twilio's side, its media stream and its webhooks."""

from __future__ import annotations

import trio

from bench.faults import Fault
from tests.faults.bed import Bed, Row
from tests.faults.rows_agent import AGENT, BOTH


def _good(name, what, act):
    return Row(name=name, what=what, act=act, hears=AGENT, result="completed", blame=None)


def _resumed(name, what, act):
    """The stream is lost: Twilio says the apology it holds, and the talk goes on in another stream."""
    return Row(name=name, what=what, act=act, hears=BOTH, result="completed", blame=None)


def _media(**fault):
    async def act(bed: Bed, row: Row, call) -> None:
        bed.rig.wires["public"].set(Fault(**fault), about=bed.media(call))
        await trio.sleep(1.0)
        bed.rig.wires["public"].heal(bed.media(call))

    return act


async def _reset(bed: Bed, row: Row, call) -> None:
    bed.rig.wires["public"].reset(bed.media(call))
    await trio.lowlevel.checkpoint()


async def _close(bed: Bed, row: Row, call) -> None:
    bed.rig.wires["public"].close(bed.media(call))
    await trio.lowlevel.checkpoint()


async def _drop(bed: Bed, row: Row, call) -> None:
    call.stream.drop()
    await trio.lowlevel.checkpoint()


def _inject(message, times=1):
    async def act(bed: Bed, row: Row, call) -> None:
        for _ in range(times):
            call.stream.inject(message)
        await trio.lowlevel.checkpoint()

    return act


ROWS = (
    _resumed("twilio_rst", "RST on the media stream in mid-call", _reset),
    _resumed("twilio_eof", "TCP of the media stream ends in mid-call", _close),
    _resumed("twilio_vanishes", "Twilio loses the stream without a `stop`", _drop),
    _good("twilio_late", "200 ms on the stream for a second", _media(latency_s=0.2)),
    _good("twilio_jitter", "up to 80 ms of jitter for a second", _media(jitter_s=0.08)),
    _good("twilio_sliced", "frames arrive in pieces of 50 bytes", _media(slice_bytes=50)),
    _good("twilio_hole", "the stream stands still for a second", _media(blackhole=True)),
    _good("twilio_narrow", "30 kB/s for a second", _media(bytes_per_s=30_000)),
    _resumed("twilio_garbage", "garbage from Twilio for a second", _media(garbage=32)),
    _good("twilio_nonsense", "one message that is no JSON", _inject("not json")),
    _good("twilio_unknown", "an event nobody knows", _inject('{"event":"brand_new"}')),
    _good("twilio_binary", "one binary message", _inject(b"\x00\x01")),
)
"""The media stream's wire and what comes over it."""
