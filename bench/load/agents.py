"""Fake ElevenLabs agents: speak in turns, faster than real time, and measure what reaches them.

Every message of the other side is masked. Caller audio is recognised by one byte and measured by its length,
without unmasking; the first message of a connection is read in full to learn the envelope, and one in
`CHECK_EVERY` is unmasked and compared with what the caller sent.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.load import wire
from bench.load.hot import PlainAgentHot, Times, swift
from bench.load.loop import Loop, now
from bench.load.peer import Peer
from bench.load.tally import Tally

if TYPE_CHECKING:
    from bench.load.callers import Caller

CHECK_EVERY = 50
_U = ord("u")
"""The third byte of `{"user_audio_chunk"`."""
_E = ord("e")
"""The third byte of `{"event"`: Twilio's words, passed on as they were."""
_M = ord("m")
"""The eleventh byte of `{"event":"media"` (a mark is shorter)."""
_PAD = ord("=")
_RELAYED_MIN_BYTES = 200


@dataclass(slots=True)
class AgentManners:
    """How all agents of a step behave."""

    voice: wire.AgentVoice
    chunk_gap_s: float
    """Between the chunks of a turn: shorter than the audio in them, as the service does."""
    period_s: float
    """From the begin of one turn to the begin of the next."""
    caller_format: str
    barge_share: float
    """Share of the agents that are interrupted in every turn."""
    frames_relayed: bool
    """The target passes Twilio's messages on as they are (a byte relay)."""
    is_quiet: bool = False
    """No new turns: the end is near."""


