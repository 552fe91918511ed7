"""The listening side of a generator: fake ElevenLabs (REST and agents) and the little of Twilio's REST needed.

Deterministic answers, no state: what the daemon does with a provider's trouble is tested elsewhere, with the
simulators.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.load.callers import NUMBER
from bench.load.http import Request, json_answer, parse_request
from bench.load.loop import READ, READ_WRITE, Loop

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
AGENT_ID = "agent_bench"
NUMBER_SID = "PN" + "c" * 32
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Providers:
    """Answers everything that the target asks of the two providers."""

    def __init__(
        self,
        loop: Loop,
        *,
        audio_format: str,
        tls: ssl.SSLContext | None,
        adopt: Callable[[socket.socket, bytes, str], None],
    ) -> None:
        self._loop = loop
        self._format = audio_format
        self._tls = tls
        self._adopt = adopt
        self.requests = 0
        self.port = self._listen(None)
        self.agent_port = self._listen(tls) if tls else self.port
        scheme, host = ("wss", "localhost") if tls else ("ws", "127.0.0.1")
        self.agent_url = f"{scheme}://{host}:{self.agent_port}"
        self.url = f"http://{host}:{self.port}"

    def _listen(self, tls: ssl.SSLContext | None) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setblocking(False)
        self._loop.add(listener, lambda _: self._accept(listener, tls))
        return int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Connection(self._loop, sock, tls, self.serve, self._adopt)

    def serve(self, request: Request) -> bytes:
        """The answer to a REST request."""
        self.requests += 1
        parts = urlsplit(request.target)
        path = parts.path
        if path.endswith("/conversation/get-signed-url"):
            query = parse_qs(parts.query)
            target = f"/v1/convai/conversation?agent_id={query['agent_id'][0]}"
            return json_answer(200, {"signed_url": f"{self.agent_url}{target}&token=bench"})
        if path.startswith("/v1/convai/agents/"):
            return json_answer(200, self._agent())
        if path.endswith("/IncomingPhoneNumbers.json"):
            page = {"page": 0, "page_size": 50, "next_page_uri": None, "uri": path}
            return json_answer(200, {"incoming_phone_numbers": [_number()], **page})
        if "/IncomingPhoneNumbers/" in path:
            return json_answer(200, _number())
        if "/Calls/" in path:
            sid = path.rpartition("/")[2].removesuffix(".json")
            return json_answer(200, {"sid": sid, "status": "completed", "to": "", "from": ""})
        return json_answer(404, {"detail": {"status": "not_found", "message": path}})

    def _agent(self) -> dict[str, Any]:
        events = ["audio", "interruption", "agent_response", "user_transcript", "ping"]
        return {
            "agent_id": AGENT_ID,
            "name": "bench",
            "conversation_config": {
                "asr": {"user_input_audio_format": self._format},
                "tts": {"agent_output_audio_format": self._format},
                "conversation": {"text_only": False, "client_events": events},
            },
        }


def _number() -> dict[str, Any]:
    return {"sid": NUMBER_SID, "phone_number": NUMBER, "status": "in-use", "voice_url": ""}


class _Connection:
    """One accepted connection until it is upgraded or closed."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        serve: Callable[[Request], bytes],
        adopt: Callable[[socket.socket, bytes, str], None],
    ) -> None:
        self._loop = loop
        self._serve = serve
        self._adopt = adopt
        self._data = b""
        self._is_shaking = tls is not None
        self._sock = (
            tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) if tls else sock
        )
        loop.add(self._sock, self._ready)

    def _ready(self, mask: int) -> None:
        try:
            if self._is_shaking and not self._shake():
                return
            data = self._sock.recv(65536)
        except _NOT_NOW:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.close(self._sock)
            return
        self._data += data
        self._answer()

    def _shake(self) -> bool:
        assert isinstance(self._sock, ssl.SSLSocket)
        try:
            self._sock.do_handshake()
        except ssl.SSLWantWriteError:
            self._loop.change(self._sock, READ_WRITE)
            return False
        except ssl.SSLWantReadError:
            self._loop.change(self._sock, READ)
            return False
        self._is_shaking = False
        return True

    def _answer(self) -> None:
        while (request := parse_request(self._data)) is not None:
            self._data = self._data[request.size :]
            if request.key is None:
                self._sock.send(self._serve(request))
                continue
            accept = base64.b64encode(hashlib.sha1(request.key.encode() + _GUID).digest())
            self._sock.send(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self._adopt(self._sock, self._data, urlsplit(request.target).path)
            return
