"""Rows of the fault table: Twilio's media stream, its wire and what comes over it."""

from __future__ import annotations

import trio

from bench.faults import Fault
from tests.faults.bed import Bed
from tests.faults.rows import BOTH, Row

FAULT_S = 1.0


def _good(name, what, act, **more):
    """The stream lives: no apology, no second stream."""
    return Row(name=name, what=what, act=act, **more)


def _resumed(name, what, act):
    """The stream is lost: Twilio says the apology it holds, and the talk goes on in another stream."""
    return Row(
        name=name,
        what=what,
        act=act,
        hears=BOTH,
        timeline=("stream_started", "asked_to_continue", "resumed", "stream_started", "ended"),
    )


def _media(**fault):
    async def act(bed: Bed, row: Row, call) -> None:
        bed.rig.wires["public"].set(Fault(**fault), about=bed.media(call))
        await trio.sleep(FAULT_S)
        bed.rig.wires["public"].heal(bed.media(call))

    return act


async def _garbage(bed: Bed, row: Row, call) -> None:
    """Until the first stream is given up; the wire of the next one is another."""
    about = bed.media(call)
    bed.rig.wires["public"].set(Fault(garbage=32), about=about)
    while call.streams[0].end is None:
        await trio.sleep(0.02)
    bed.rig.wires["public"].heal(about)


async def _reset(bed: Bed, row: Row, call) -> None:
    bed.rig.wires["public"].reset(bed.media(call))
    await trio.lowlevel.checkpoint()


async def _close(bed: Bed, row: Row, call) -> None:
    bed.rig.wires["public"].close(bed.media(call))
    await trio.lowlevel.checkpoint()


async def _drop(bed: Bed, row: Row, call) -> None:
    call.stream.drop()
    await trio.lowlevel.checkpoint()


def _inject(message):
    async def act(bed: Bed, row: Row, call) -> None:
        call.stream.inject(message)
        await trio.lowlevel.checkpoint()

    return act


ROWS = (
    _resumed("twilio_rst", "RST on the media stream in mid-call", _reset),
    _resumed("twilio_eof", "TCP of the media stream ends in mid-call", _close),
    _resumed("twilio_vanishes", "Twilio loses the stream without a `stop`", _drop),
    _resumed("twilio_garbage", "garbage both ways on the media stream", _garbage),
    _good("twilio_late", "200 ms on the stream for a second", _media(latency_s=0.2)),
    _good("twilio_jitter", "up to 80 ms of jitter for a second", _media(jitter_s=0.08)),
    _good("twilio_sliced", "frames arrive in pieces of 50 bytes", _media(slice_bytes=50)),
    _good("twilio_hole", "the stream stands still for a second", _media(blackhole=True)),
    _good("twilio_narrow", "30 kB/s for a second", _media(bytes_per_s=30_000)),
    _good(
        "twilio_nonsense", "one message that is no JSON", _inject("not json"), timeline=("error",)
    ),
    _good("twilio_unknown", "an event nobody knows", _inject('{"event":"brand_new"}')),
    _good("twilio_binary", "one binary message", _inject(b"\x00\x01"), timeline=("error",)),
)