class Agent(Peer):
    """One conversation."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        rest: bytes,
        path: str,
        manners: AgentManners,
        tally: Tally,
        find: Callable[[str], Caller | None],
    ) -> None:
        self._path = path
        self._manners = manners
        self._tally = tally
        self._find = find
        self.caller: Caller | None = None
        self.arrived_at = Times()
        """When the middle of the caller's k-th frame came."""
        self._arrived = self.arrived_at.append
        self._frame_bytes = round(wire.FRAME_MS * wire.bytes_per_ms(manners.caller_format))
        self._is_relay = manners.frames_relayed
        if self._is_relay:
            self._frame_bytes = wire.FRAME_BYTES
        self._overhead = self._suffix = -1
        is_plain = swift is None or isinstance(sock, ssl.SSLSocket)
        self._hot: Any = (
            PlainAgentHot(self._frame_bytes)
            if is_plain
            else swift.AgentHot(
                self,
                sock.fileno(),
                self._frame_bytes,
                self.arrived_at,
                CHECK_EVERY,
                self._is_relay,
            )
        )
        """`usual`: the bytes of a message with one whole frame, once one was read with care."""
        self.sent_bytes = 0
        self._event_id = 0
        self._turn = 0
        self._chunks_left = 0
        self._barges = False
        super().__init__(loop, sock, rest)
        if not is_plain:
            loop.hand(sock, self._hot)

    @property
    def audio_bytes(self) -> int:
        """Caller audio heard so far."""
        return int(self._hot.audio_bytes)

    # ---- what is heard -------------------------------------------------------------------------

    def _check_frame(self, data: bytes) -> None:
        self._check(_unmask(data, 8, len(data)), self._frame_bytes)

    def _take(self, data: bytes, at_s: float) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
            self._hot.is_split = False
        pos, end = 0, len(data)
        overhead = self._overhead
        hot = self._hot
        while end - pos >= 6:
            length = data[pos + 1] & 127
            body = pos + 6
            if length == 126:
                length = data[pos + 2] << 8 | data[pos + 3]
                body = pos + 8
            elif length == 127:
                if end - pos < 14:
                    break
                length = int.from_bytes(data[pos + 2 : pos + 10], "big")
                body = pos + 14
            stop = body + length
            if stop > end:
                break
            kind = data[body + 2] ^ data[body - 2] if length > 2 else 0
            if kind == _U and length > overhead >= 0:
                last = length - 1 - self._suffix
                size = (length - overhead) * 3 // 4
                if data[body + last] ^ data[body - 4 + (last & 3)] == _PAD:
                    last -= 1
                    twice = data[body + last] ^ data[body - 4 + (last & 3)] == _PAD
                    size -= 2 if twice else 1
                # `_heard`, written out: this runs for every frame.
                hot.audio_bytes = audio = hot.audio_bytes + size
                if size == self._frame_bytes and end == stop and not pos and body == 8:
                    hot.usual = 0 if self._is_tls else end
                while audio > hot.next_middle:
                    hot.next_middle += self._frame_bytes
                    self._arrived(at_s)
                    hot.k = k = hot.k + 1
                    if not k % CHECK_EVERY:
                        self._check(_unmask(data, body, stop), size)
            elif kind == _E and length > _RELAYED_MIN_BYTES and self._is_relay:
                if data[body + 10] ^ data[body - 2] == _M:
                    self._heard(wire.FRAME_BYTES, at_s)
            else:
                self._other(data[pos] & 15, _unmask(data, body, stop), at_s)
                overhead = self._overhead
            pos = stop
        if pos < end:
            self._rest = data[pos:]
            self._hot.is_split = True

    def _heard(self, size: int, at_s: float) -> None:
        hot = self._hot
        hot.audio_bytes += size
        while hot.audio_bytes > hot.next_middle:
            hot.next_middle += self._frame_bytes
            self._arrived(at_s)
            hot.k += 1

    def _check(self, message: bytes, size: int) -> None:
        """One whole frame of µ-law has to be what the caller sent at this place."""
        if self._manners.caller_format != "ulaw_8000" or size != wire.FRAME_BYTES:
            return
        expected = wire.payload_64(self._hot.k - 1)
        if json.loads(message).get("user_audio_chunk") != expected:
            self._tally.errors["caller_audio_changed"] += 1

    def _other(self, opcode: int, message: bytes, at_s: float) -> None:
        if opcode == 8:
            self.send(wire.SERVER_CLOSE)
            self.lose("closing handshake")
            return
        if opcode != 1:
            return
        try:
            body = json.loads(message)
        except ValueError:
            self._tally.errors["agent_got_no_json"] += 1
            return
        if "user_audio_chunk" in body:
            self._learn(message, body["user_audio_chunk"], at_s)
        elif self.caller is None:
            self._meet(body)

    def _learn(self, message: bytes, audio: str, at_s: float) -> None:
        prefix = message.index(audio.encode())
        self._overhead = len(message) - len(audio)
        self._suffix = len(message) - prefix - len(audio)
        self._heard(len(audio) * 3 // 4 - audio[-2:].count("="), at_s)

    def _meet(self, body: dict[str, Any]) -> None:
        """The first message: whose agent is this?"""
        variables = body.get("dynamic_variables") or {}
        name = variables.get("twilio_call_sid") or self._path.rpartition("/")[2]
        caller = self._find(str(name))
        if caller is None and "twilio_call_sid" not in variables:
            self._answer_test()
            return
        if caller is None:
            self._tally.errors["agent_of_unknown_call"] += 1
            self.lose("unknown call")
            return
        self.caller = caller
        caller.agent = self
        manners = self._manners
        # Evenly spread, the same ones in each run.
        self._barges = caller.index * 0.618034 % 1.0 < manners.barge_share
        self.send(
            wire.metadata(
                f"conv_{caller.index:06d}", manners.voice.audio_format, manners.caller_format
            )
        )
        self._begin_turn(None)

    def _answer_test(self) -> None:
        """A conversation without a call: the daemon tries the agent before it sends calls to it."""
        manners = self._manners
        voice = manners.voice
        self.send(wire.metadata("conv_test", voice.audio_format, manners.caller_format))
        self.send(voice.chunk(1))

    # ---- what is said --------------------------------------------------------------------------

    def _begin_turn(self, _: object) -> None:
        manners = self._manners
        if manners.is_quiet or not self.is_open:
            return
        self._turn += 1
        self._chunks_left = manners.voice.chunks_per_turn
        self.send(manners.voice.texts(self._event_id + 1) + wire.ping(self._turn))
        self._say((self._turn, now()))
        wait_s = manners.period_s
        if self._turn == 1:
            # Agents that greeted at once shall not speak in step ever after.
            wait_s += random.random() * manners.period_s
        elif self._barges:
            after_s = random.uniform(0.25, 0.75) * manners.voice.turn_ms / 1000
            self._loop.at(now() + after_s, self._interrupt, self._turn)
        self._loop.at(now() + wait_s, self._begin_turn)

    def _say(self, turn_and_due: tuple[int, float]) -> None:
        """The next chunk of a turn, unless it was interrupted."""
        turn, due_s = turn_and_due
        if turn != self._turn or not self._chunks_left or not self.is_open:
            return
        self._chunks_left -= 1
        self._event_id += 1
        self.sent_bytes += self._manners.voice.chunk_bytes
        self.send(self._manners.voice.chunk(self._event_id))
        if self._chunks_left:
            due_s += self._manners.chunk_gap_s
            self._loop.at(due_s, self._say, (turn, due_s))

    def _interrupt(self, turn: int) -> None:
        if turn != self._turn or not self.is_open or self._manners.is_quiet:
            return
        self._chunks_left = 0
        if self.caller is not None:
            self.caller.expect_clear(now())
        self.send(wire.interruption(self._event_id))

    def _lost(self, reason: str) -> None:
        if self.caller is not None:
            self.caller.agent_lost(reason)


def _unmask(data: bytes, body: int, stop: int) -> bytes:
    size = stop - body
    key = (data[body - 4 : body] * (size // 4 + 1))[:size]
    return (int.from_bytes(data[body:stop], "big") ^ int.from_bytes(key, "big")).to_bytes(
        size, "big"
    )
