"""Faults on the conversation socket: everything in `Faults` that is not a plain value on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import trio

from bench.sim_elevenlabs import speech, wire
from bench.sim_elevenlabs.scenario import AgentScript, Utterance

if TYPE_CHECKING:
    from bench.sim_elevenlabs.conversation import Conversation

_FIRST_FRAMES: dict[str, str | bytes] = {
    "not_json": "this is not JSON {",
    "not_object": '["conversation_initiation_metadata"]',
    "empty_metadata": '{"type":"conversation_initiation_metadata"}',
    "binary": b"\x00\x01\x02\x03",
}
#: Opcode 0x3 is reserved, and all reserved bits are set.
BROKEN_FRAME = b"\xf3\xff\xff\xff\xff\xff\xff\xff\xff\xff garbage"


async def run(talk: Conversation) -> None:
    """The timed ends: a drop of TCP or a close. Returns at once when there is none."""
    faults = talk.script.faults
    async with trio.open_nursery() as nursery:
        if faults.drop_after_s is not None:
            nursery.start_soon(_drop, talk, faults.drop_after_s)
        if faults.close_after_s is not None:
            nursery.start_soon(_close, talk, faults.close_after_s)


async def _drop(talk: Conversation, after_s: float) -> None:
    await trio.sleep(after_s)
    talk.note_drop()
    await (wire.reset if talk.script.faults.drop == "reset" else wire.end_of_file)(talk.stream)


async def _close(talk: Conversation, after_s: float) -> None:
    await trio.sleep(after_s)
    faults = talk.script.faults
    if faults.error_type is not None:
        await talk.fail(faults.close_code, faults.error_type, faults.close_reason)
    else:
        await talk.close(faults.close_code, faults.close_reason)


async def first_frame(talk: Conversation) -> bool:
    """Whatever comes instead of, or before, the metadata; whether the conversation goes on.

    A service this broken has nothing more to say: it only listens, and what the client does is the
    test.
    """
    kind = talk.script.faults.first_frame
    if kind == "broken_frame":
        await talk.stream.send_all(BROKEN_FRAME)
    elif kind == "not_metadata":
        await talk.send("vad_score", "vad_score_event", {"vad_score": 0.1}, None, b"")
    elif kind != "metadata":
        await talk.send_raw(_FIRST_FRAMES[kind])
    return kind in ("metadata", "not_metadata")


async def after_metadata(talk: Conversation) -> None:
    """An interruption although nothing was said."""
    if talk.script.faults.stray_interruption:
        event_id = talk.turns.mouth.next_id()
        await talk.send("interruption", "interruption_event", {"event_id": event_id}, event_id, b"")


async def before_greeting(talk: Conversation) -> None:
    """Queueing for a free agent: status events around hold audio in chunks of a second."""
    wait_s = talk.script.faults.queue_wait_s
    if wait_s is None:
        return
    await _queue_status(talk, "waiting")
    audio_format = talk.script.output_format
    second = speech.encode(_tone(1.0), audio_format)
    hold = Utterance("", _tone(wait_s), interruptible=False)
    for at in range(0, len(hold.encoded(audio_format)), len(second)):
        event_id = talk.turns.mouth.next_id()
        piece = hold.encoded(audio_format)[at : at + len(second)]
        await talk.turns.mouth.send_plain(piece, event_id)
        await trio.sleep(len(piece) / len(second))
    if talk.script.faults.queue_times_out:
        await _queue_status(talk, "timed_out")
        await talk.close(4300, "Queue wait timed out")
    await _queue_status(talk, "admitted")


async def _queue_status(talk: Conversation, status: str) -> None:
    await talk.send("queue_status", "queue_status_event", {"status": status}, None, b"")


async def before_turn(talk: Conversation) -> None:
    """An event type that no contract lists."""
    if talk.script.faults.unknown_events:
        event_id = talk.turns.mouth.next_id()
        body = {"anything": [1, {"deep": None}], "event_id": event_id}
        await talk.send("brand_new_event", "brand_new_event", body, event_id, b"")


def burst(script: AgentScript) -> Utterance | None:
    """The greeting (or the first reply, or a tone) repeated to `burst_s` seconds."""
    if script.faults.burst_s is None:
        return None
    source = script.first_message or script.reply(1)
    pcm16 = source.pcm16 if source else _tone(1.0)
    size = int(script.faults.burst_s * speech.SOURCE_HZ) * 2
    return Utterance("A very long reply.", (pcm16 * (size // len(pcm16) + 1))[:size])


def burst_speed(script: AgentScript) -> float:
    return (script.faults.burst_s or 1.0) / max(script.faults.burst_within_s, 0.001)


def _tone(seconds: float) -> bytes:
    """440 Hz at -26 dBFS, 16 bit, 8 kHz: hold music of the plainest kind."""
    at = np.arange(int(seconds * speech.SOURCE_HZ)) / speech.SOURCE_HZ
    return (2300 * np.sin(2 * np.pi * 440 * at)).astype("<i2").tobytes()
