"""Virtual Twilio: asks the webhook, opens the stream, speaks all the time, plays what it is sent."""

from __future__ import annotations

import base64
import json
import math
import os
import random
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from bench.load import wire
from bench.load.hot import Times, swift
from bench.load.http import Answer, Exchange
from bench.load.loop import Loop, now
from bench.load.peer import Peer
from bench.load.playout import PlayoutClock
from bench.load.tally import Tally
from bench.sim_twilio.signing import HEADER, signature

if TYPE_CHECKING:
    from bench.load.agents import Agent

GOODBYE_TIMEOUT_S = 5.0
_STREAM_URL = re.compile(rb'<Stream [^>]*url="([^"]+)"')
_PAD = ord("=")
NUMBER = "+15550100100"


@dataclass(slots=True)
class Door:
    """Where calls come in. With an auth token it is the daemon's, else a baseline's bare WebSocket."""

    address: tuple[str, int]
    url: str
    """`http://host:port`, as signatures are made for."""
    account_sid: str = "AC" + "b" * 32
    auth_token: str | None = None


@dataclass(slots=True)
class Callers:
    """What all callers share."""

    loop: Loop
    door: Door
    tally: Tally
    heads: wire.Heads
    turn_bytes: int
    ended: Callable[[Caller], None]
    audio_is_relayed: bool = False
    slots: list[list[Any]] = field(default_factory=lambda: [[] for _ in range(20)])


class Caller:
    """One telephone call, from dialling to its account."""

    def __init__(self, index: int, shared: Callers) -> None:
        self.index = index
        self.shared = shared
        self.call_sid = "CA" + os.urandom(16).hex()
        self.stream: Stream | None = None
        self.agent: Agent | None = None
        self.sent_at = Times()
        self.state = "dialling"
        self.error = ""
        self._dialled_s = 0.0
        self._clear_due_s = math.inf

    # ---- setting up ----------------------------------------------------------------------------

    def dial(self) -> None:
        """Begin; everything else follows by itself."""
        self._dialled_s = now()
        door = self.shared.door
        if door.auth_token is None:
            self._open(f"{door.url}/media/{self.index}")
        else:
            self._post("/twilio/voice", self._form("ringing"), self._answered)

    def _form(self, status: str) -> dict[str, str]:
        return {
            "AccountSid": self.shared.door.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self.call_sid,
            "CallStatus": status,
            "Direction": "inbound",
            "From": f"+1555{self.index:07d}",
            "To": NUMBER,
        }

    def _post(
        self,
        path: str,
        form: dict[str, str],
        done: Callable[[Answer, socket.socket | None], None],
    ) -> None:
        door = self.shared.door
        assert door.auth_token is not None
        body = urlencode(form).encode()
        signed = signature(door.auth_token, door.url + path, form.items())
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {urlsplit(door.url).netloc}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            f"{HEADER}: {signed}\r\nConnection: close\r\n\r\n"
        )
        Exchange(self.shared.loop, door.address, head.encode() + body, done)

    def _answered(self, answer: Answer, sock: socket.socket | None) -> None:
        found = _STREAM_URL.search(answer.body) if answer.status == 200 else None
        if found is None:
            self.fail(f"webhook: {answer.status} {answer.body[:80].decode(errors='replace')}")
            return
        self.shared.tally.webhook_ms.append((now() - self._dialled_s) * 1000)
        self._open(unescape(found[1].decode()))

    def _open(self, url: str) -> None:
        door = self.shared.door
        key = base64.b64encode(os.urandom(16)).decode()
        parts = urlsplit(url)
        head = (
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        )
        if door.auth_token is not None:
            head += f"{HEADER}: {signature(door.auth_token, url)}\r\n"
        Exchange(self.shared.loop, door.address, head.encode() + b"\r\n", self._opened)

    def _opened(self, answer: Answer, sock: socket.socket | None) -> None:
        if sock is None:
            self.fail(f"stream: {answer.status} {answer.body[:80].decode(errors='replace')}")
            return
        self.shared.tally.setup_ms.append((now() - self._dialled_s) * 1000)
        self.state = "talking"
        self.stream = Stream(self, sock, answer.rest)

    # ---- what the agent tells ------------------------------------------------------------------

    def expect_clear(self, at_s: float) -> None:
        """The agent was interrupted: a `clear` is due."""
        self.shared.tally.interruptions += 1
        self._clear_due_s = at_s

    def cleared(self, at_s: float) -> None:
        """It came."""
        tally = self.shared.tally
        if self._clear_due_s < math.inf:
            tally.clears += 1
            if tally.is_open:
                tally.clear_ms.append((at_s - self._clear_due_s) * 1000)
        self._clear_due_s = math.inf

    def agent_lost(self, reason: str) -> None:
        """Unexpected unless the call is over."""
        if self.state == "talking":
            self.fail(f"agent leg: {reason}")

    # ---- the end -------------------------------------------------------------------------------

    def fail(self, error: str) -> None:
        """The call has gone wrong."""
        if self.state in ("failed", "ended"):
            return
        self.state = "failed"
        self.error = error
        self.shared.tally.errors[error] += 1
        if self.stream is not None:
            self.stream.leave()
            self.stream.lose("given up")
        self.shared.ended(self)

    def hang_up(self) -> None:
        """The caller puts the receiver down."""
        if self.state == "talking" and self.stream is not None:
            self.state = "hanging-up"
            self.stream.stop()
            self.shared.loop.at(now() + GOODBYE_TIMEOUT_S, self._patience)

    def _patience(self, _: object) -> None:
        if self.state == "hanging-up":
            self.shared.tally.errors["no closing handshake"] += 1
            self.stream_closed("no closing handshake")

    def stream_closed(self, reason: str) -> None:
        """The stream's socket is gone."""
        if self.state == "talking":
            self.fail(f"caller leg: {reason}")
        elif self.state == "hanging-up":
            self.state = "reporting"
            if self.shared.door.auth_token is None:
                self._over(Answer(204, b""), None)
            else:
                form = self._form("completed") | {"CallDuration": "1"}
                self._post("/twilio/status", form, self._over)

    def _over(self, answer: Answer, sock: socket.socket | None) -> None:
        if answer.status not in (200, 204):
            self.shared.tally.errors[f"status callback: {answer.status}"] += 1
        self.state = "ended"
        self.shared.ended(self)

    def account(self) -> dict[str, Any]:
        """What was said and what was heard on both ends, in bytes; frames in frames."""
        return {
            "frames_sent": len(self.sent_at),
            "agent_heard_bytes": self.agent.audio_bytes if self.agent else 0,
            "agent_said_bytes": self.agent.sent_bytes if self.agent else 0,
            "caller_heard_bytes": self.stream.clock.received_bytes if self.stream else 0,
            "interrupted": self.stream.clears if self.stream else 0,
            "state": self.state,
        }


