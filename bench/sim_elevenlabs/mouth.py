"""How the agent speaks: text and audio events in bursts, a clock of what is being played, and the
cut when the caller speaks over it."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import trio

from bench.sim_elevenlabs import speech
from bench.sim_elevenlabs.record import ConversationRecord, Turn
from bench.sim_elevenlabs.scenario import AgentScript, Utterance

#: send(type, envelope, body, event_id, audio)
Send = Callable[[str, str, dict[str, Any], int | None, bytes], Awaitable[None]]


@dataclass(slots=True)
class Spoken:
    """The utterance under way or just over: what was sent of it, and when."""

    utterance: Utterance
    turn: Turn
    chunks: list[bytes]
    sent_chunks: int = 0
    sent_s: float = 0.0
    last_event_id: int = 0
    delivered: bool = False


def words_heard(text: str, share: float) -> str:
    """The part of `text` that fits into `share` of its duration, cut at a word, with an ellipsis."""
    if share >= 1.0:
        return text
    cut = text[: max(0, math.floor(len(text) * share))]
    return cut.rsplit(" ", 1)[0].rstrip(" ,.;:") + "..." if " " in cut else "..."


class Mouth:
    """Speaks one utterance at a time. The caller of `say` cancels it to interrupt."""

    def __init__(self, script: AgentScript, record: ConversationRecord, send: Send) -> None:
        self._script = script
        self._record = record
        self._send = send
        self._ids = itertools.count(1)
        self._playing_until_s = -math.inf
        self._bytes_per_second = speech.bytes_per_second(script.output_format)
        self._huge_frame_bytes = script.faults.huge_frame_bytes
        self.spoken: Spoken | None = None

    def next_id(self) -> int:
        """The next event id of the conversation; one counter serves all events."""
        return next(self._ids)

    @property
    def audible(self) -> bool:
        """Whether agent audio is being played by our own clock, or is still being delivered."""
        if self.spoken is None or not self.spoken.sent_chunks:
            return False
        return not self.spoken.delivered or trio.current_time() < self._playing_until_s

    @property
    def interruptible(self) -> bool:
        return self.spoken is not None and self.spoken.utterance.interruptible

    async def say(self, utterance: Utterance, *, text: str | None = None, speed: float = 0) -> None:
        """Text, then audio at `speed` times real time (0: the script's), then the complete event."""
        words = utterance.text if text is None else text
        event_id = self.next_id()
        turn = Turn("agent", words, trio.current_time(), event_id)
        self._record.turns.append(turn)
        self.spoken = spoken = Spoken(utterance, turn, self._cut(utterance), last_event_id=event_id)
        try:
            body = {"agent_response": words, "event_id": event_id}
            await self._send("agent_response", "agent_response_event", body, event_id, b"")
            await self._deliver(spoken, words, speed or self._script.speed)
        finally:
            spoken.delivered = True
            if not spoken.sent_chunks:
                self._record.turns.remove(turn)  # cancelled before a word of it could be heard
        if self._script.agent_response_complete:
            body = {"event_id": spoken.last_event_id}
            envelope = "agent_response_complete_event"
            await self._send("agent_response_complete", envelope, body, spoken.last_event_id, b"")

    async def _deliver(self, spoken: Spoken, text: str, speed: float) -> None:
        begin_s = trio.current_time()
        first = "reply_audio_sent" if self._record.times("first_audio_sent") else "first_audio_sent"
        for chunk in spoken.chunks:
            await trio.sleep_until(begin_s + spoken.sent_s / speed)
            if self._script.event_ids == "chunk" and spoken.sent_chunks:
                spoken.last_event_id = self.next_id()
            if not spoken.sent_chunks:
                self._record.note(first, trio.current_time())
            await self._send_chunk(spoken, chunk, text)
            self._count(spoken, chunk)

    async def _send_chunk(self, spoken: Spoken, chunk: bytes, text: str) -> None:
        body = self._audio_body(chunk, spoken.last_event_id)
        if self._script.faults.bad_base64 and spoken.sent_chunks == 1:
            body["audio_base_64"] = "~~this is not base64~~"
        if self._script.alignment:
            total_s = len(b"".join(spoken.chunks)) / self._bytes_per_second
            chunk_s = len(chunk) / self._bytes_per_second
            body["alignment"] = alignment(text, total_s, spoken.sent_s, chunk_s)
        await self._send("audio", "audio_event", body, spoken.last_event_id, chunk)

    async def send_plain(self, audio: bytes, event_id: int) -> None:
        """One audio event outside of any turn: hold music, or what arrives too late."""
        body = self._audio_body(audio, event_id)
        await self._send("audio", "audio_event", body, event_id, audio)

    def _audio_body(self, chunk: bytes, event_id: int) -> dict[str, Any]:
        return {"audio_base_64": base64.b64encode(chunk).decode("ascii"), "event_id": event_id}

    def _count(self, spoken: Spoken, chunk: bytes) -> None:
        seconds = len(chunk) / self._bytes_per_second
        spoken.sent_chunks += 1
        spoken.sent_s += seconds
        # A player that ran dry starts anew when audio comes: the clock never lies in the past.
        self._playing_until_s = max(trio.current_time(), self._playing_until_s) + seconds

    def _cut(self, utterance: Utterance) -> list[bytes]:
        audio = utterance.encoded(self._script.output_format)
        size = self._script.chunk_bytes(self._script.output_format)
        chunks = [audio[at : at + size] for at in range(0, len(audio), size)]
        if self._huge_frame_bytes:
            loops = -(-self._huge_frame_bytes // max(1, len(audio)))
            chunks.insert(0, (audio * loops)[: self._huge_frame_bytes])
            self._huge_frame_bytes = 0
        return chunks

    async def cut_off(self) -> None:
        """Tell the client that the caller spoke over us; `say` must have been cancelled before."""
        spoken = self.spoken
        if spoken is None:
            return
        unplayed_s = max(0.0, self._playing_until_s - trio.current_time())
        share = (spoken.sent_s - unplayed_s) / max(spoken.utterance.duration_s, 0.001)
        self._playing_until_s = -math.inf
        spoken.turn.interrupted = True
        spoken.turn.original_text = spoken.turn.text
        spoken.turn.text = words_heard(spoken.turn.text or "", share)
        await self._send_interruption(spoken)
        for chunk in itertools.islice(self._leftover(spoken), self._script.stale_chunks):
            await self.send_plain(chunk, spoken.last_event_id)
        self.spoken = None

    async def _send_interruption(self, spoken: Spoken) -> None:
        event_id = spoken.last_event_id
        self._record.note("interruption_sent", trio.current_time())
        for _ in range(2 if self._script.faults.double_interruption else 1):
            body: dict[str, Any] = {"event_id": event_id}
            await self._send("interruption", "interruption_event", body, event_id, b"")
        correction = {
            "original_agent_response": spoken.turn.original_text,
            "corrected_agent_response": spoken.turn.text,
            "event_id": event_id,
        }
        envelope = "agent_response_correction_event"
        await self._send("agent_response_correction", envelope, correction, event_id, b"")

    def _leftover(self, spoken: Spoken) -> Iterator[bytes]:
        """Audio that was made but not sent; the last chunk again when all of it was sent."""
        left = spoken.chunks[spoken.sent_chunks :]
        return itertools.chain(left, itertools.repeat(spoken.chunks[-1]))


def alignment(text: str, total_s: float, from_s: float, chunk_s: float) -> dict[str, list[Any]]:
    """Characters that begin within a chunk, evenly spread over the utterance, times from the chunk."""
    step_s = total_s / max(1, len(text))
    begins = [(char, index * step_s - from_s) for index, char in enumerate(text)]
    inside = [(char, at_s) for char, at_s in begins if 0 <= at_s + 1e-9 < chunk_s]
    return {
        "chars": [char for char, _ in inside],
        "char_start_times_ms": [max(0, int(at_s * 1000)) for _, at_s in inside],
        "char_durations_ms": [int(step_s * 1000) for _ in inside],
    }
