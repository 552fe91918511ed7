"""A well-behaved client over memory, to try the simulator itself; under a mock clock it takes no time."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from bench.sim_elevenlabs import speech
from bench.sim_elevenlabs.server import ElevenLabsSim

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
FRAME_MS = 20


@dataclass(slots=True)
class Received:
    """One server message: arrival time, `type` (or "binary", "text"), and the object or raw data."""

    at_s: float
    type: str
    message: Any

    @property
    def body(self) -> dict[str, Any]:
        """What is inside the envelope, whatever the envelope is called."""
        inside = [value for key, value in self.message.items() if key != "type"]
        return dict(inside[0]) if inside else {}


@dataclass
class Probe:
    """Keeps what arrives, answers pings, speaks in real time."""

    socket: WebSocketConnection
    input_format: str
    answer_pings: bool = True
    tool_result: str | None = None
    received: list[Received] = field(default_factory=list)
    _arrived: trio.Condition = field(default_factory=trio.Condition)

    async def read(self) -> None:
        """Read until the socket is closed."""
        try:
            while True:
                await self._take(await self.socket.get_message())
        except ConnectionClosed:
            await self._keep(Received(trio.current_time(), "closed", {}))

    async def _take(self, message: str | bytes) -> None:
        try:
            parsed = json.loads(message)
            kind = parsed["type"]
        except (ValueError, TypeError, KeyError):
            kind, parsed = ("binary" if isinstance(message, bytes) else "text"), message
        got = Received(trio.current_time(), kind, parsed)
        await self._keep(got)
        if kind == "ping" and self.answer_pings:
            await self.send({"type": "pong", "event_id": got.body["event_id"]})
        if kind == "client_tool_call" and self.tool_result is not None:
            result = {"type": "client_tool_result", "tool_call_id": got.body["tool_call_id"]}
            await self.send(result | {"result": self.tool_result, "is_error": False})

    async def _keep(self, got: Received) -> None:
        async with self._arrived:
            self.received.append(got)
            self._arrived.notify_all()

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        """One message; a dict goes out as JSON."""
        raw = json.dumps(message) if isinstance(message, dict) else message
        await self.socket.send_message(raw)

    async def until(self, kind: str, count: int = 1, timeout_s: float = 60.0) -> Received:
        """The `count`-th message of this type, when it has come; trio.TooSlowError if it does not."""
        with trio.fail_after(timeout_s):
            async with self._arrived:
                while len(found := self.all(kind)) < count:
                    await self._arrived.wait()
                return found[count - 1]

    def all(self, kind: str) -> list[Received]:
        """Every message of this type so far, in order."""
        return [got for got in self.received if got.type == kind]

    def audio(self) -> bytes:
        """All agent audio so far, joined."""
        return b"".join(base64.b64decode(got.body["audio_base_64"]) for got in self.all("audio"))

    async def speak(self, pcm16_8k: bytes) -> bytes:
        """Say this in real time, a frame every 20 ms on an absolute grid; returns the bytes sent."""
        audio = speech.encode(pcm16_8k, self.input_format)
        width = 1 if self.input_format == "ulaw_8000" else 2
        rate = speech.bytes_per_second(self.input_format) // width
        size = rate * FRAME_MS // 1000 * width
        begin_s = trio.current_time()
        for number, at in enumerate(range(0, len(audio), size)):
            await trio.sleep_until(begin_s + number * FRAME_MS / 1000)
            chunk = base64.b64encode(audio[at : at + size]).decode("ascii")
            await self.send({"user_audio_chunk": chunk})
        return audio

    async def be_quiet(self, seconds: float) -> bytes:
        """Silence for so long, as audio."""
        return await self.speak(bytes(2 * int(seconds * speech.SOURCE_HZ)))


@asynccontextmanager
async def dialled(
    sim: ElevenLabsSim,
    agent_id: str,
    *,
    initiation: dict[str, Any] | None = None,
    initiate: bool = True,
    query: str = "",
    headers: list[tuple[bytes, bytes]] | None = None,
    answer_pings: bool = True,
    tool_result: str | None = None,
) -> AsyncIterator[Probe]:
    """A conversation with a signature from the simulator's book, closed with 1000 at the end.

    ConnectionRejected is raised as it is when the upgrade is refused.
    """
    near, far = trio.testing.memory_stream_pair()
    token = sim.book.sign(agent_id, None)
    path = query or f"?agent_id={agent_id}&conversation_signature={token}"
    agent = sim.book.agents.get(agent_id)
    input_format = agent.effective().input_format if agent else "ulaw_8000"
    rejected: ConnectionRejected | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sim.serve_stream, far)
            socket = await _upgraded(nursery, near, path, headers)
            probe = Probe(socket, input_format, answer_pings, tool_result)
            nursery.start_soon(probe.read)
            if initiate:
                first = {"type": "conversation_initiation_client_data"} | (initiation or {})
                await probe.send(first)
            yield probe
            with trio.move_on_after(5):
                await socket.aclose(1000, "User ended conversation")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    except* ConnectionRejected as group:
        rejected = _only(group)
    if rejected is not None:
        raise rejected


def _only(group: BaseExceptionGroup[ConnectionRejected]) -> ConnectionRejected:
    """The library raises the refusal in its own task: take it out of the nurseries' groups."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, ConnectionRejected)
    return first


async def _upgraded(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    path: str,
    headers: list[tuple[bytes, bytes]] | None,
) -> WebSocketConnection:
    return await wrap_client_stream(
        nursery,
        stream,  # type: ignore[arg-type]  # any stream does
        "sim.test",
        f"/v1/convai/conversation{path}",
        extra_headers=headers,
        message_queue_size=64,
        max_message_size=MAX_MESSAGE_BYTES,
    )