class Stream(Peer):
    """The media stream of a call."""

    def __init__(self, caller: Caller, sock: socket.socket, rest: bytes) -> None:
        shared = caller.shared
        self._caller = caller
        self._shared = shared
        self._sid = "MZ" + os.urandom(16).hex()
        self._tails = wire.tails(self._sid)
        self._k = 0
        self._hot: Any = None
        self._marks = 0
        self._prefix = b""
        self._note_sent = caller.sent_at.append
        self.clock = PlayoutClock(shared.turn_bytes)
        self.clears = 0
        self._slot = random.choice(shared.slots)
        super().__init__(shared.loop, sock, rest)
        if swift is not None:
            tally = shared.tally
            self._hot = hot = swift.StreamHot(
                self,
                sock.fileno(),
                self._tails,
                caller.sent_at,
                self.clock,
                tally.lead_s,
                tally.lead_at_s,
            )
            shared.loop.hand(sock, hot)
        self._speaker: Any = self if self._hot is None else self._hot
        """Who sends the frames: asked for nothing else, so that no frame needs an attribute of Python's."""
        self._started_s = now()
        door = shared.door
        self.send(wire.CONNECTED + wire.start(self._sid, caller.call_sid, door.account_sid, {}))
        self._slot.append(self._speaker)

    def keep(self, data: bytes) -> None:
        super().keep(data)
        if self._hot is not None:
            self._hot.is_blocked = True

    def _flush(self) -> None:
        super()._flush()
        if self._hot is not None and not self._unsent:
            self._hot.is_blocked = False

    def sent_frames(self) -> int:
        """How many frames the caller has spoken."""
        return self._k if self._hot is None else int(self._hot.k)

    def frame(self, heads: list[tuple[bytes, int]]) -> None:
        """Send the next 20 ms."""
        k = self._k
        self._k = k + 1
        head, phase = heads[k]
        data = head + self._tails[phase]
        self._note_sent(now())
        if self._unsent:
            self.keep(data)
            return
        try:
            sent = self._sock_send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.lose(str(error))
            return
        if sent != len(data):
            self.keep(data[sent:])

    def leave(self) -> None:
        """Say nothing more."""
        if self._speaker in self._slot:
            self._slot.remove(self._speaker)

    def stop(self) -> None:
        """`stop`, and the closing handshake."""
        self.leave()
        caller = self._caller
        account_sid = self._shared.door.account_sid
        self.send(
            wire.stop(self._sid, caller.call_sid, account_sid, self.sent_frames() + 2)
            + wire.CLIENT_CLOSE
        )

    # ---- what is heard -------------------------------------------------------------------------

    def _take(self, data: bytes, at_s: float) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
            self._note_split(False)
        pos, end = 0, len(data)
        prefix = self._prefix
        while end - pos >= 2:
            length = data[pos + 1]
            body = pos + 2
            if length == 126:
                if end - pos < 4:
                    break
                length = data[pos + 2] << 8 | data[pos + 3]
                body = pos + 4
            elif length == 127:
                if end - pos < 10:
                    break
                length = int.from_bytes(data[pos + 2 : pos + 10], "big")
                body = pos + 10
            stop = body + length
            if stop > end:
                break
            if prefix and data.startswith(prefix, body):
                first = body + len(prefix)
                last = data.find(b'"', first, stop)
                size = (last - first) * 3 // 4
                if data[last - 1] == _PAD:
                    size -= 2 if data[last - 2] == _PAD else 1
                self._shared.tally.lead(self.clock.push(size, at_s), at_s)
            else:
                self._other(data[pos] & 15, data[body:stop], at_s)
                prefix = self._prefix
            pos = stop
        if pos < end:
            self._rest = data[pos:]
            self._note_split(True)

    def _note_split(self, is_split: bool) -> None:
        if self._hot is not None:
            self._hot.is_split = is_split

    def _other(self, opcode: int, message: bytes, at_s: float) -> None:
        if opcode == 8:
            if self._caller.state == "talking":
                self.send(wire.CLIENT_CLOSE)
            self.lose("closed with a handshake")
            return
        if opcode != 1:
            return
        try:
            body = json.loads(message)
        except ValueError:
            self._shared.tally.errors["caller_got_no_json"] += 1
            return
        match body.get("event") or body.get("type"):
            case "media":
                self._first_media(message, body["media"]["payload"], at_s)
            case "audio" if self._shared.audio_is_relayed:
                self._first_media(message, body["audio_event"]["audio_base_64"], at_s)
            case "mark":
                due_s = self.clock.mark(body["mark"]["name"], at_s)
                self._loop.at(due_s, self._echo)
            case "clear" | "interruption":
                self.clears += 1
                self.clock.clear(at_s)
                self._caller.cleared(at_s)
                self._echo(None)
            case kind if not self._shared.audio_is_relayed:
                self._shared.tally.errors[f"caller got {kind!r}"] += 1

    def _first_media(self, message: bytes, payload: str, at_s: float) -> None:
        """Learn the envelope: what stands before the audio."""
        if not self._prefix:
            self._shared.tally.first_word_ms.append((at_s - self._started_s) * 1000)
        self._prefix = message[: message.index(payload.encode())]
        if self._hot is not None:
            self._hot.prefix = self._prefix
        size = len(payload) * 3 // 4 - payload[-2:].count("=")
        self._shared.tally.lead(self.clock.push(size, at_s), at_s)

    def _echo(self, _: object) -> None:
        for name in self.clock.due(now()):
            self._marks += 1
            self.send(wire.mark_echo(self._sid, self._marks + self.sent_frames() + 1, name))

    def _lost(self, reason: str) -> None:
        self.leave()
        self._caller.stream_closed(reason)
