"""One port for REST and conversation sockets, and the simulator's public face."""

from __future__ import annotations

import json
import ssl
import time
from collections import deque
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import h11
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, wrap_server_stream

from bench.sim_elevenlabs import rest, wire
from bench.sim_elevenlabs.book import Book, Signature
from bench.sim_elevenlabs.conversation import Conversation
from bench.sim_elevenlabs.record import ConversationRecord, Violation
from bench.sim_elevenlabs.scenario import AgentScript

MAX_BODY_BYTES = 4 * 1024 * 1024
KEEP_ALIVE_S = 75.0
REQUEST_DEADLINE_S = 60.0
#: The library's unit is characters of one message; a second of 48 kHz PCM is 128,000.
MAX_CLIENT_MESSAGE = 1024 * 1024
MESSAGE_QUEUE = 16
REQUESTS_KEPT = 10_000
#: How long an upgrade that is never answered is held open.
HANG_S = 300.0


class ElevenLabsSim:
    """A service with these agents. `run` listens; `serve_stream` takes any Trio stream instead.

    With `keep_audio` false only counts and times are kept (load benches). Plain `http`/`ws` on
    loopback unless `ssl_context` is given. `public_origin` (like `http://sim.test`) replaces the
    address in signed URLs.
    """

    def __init__(
        self,
        api_key: str,
        agents: Mapping[str, AgentScript],
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        ssl_context: ssl.SSLContext | None = None,
        keep_audio: bool = True,
        public_origin: str | None = None,
        rest_latency_s: float = 0.0,
    ) -> None:
        self.rest_latency_s = rest_latency_s
        """Before every REST answer. The real service takes 0.3 to 1.5 s for what makes something."""
        self.book = Book(api_key, agents)
        self.requests: deque[rest.Request] = deque(maxlen=REQUESTS_KEPT)
        """The last REST requests."""
        self.base_url = public_origin or ""
        self._host, self._port, self._ssl_context = host, port, ssl_context
        self._keep_audio = keep_audio
        self._public_origin = public_origin

    @property
    def conversations(self) -> dict[str, ConversationRecord]:
        """Every conversation so far by its id, in the order of their beginning."""
        return self.book.conversations

    @property
    def violations(self) -> list[Violation]:
        """Everything that clients did against the documented protocol."""
        return self.book.violations

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; reports `base_url` once connections are accepted."""
        listeners = await trio.open_tcp_listeners(self._port, host=self._host)
        port = listeners[0].socket.getsockname()[1]
        scheme = "https" if self._ssl_context else "http"
        self.base_url = self._public_origin or f"{scheme}://{self._host}:{port}"
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve_connection, listeners)
            task_status.started(self.base_url)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        if self._ssl_context is None:
            await self.serve_stream(stream)
            return
        secure = trio.SSLStream(stream, self._ssl_context, server_side=True, https_compatible=True)
        await self.serve_stream(secure)

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, HTTP or WebSocket, to its end; never raises for a bad client."""
        try:
            head = await wire.read_head(stream)
            if head is None:
                return
            replayed = wire.ReplayedStream(stream, head)
            if wire.wants_upgrade(head):
                await self._serve_socket(replayed)
            else:
                await self._serve_http(replayed)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
            pass
        except* ssl.SSLError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    # -- conversation sockets ---------------------------------------------------------------------

    async def _serve_socket(self, stream: wire.ReplayedStream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(
                nursery,
                stream,
                message_queue_size=MESSAGE_QUEUE,
                max_message_size=MAX_CLIENT_MESSAGE,
            )
            await self._converse(request, stream)
            nursery.cancel_scope.cancel()

    async def _converse(self, request: WebSocketRequest, stream: trio.abc.Stream) -> None:
        url = urlsplit(request.path)
        query = dict(parse_qsl(url.query))
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        agent = self.book.agents.get(query.get("agent_id", ""))
        if url.path != "/v1/convai/conversation" or agent is None:
            await self._refuse(
                request, 404, f"conversation socket refused: {url.path}, no such agent"
            )
            return
        script = agent.effective()
        if script.faults.hang_upgrade:
            await trio.sleep(HANG_S)
            return
        if script.faults.refuse_upgrade is not None:
            await request.reject(script.faults.refuse_upgrade, body=b'{"detail": "refused"}')
            return
        token = query.get("conversation_signature", "")
        signature = self.book.redeem(token, agent.agent_id)
        method = self._authorized(script, signature, headers)
        if method is None:
            await self._refuse(request, 403, f"socket of {agent.agent_id} without a good signature")
            return
        record = ConversationRecord(
            (signature and signature.conversation_id) or self.book.new_conversation_id(),
            agent.agent_id,
            script,
            method,
            trio.current_time(),
            time.time(),
            query,
            headers,
            keep_audio=self._keep_audio,
        )
        self.conversations[record.conversation_id] = record
        socket = await request.accept()
        await Conversation(socket, stream, script, record).run()

    def _authorized(
        self, script: AgentScript, signature: Signature | None, headers: Mapping[str, str]
    ) -> str | None:
        """The `authorization_method` that applies, or None."""
        if signature is not None:
            return "signed_url"
        if headers.get("xi-api-key") == self.book.api_key:
            return "authorization_header"
        return None if script.requires_signature else "public"

    async def _refuse(self, request: WebSocketRequest, status: int, what: str) -> None:
        self.book.other_violations.append(Violation("", trio.current_time(), what))
        await request.reject(status, body=json.dumps(rest.error(status).body).encode())

    # -- REST ---------------------------------------------------------------------------------------

    async def _serve_http(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        while connection.states[h11.SERVER] is h11.IDLE:
            with trio.move_on_after(KEEP_ALIVE_S) as patience:
                request = await self._read_request(connection, stream)
            if patience.cancelled_caught or request is None:
                return
            await self._answer(connection, stream, request)
            if connection.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                connection.start_next_cycle()

    async def _read_request(
        self, connection: h11.Connection, stream: trio.abc.Stream
    ) -> tuple[h11.Request, bytes] | None:
        request, body = None, b""
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError:
                return None
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
                if len(body) > MAX_BODY_BYTES:
                    return None
            elif isinstance(event, h11.EndOfMessage):
                return (request, body) if request is not None else None
            else:  # connection closed
                return None

    async def _answer(
        self, connection: h11.Connection, stream: trio.abc.Stream, got: tuple[h11.Request, bytes]
    ) -> None:
        request = got[0]
        reply = self._reply(*got)
        await trio.sleep(reply.delay_s + self.rest_latency_s)
        asked = f"{request.method.decode()} {urlsplit(request.target.decode('ascii')).path}"
        if self.book.lost_answers[asked] > 0:
            self.book.lost_answers[asked] -= 1
            raise trio.BrokenResourceError("this answer is lost")
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        body = text.encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        head = h11.Response(
            status_code=reply.status, headers=list((headers | dict(reply.headers)).items())
        )
        data = b"".join(
            connection.send(event) or b""
            for event in (head, h11.Data(data=body), h11.EndOfMessage())
        )
        with trio.move_on_after(REQUEST_DEADLINE_S):
            await stream.send_all(data)

    def _reply(self, request: h11.Request, body: bytes) -> rest.Reply:
        url = urlsplit(request.target.decode("ascii"))
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        try:
            parsed = rest.parse_body(body)
        except rest.Refusal as refusal:
            return refusal.reply
        query = dict(parse_qsl(url.query))
        asked = rest.Request(request.method.decode(), url.path, query, headers, parsed)
        self.requests.append(asked)
        socket_url = self.base_url.replace("http", "ws", 1)
        return rest.answer(self.book, socket_url, asked)
