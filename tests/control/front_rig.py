"""A public port that listens, with a door behind it that notes who comes."""

from __future__ import annotations

import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from quart import request
from quart_trio import QuartTrio

from control.front import Front
from control.metrics import Metrics
from control.tickets import TicketRefused
from control.twilio import signature
from control.workers import WorkerGone

MEDIA_URL = "wss://gw.example.com"
TOKEN = "token"


@dataclass
class FakeDoor:
    """Admits the ticket `good`."""

    joined: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    arrived: trio.Event = field(default_factory=trio.Event)
    is_gone: bool = False
    calls: tuple[str, ...] = ("call_1",)

    def is_about_ours(self, *, ticket="", call_id="", path=""):
        return ticket == "good" or call_id in self.calls

    def admit_stream(self, ticket):
        self.asked.append(ticket)
        if ticket != "good":
            raise TicketRefused(ticket if ticket in ("used", "expired") else "unknown")
        return "call_1"

    async def join_stream(self, call_id, sock, head):
        if self.is_gone:
            sock.close()
            raise WorkerGone(call_id)
        self.joined.append((call_id, sock, head))
        self.arrived.set()


@dataclass
class Rig:
    port: int
    door: FakeDoor
    metrics: Metrics
    front: Front

    async def connect(self):
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, data, *, end=False):
        """Send, and read until the server closes."""
        async with await self.connect() as stream:
            await stream.send_all(data)
            if end:
                await stream.send_eof()
            return await read_all(stream)

    def count(self, path, outcome):
        return self.metrics.webhooks.labels(path, outcome)._value.get()


async def read_all(stream):
    """Until the other side closes."""
    answer = b""
    with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError):
        while data := await stream.receive_some(65536):
            answer += data
    return answer


def echoing():
    """`/echo` answers with what it was sent, `/slow` with `done`, after 0.3 s."""
    app = QuartTrio("test", static_folder=None)

    @app.post("/echo")
    async def echo():
        return await request.get_data()

    @app.post("/slow")
    async def slow():
        await trio.sleep(0.3)
        return b"done"

    return app


@asynccontextmanager
async def open_front(app=None, **options):
    """`app` answers what is no stream; without one, `echoing` does."""
    door, metrics = FakeDoor(), Metrics()
    server = Front(
        app or echoing(), door, media_url=MEDIA_URL, tokens=(TOKEN,), metrics=metrics, **options
    )
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [listener])
            yield Rig(port, door, metrics, server)
            nursery.cancel_scope.cancel()


def upgrade(target="/media/good", *, signed=None, drop=(), extra=b""):
    """Twilio's request for a stream."""
    given = signature.sign(MEDIA_URL + target, None, TOKEN) if signed is None else signed
    headers = {
        "host": "whatever.example",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "x-twilio-signature": given,
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if name not in drop]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode() + extra


POST = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
