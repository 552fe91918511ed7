"""The agent leg is dialled, behind an HTTP client whose network is in memory."""

import ssl

import httpcore
import orjson
import pytest
import trio

from gateway.errors import LegError
from gateway.legs import http_client, open_agent_leg
from gateway.link import CallPlan
from gateway.settings import MediaSettings

PLAN = CallPlan("call_1", "inbound", "http://127.0.0.1:1", "key-secret", "agent_1")
SETTINGS = MediaSettings()


class Memory(httpcore.AsyncNetworkBackend):
    """A network in memory, behind the client as the worker makes it: whoever connects, reaches `reply`.

    `reply`: the bytes of the answer, what makes them of a request's head, or why nobody can connect.
    """

    def __init__(self, reply, delay_s: float = 0.0) -> None:
        self.reply, self.delay_s = reply, delay_s
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.connected.append((host, port))
        if isinstance(self.reply, Exception):
            raise self.reply
        return MemoryStream(self)


class MemoryStream(httpcore.AsyncNetworkStream):
    def __init__(self, network: Memory) -> None:
        self.network = network
        self.head = self.answer = b""

    async def write(self, buffer, timeout=None):
        self.head += buffer

    async def read(self, max_bytes, timeout=None):
        if self.head:
            await trio.sleep(self.network.delay_s)
            reply = self.network.reply
            self.answer = reply(self.head) if callable(reply) else reply
            self.head = b""
        piece, self.answer = self.answer[:max_bytes], self.answer[max_bytes:]
        return piece

    async def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        return self

    async def aclose(self):
        pass

    def get_extra_info(self, info):
        return None


def answering(reply, delay_s: float = 0.0) -> httpcore.AsyncConnectionPool:
    """The worker's HTTP client, its server a function in memory."""
    return http_client(ssl.create_default_context(), Memory(reply, delay_s))


def answer(status: int, body: bytes = b"", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def signed(url: str) -> bytes:
    """The answer that names this URL."""
    return answer(200, orjson.dumps({"signed_url": url}))


async def dial(http, *, plan=PLAN, settings=SETTINGS, tls=None, notes=None):
    notes = [] if notes is None else notes
    async with http:
        leg = await open_agent_leg(
            plan, settings, http, tls or ssl.create_default_context(), notes.append
        )
    return leg


async def refused(error: type[LegError], http, **options) -> LegError:
    """The dial fails, with this error, and says nothing of the key."""
    with pytest.raises(error) as caught:
        await dial(http, **options)
    assert caught.value.leg == "agent"
    assert "key-secret" not in str(caught.value)
    return caught.value
