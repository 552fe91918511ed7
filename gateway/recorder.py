"""Stereo recordings: caller left, agent as heard right, written off the media path. A shell.

A `CallTap` sits in the bridge and only appends to lists. What is older than `SETTLE_S` can no longer change
(a barge-in cuts the agent's last half second) and goes, about once a second, to the one writer thread of the
worker over a bounded queue. When the disk cannot keep up the queue is full: that second is dropped and
counted, and the call never waits. The end of a file is never dropped (there is one for each call).
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass
from typing import BinaryIO

from gateway.audio import TRUNK_RATE_HZ
from gateway.g711 import silence_ulaw, ulaw_to_pcm16
from gateway.wav import interleave, wav_header

SETTLE_S = 2.0
COMMIT_EVERY_S = 1.0
QUEUE_MAX_BLOCKS = 4096
"""About one block a second and recorded call."""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of both tracks, of equal length, from sample `position` on; `caller is None` ends the file."""

    tap: CallTap
    position: int
    caller: bytes | None
    agent: bytes


class _Track:
    """µ-law samples placed on a time line; what was never placed is silence."""

    __slots__ = ("_base", "_data")

    def __init__(self) -> None:
        self._base = 0
        self._data = bytearray()

    def put(self, position: int, ulaw: bytes) -> None:
        """Place audio at `position` (samples from the start). Audio before what was taken is dropped."""
        offset = position - self._base
        if offset < 0:
            ulaw = ulaw[-offset:]
            offset = 0
        missing = offset - len(self._data)
        if missing > 0:
            self._data += silence_ulaw(missing)
        self._data[offset : offset + len(ulaw)] = ulaw

    def cut(self, position: int) -> None:
        """Forget everything from `position` on."""
        del self._data[max(0, position - self._base) :]

    def take(self, end: int) -> bytes:
        """Everything before `end`, filled up with silence."""
        size = max(0, end - self._base)
        taken = bytes(self._data[:size])
        del self._data[:size]
        self._base += size
        return taken + silence_ulaw(size - len(taken))

    @property
    def end(self) -> int:
        return self._base + len(self._data)


class CallTap:
    """The ear of one call; called by the bridge, synchronously. Time zero is Twilio's `start`.

    Caller audio is placed by its media timestamp, agent audio by the playout clock, so that both tracks
    are aligned as the caller heard them.
    """

    def __init__(self, recorder: Recorder, path: str) -> None:
        self._recorder = recorder
        self.path = path
        self.file: BinaryIO | None = None
        self.samples_written = 0
        self.dropped_blocks = 0
        self.error: str | None = None
        self._caller = _Track()
        self._agent = _Track()
        self._origin_s: float | None = None
        self._committed = 0
        self._agent_next = 0
        self._is_over = False
        self.finished = threading.Event()

    @property
    def has_started(self) -> bool:
        """Whether there is anything to record: a call that was never joined leaves no file."""
        return self._origin_s is not None

    def start(self, now_s: float) -> None:
        self._origin_s = now_s

    def caller(self, position_samples: int, ulaw: bytes) -> None:
        self._caller.put(position_samples, ulaw)
        self._commit(position_samples)

    def agent(self, at_s: float, ulaw: bytes) -> None:
        if self._origin_s is None:
            return
        position = int((at_s - self._origin_s) * TRUNK_RATE_HZ + 0.5)
        if abs(position - self._agent_next) <= 2:
            position = self._agent_next  # consecutive audio: no rounding between two messages
        self._agent.put(position, ulaw)
        self._agent_next = position + len(ulaw)
        self._commit(position)

    def cut_agent(self, at_s: float) -> None:
        """A barge-in: what would have been played after `at_s` was not."""
        if self._origin_s is None:
            return
        self._agent_next = int((at_s - self._origin_s) * TRUNK_RATE_HZ)
        self._agent.cut(self._agent_next)

    def _commit(self, position: int) -> None:
        settled = position - int(SETTLE_S * TRUNK_RATE_HZ)
        if settled - self._committed < COMMIT_EVERY_S * TRUNK_RATE_HZ:
            return
        self._hand_over(settled)

    def _hand_over(self, end: int) -> None:
        caller, agent = self._caller.take(end), self._agent.take(end)
        self._recorder.submit(Block(self, self._committed, caller, agent))
        self._committed = end

    def finish(self, now_s: float) -> None:
        """The call is over: cut what was not heard, write the rest and close the file. Idempotent."""
        if self._is_over:
            return
        self._is_over = True
        if not self.has_started:
            self.finished.set()
            return
        self.cut_agent(now_s)
        self._hand_over(max(self._caller.end, self._agent.end, self._committed))
        self._recorder.submit(Block(self, self._committed, None, b""))

    def report(self) -> dict[str, object]:
        return {
            "path": self.path,
            "duration_s": round(self.samples_written / TRUNK_RATE_HZ, 2),
            "dropped_blocks": self.dropped_blocks,
            "error": self.error or (None if self.finished.is_set() else "not written in time"),
        }


class Recorder:
    """The writer thread of a worker. `start` it once; `stop` waits for what is queued."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._queue.put(None)
        self._thread.join(timeout_s)

    def submit(self, block: Block) -> None:
        """Never waits: over the bound the block is dropped and counted, unless it ends its file."""
        if block.caller is not None and self._queue.qsize() >= QUEUE_MAX_BLOCKS:
            block.tap.dropped_blocks += 1
            return
        self._queue.put(block)

    def _run(self) -> None:
        while (block := self._queue.get()) is not None:
            tap = block.tap
            try:
                if block.caller is None:
                    _close(tap)
                elif tap.error is None:
                    _write(tap, block.position, block.caller, block.agent)
            except (OSError, ValueError) as error:  # ValueError: no such path can exist
                tap.error = tap.error or f"{type(error).__name__}: {_reason(error)}"
            if block.caller is None:
                tap.finished.set()


def _write(tap: CallTap, position: int, caller: bytes, agent: bytes) -> None:
    if tap.file is None:
        os.makedirs(os.path.dirname(tap.path) or ".", exist_ok=True)
        descriptor = os.open(tap.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        tap.file = os.fdopen(descriptor, "wb")
        tap.file.write(wav_header(TRUNK_RATE_HZ, 2, 0))
    missing = position - tap.samples_written  # a block was dropped: keep both tracks on their time
    if missing > 0:
        tap.file.write(bytes(4 * missing))
        tap.samples_written = position
    tap.file.write(interleave(ulaw_to_pcm16(caller), ulaw_to_pcm16(agent)))
    tap.samples_written += len(caller)


def _close(tap: CallTap) -> None:
    if tap.file is None:
        return
    file, tap.file = tap.file, None
    with file:
        file.flush()
        file.seek(0)
        file.write(wav_header(TRUNK_RATE_HZ, 2, tap.samples_written * 4))
        file.flush()
        os.fsync(file.fileno())


def _reason(error: OSError | ValueError) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)
