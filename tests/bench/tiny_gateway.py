"""The smallest server that can play the gateway: Quart-Trio for webhooks, trio-websocket for media.

Both ends run in one process over memory streams, so that whole calls pass under a mock clock.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import trio
import trio.testing
from quart import Response, request
from quart_trio import QuartTrio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    wrap_server_stream,
)
from twilio.request_validator import RequestValidator

from bench.sim_twilio import Delivery, StreamOptions, TwilioSim
from bench.sim_twilio.sound import encode_ulaw

ACCOUNT = "AC" + "0" * 31 + "a"
TOKEN = "0123456789abcdef0123456789abcdef"
OURS = "+14155550199"
CALLER = "+14155550100"
GATEWAY = "http://gw.test"


def tone(ms: int, hz: int = 440) -> bytes:
    """µ-law of a sine at about -10 dBFS."""
    at = np.arange(8 * ms) / 8000
    return encode_ulaw((np.sin(2 * np.pi * hz * at) * 10_000).astype(np.int16))


class Body(httpx.AsyncByteStream):
    """A request body that is no async generator, which ASGITransport would leave unfinished."""

    def __init__(self, data: bytes) -> None:
        self._chunks = [data]

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()


class AppTransport(httpx.ASGITransport):
    """Webhooks reach the app without a socket."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.stream = Body(await request.aread())
        return await super().handle_async_request(request)


class Session:
    """The server's end of one media stream."""

    def __init__(self, socket: WebSocketConnection, headers: dict[str, str]) -> None:
        self.socket = socket
        self.headers = headers
        self.messages: list[dict[str, Any]] = []
        self.closed: tuple[int, str | None] | None = None
        self.sid = ""

    async def receive(self) -> dict[str, Any]:
        """The next message. Raises: ConnectionClosed."""
        message = json.loads(await self.socket.get_message())
        self.messages.append(message)
        self.sid = message.get("streamSid", self.sid)
        return message

    async def until(self, event: str) -> dict[str, Any]:
        """The next message of that event."""
        while (message := await self.receive())["event"] != event:
            pass
        return message

    async def drain(self) -> None:
        """Read until the socket is closed."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed as closed:
            self.closed = (closed.reason.code, closed.reason.reason)

    def named(self, event: str) -> list[dict[str, Any]]:
        """What was received of that event."""
        return [message for message in self.messages if message["event"] == event]

    async def play(self, ulaw: bytes) -> None:
        """Send audio in one message, all at once."""
        payload = base64.b64encode(ulaw).decode()
        await self.say({"event": "media", "streamSid": self.sid, "media": {"payload": payload}})

    async def mark(self, name: str) -> None:
        """Send a mark."""
        await self.say({"event": "mark", "streamSid": self.sid, "mark": {"name": name}})

    async def clear(self) -> None:
        """Send a clear."""
        await self.say({"event": "clear", "streamSid": self.sid})

    async def say(self, message: dict[str, Any]) -> None:
        """Send any message."""
        await self.socket.send_message(json.dumps(message))


Converse = Callable[[Session], Awaitable[None]]


class TinyGateway:
    """Answers every voice webhook with `twiml[path]`, and every stream with `converse`."""

    def __init__(self, converse: Converse | None = None) -> None:
        self.converse = converse or Session.drain
        self.twiml: dict[str, str] = {}
        self.status: dict[str, int] = {}
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.signatures_bad = 0
        self.idempotency_tokens: list[str] = []
        self.sessions: list[Session] = []
        self.refuse_media_with: int | None = None
        self.nursery: trio.Nursery | None = None
        self.app = QuartTrio(__name__)
        self.app.add_url_rule("/<path:path>", view_func=self._hook, methods=["POST", "GET"])

    async def _hook(self, path: str) -> Response:
        form = dict((await request.form).items(multi=True))
        url = GATEWAY + request.full_path.rstrip("?")
        given = request.headers.get("X-Twilio-Signature", "")
        if not RequestValidator(TOKEN).validate(url, form, given):
            self.signatures_bad += 1
        self.idempotency_tokens.append(request.headers["I-Twilio-Idempotency-Token"])
        self.forms.append(("/" + path, form))
        body = self.twiml.get("/" + path, "")
        return Response(body, self.status.get("/" + path, 200), content_type="text/xml")

    def posted(self, path: str) -> list[dict[str, str]]:
        """The forms that arrived at `path`."""
        return [form for found, form in self.forms if found == path]

    async def open_stream(self, host: str, port: int) -> trio.abc.Stream:
        """What the simulator connects to instead of a host."""
        assert self.nursery is not None
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._serve_media, ours)
        return theirs

    async def _serve_media(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            upgrade: WebSocketRequest = await wrap_server_stream(nursery, stream)
            headers = {name.decode(): value.decode() for name, value in upgrade.headers}
            signed = RequestValidator(TOKEN).compute_signature("ws://gw.test" + upgrade.path, {})
            if headers.get("x-twilio-signature") != signed:
                self.signatures_bad += 1
            if self.refuse_media_with is not None:
                await upgrade.reject(self.refuse_media_with, body=b"no")
                await stream.aclose()
                return
            session = Session(await upgrade.accept(), headers)
            self.sessions.append(session)
            try:
                await self.converse(session)
                await session.socket.aclose()
            except ConnectionClosed as closed:
                session.closed = (closed.reason.code, closed.reason.reason)
            nursery.cancel_scope.cancel()

    def sim(self, **options: Any) -> TwilioSim:
        """A simulator whose webhooks and streams reach this gateway through memory."""
        stream_options = StreamOptions(
            open_stream=self.open_stream, **options.pop("stream_options", {})
        )
        sim = TwilioSim(
            ACCOUNT,
            TOKEN,
            [OURS],
            webhook_transport=AppTransport(app=self.app),
            stream_options=stream_options,
            delivery=options.pop("delivery", Delivery()),
            **options,
        )
        sim.numbers[OURS].voice_url = GATEWAY + "/twilio/voice?tenant=acme"
        sim.numbers[OURS].status_callback = GATEWAY + "/twilio/status"
        return sim

    @asynccontextmanager
    async def running(self, sim: TwilioSim):
        """Both running."""
        with trio.fail_after(600):
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                await nursery.start(sim.run)
                yield sim
                nursery.cancel_scope.cancel()


def connect(
    path: str = "/media/abc", after: str = "", attributes: str = "", inner: str = ""
) -> str:
    """TwiML that connects a stream."""
    return (
        f'<Response><Connect><Stream url="ws://gw.test{path}" name="call_1" {attributes}'
        f' statusCallback="{GATEWAY}/twilio/stream">{inner}</Stream></Connect>{after}</Response>'
    )
