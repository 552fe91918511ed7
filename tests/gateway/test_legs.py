"""Opening the legs: what goes right, each way to go wrong, and every deadline just before and just after."""

import contextlib
import dataclasses
import os
import socket
import ssl

import httpcore
import orjson
import pytest
import trio
import trio.testing

from bench.sim_elevenlabs.tls import throwaway_tls
from gateway import legs
from gateway.errors import LegClosed, LegError, LegProtocolError, LegRefused, LegTimeout
from gateway.handshake import accept_response, parse_upgrade
from gateway.legs import http_client, open_agent_leg, upgrade_caller
from gateway.link import CallPlan
from gateway.settings import MediaSettings

PLAN = CallPlan("call_1", "inbound", "http://127.0.0.1:1", "key-secret", "agent_1")
SETTINGS = MediaSettings()
QUICK = MediaSettings(agent_connect_timeout_s=0.3, agent_handshake_timeout_s=0.3)
HEAD = (
    b"GET /media/t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


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
    return answer(200, orjson.dumps({"signed_url": url}))


async def dial(http, *, plan=PLAN, settings=SETTINGS, tls=None, notes=None):
    notes = [] if notes is None else notes
    async with http:
        leg = await open_agent_leg(
            plan, settings, http, tls or ssl.create_default_context(), notes.append
        )
    return leg


async def refused(error: type[LegError], http, **options) -> LegError:
    with pytest.raises(error) as caught:
        await dial(http, **options)
    assert caught.value.leg == "agent"
    assert "key-secret" not in str(caught.value)
    return caught.value


# ---- the signed URL ------------------------------------------------------------------------------


async def test_signed_url_is_asked_for_with_the_key_of_the_plan():
    """The agent is named in the query, whatever is in its name; the key goes in its header."""
    heads = []

    def reply(head):
        heads.append(head.decode().split("\r\n"))
        return signed("http://127.0.0.1:1/")

    plan = dataclasses.replace(PLAN, elevenlabs_agent_id="agent 1&x=ä")
    await refused(LegProtocolError, answering(reply), plan=plan)
    ((first, *headers),) = heads
    path = "/v1/convai/conversation/get-signed-url?agent_id=agent+1%26x%3D%C3%A4"
    assert first == f"GET {path} HTTP/1.1"
    assert {"host: 127.0.0.1:1", "xi-api-key: key-secret", "accept-encoding: identity"} <= {
        header.replace("Host:", "host:") for header in headers
    }


@pytest.mark.parametrize(
    ("base", "host", "connected"),
    [
        ("https://api.elevenlabs.io", "api.elevenlabs.io", ("api.elevenlabs.io", 443)),
        ("https://api.elevenlabs.io/", "api.elevenlabs.io", ("api.elevenlabs.io", 443)),
        ("http://[::1]:8080", "[::1]:8080", ("::1", 8080)),
    ],
)
async def test_signed_url_is_asked_for_where_the_plan_says(base, host, connected):
    """The configured host, its port, and both in the header that names them."""
    heads = []

    def reply(head):
        heads.append(head)
        return signed("http://127.0.0.1:1/")

    network = Memory(reply)
    plan = dataclasses.replace(PLAN, elevenlabs_base_url=base)
    http = http_client(ssl.create_default_context(), network)
    await refused(LegProtocolError, http, plan=plan)
    assert network.connected == [connected]
    assert f"\r\nhost: {host}\r\n".encode() in heads[0]


async def test_connection_for_signed_urls_is_kept_for_the_next_call():
    """After an answer that was read to its end."""
    network = Memory(answer(200, b"{}"))
    http = http_client(ssl.create_default_context(), network)
    async with http:
        for _ in range(3):
            with pytest.raises(LegProtocolError):
                await open_agent_leg(
                    PLAN, SETTINGS, http, ssl.create_default_context(), lambda _: None
                )
    assert len(network.connected) == 1


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (answer(401), LegRefused, "refused (401)"),
        (answer(502, b"<html>" * 100_000), LegRefused, "refused (502)"),
        (answer(307, more="location: http://evil/\r\n"), LegRefused, "(307)"),
        (answer(200, b"nonsense"), LegProtocolError, "no JSON object"),
        (answer(200, b"[]"), LegProtocolError, "no JSON object"),
        (answer(200, b"{}"), LegProtocolError, "no signed_url"),
        (answer(200, b" " * 100_000), LegProtocolError, "too large"),
        (
            answer(200, b"not asked for", "content-encoding: gzip\r\n"),
            LegProtocolError,
            "no JSON object",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            LegProtocolError,
            "no signed_url",
        ),
        (answer(200, b"{}")[:-1], LegClosed, "RemoteProtocolError"),
        (b"", LegClosed, "RemoteProtocolError"),
        (b"nonsense\r\n\r\n", LegClosed, "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, LegClosed, "RemoteProtocolError"),
        (httpcore.ConnectError("no"), LegClosed, "ConnectError"),
        (httpcore.ReadError("no"), LegClosed, "ReadError"),
        (httpcore.ConnectTimeout("no"), LegClosed, "ConnectTimeout"),
    ],
    ids=[
        "status",
        "status_with_a_large_page",
        "redirect",
        "no_json",
        "no_object",
        "no_url",
        "too_large",
        "compressed",
        "chunked",
        "cut_short",
        "closed",
        "no_http",
        "endless_head",
        "no_connection",
        "connection_lost",
        "no_connection_in_time",
    ],
)
async def test_signed_url_that_is_not_given_has_its_reason(reply, error, words):
    """Each failure has its class and its words."""
    assert words in str(await refused(error, answering(reply)))


@pytest.mark.parametrize(
    ("base", "url", "words"),
    [
        ("https://api.elevenlabs.io", "wss://evil.example/x", "foreign host: evil.example"),
        ("https://api.elevenlabs.io", "wss://api.elevenlabs.io@evil.example/", "foreign host"),
        ("https://api.elevenlabs.io", "wss://evilelevenlabs.io/", "foreign host"),
        ("https://api.elevenlabs.io", "ws://api.elevenlabs.io/x", "not be encrypted"),
        ("http://127.0.0.1:1", "ws://api.elevenlabs.io/x", "foreign host"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1/x", "no WebSocket address"),
        ("http://127.0.0.1:1", "ws://127.0.0.1:99999/", "no WebSocket address"),
        ("http://127.0.0.1:1", "ws://[::1/", "no WebSocket address"),
        ("http://127.0.0.1:1", "ws://127.0.0.1:1/\r\nX: y", "no WebSocket address"),
        ("http://127.0.0.1:1", "ws://127.0.0.1:1/\u00e9", "no WebSocket address"),
        ("http://127.0.0.1:1", "", "no WebSocket address"),
    ],
)
async def test_signed_url_that_leads_elsewhere_is_refused(base, url, words):
    """We connect to ElevenLabs or to the configured host, encrypted where the API is, or not at all."""
    plan = dataclasses.replace(PLAN, elevenlabs_base_url=base)
    error = await refused(LegProtocolError, answering(signed(url)), plan=plan)
    assert words in str(error)


async def test_residency_hosts_of_elevenlabs_are_allowed():
    """A signed URL may name another host of theirs; only its name has to be looked up then."""
    plan = dataclasses.replace(PLAN, elevenlabs_base_url="https://api.elevenlabs.io")
    resolver = NoNames()
    trio.socket.set_custom_hostname_resolver(resolver)
    error = await refused(
        LegClosed, answering(signed("wss://api.eu.residency.elevenlabs.io/x")), plan=plan
    )
    assert "TCP connect" in str(error)
    assert resolver.asked == [("api.eu.residency.elevenlabs.io", 443)]


class NoNames(trio.abc.HostnameResolver):
    def __init__(self) -> None:
        self.asked: list[tuple] = []

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        self.asked.append((host.decode() if isinstance(host, bytes) else host, port))
        raise socket.gaierror("no such name")

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


async def test_host_name_that_cannot_be_one_is_a_failed_connect():
    """A label of seventy characters is no bug of ours."""
    plan = dataclasses.replace(PLAN, elevenlabs_base_url="https://api.elevenlabs.io")
    url = f"wss://{'a' * 70}.elevenlabs.io/"
    assert "TCP connect" in str(await refused(LegClosed, answering(signed(url)), plan=plan))


# ---- deadlines -----------------------------------------------------------------------------------


async def test_signed_url_just_in_time_is_taken(autojump_clock):
    """Just before the deadline: the next step fails, not this one."""
    delay_s = SETTINGS.agent_handshake_timeout_s - 0.01
    await refused(LegProtocolError, answering(signed("http://x/"), delay_s))


async def test_signed_url_too_late_is_a_timeout(autojump_clock):
    """Just after the deadline."""
    started_s = trio.current_time()
    delay_s = SETTINGS.agent_handshake_timeout_s + 0.01
    error = await refused(LegTimeout, answering(signed("ws://127.0.0.1:1/"), delay_s))
    assert "signed URL took longer than 5 s" in str(error)
    assert trio.current_time() - started_s == pytest.approx(SETTINGS.agent_handshake_timeout_s)


@pytest.mark.parametrize(("extra_s", "error"), [(-0.01, LegClosed), (0.01, LegTimeout)])
async def test_connect_deadline(autojump_clock, monkeypatch, extra_s, error):
    """A connect that takes a moment less is its own failure, a moment more is a timeout."""

    async def slow(host, port):
        await trio.sleep(SETTINGS.agent_connect_timeout_s + extra_s)
        raise OSError("unreachable")

    monkeypatch.setattr(trio, "open_tcp_stream", slow)
    caught = await refused(error, answering(signed("ws://127.0.0.1:1/")))
    assert "TCP connect" in str(caught)


# ---- real sockets --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(handler, tls: ssl.SSLContext | None = None):
    """A server for one kind of answer; yields its port."""

    async def serve(stream):
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            if tls is not None:
                stream = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            async with stream:
                await handler(stream)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            yield listener.socket.getsockname()[1]
            nursery.cancel_scope.cancel()
        await listener.aclose()


async def read_head(stream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some()
    return head


def local(port: int, scheme: str = "http") -> CallPlan:
    return dataclasses.replace(PLAN, elevenlabs_base_url=f"{scheme}://localhost:{port}")


async def welcome(stream) -> None:
    """Accept; the first message comes in the same segment as the answer."""
    head = await read_head(stream)
    request = parse_upgrade(head)
    await stream.send_all(accept_response(request) + b"early words")
    await stream.send_all(b"+" + await stream.receive_some())


async def exchange(leg: legs.OpenLeg) -> bytes:
    """Say something and read until it has come back."""
    data = leg.rest
    with leg.sock as sock:
        sock.send(b"hello")
        while not data.endswith(b"hello"):
            await trio.lowlevel.wait_readable(sock)
            with contextlib.suppress(ssl.SSLWantReadError, BlockingIOError):
                piece = sock.recv(4096)
                assert piece
                data += piece
    return data


async def test_plain_agent_leg_opens_with_what_came_behind_the_answer():
    """The notes tell the three steps; the socket does not block and sends at once."""
    notes = []
    async with serving(welcome) as port:
        url = f"ws://localhost:{port}/v1/convai/conversation?agent_id=agent_1"
        leg = await dial(answering(signed(url)), plan=local(port), notes=notes)
        assert leg.sock.getblocking() is False
        assert leg.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert await exchange(leg) == b"early words+hello"
    assert notes == ["agent_signed_url", "agent_socket_open"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A server's TLS context, and a client's that trusts it."""
    server, certificate = throwaway_tls(tmp_path_factory.mktemp("tls"))
    return server, ssl.create_default_context(cafile=os.fspath(certificate))


async def test_tls_agent_leg_opens_and_carries_bytes(authority):
    """With a throw-away authority that the client trusts."""
    server, client = authority
    async with serving(welcome, server) as port:
        url = f"wss://localhost:{port}/x"
        leg = await dial(answering(signed(url)), plan=local(port, "https"), tls=client)
        assert isinstance(leg.sock, ssl.SSLSocket)
        assert leg.sock.getblocking() is False
        assert await exchange(leg) == b"early words+hello"


async def test_tls_agent_of_an_unknown_authority_is_refused(authority):
    """The certificate is verified."""
    async with serving(welcome, authority[0]) as port:
        url = f"wss://localhost:{port}/x"
        error = await refused(LegProtocolError, answering(signed(url)), plan=local(port, "https"))
    assert "TLS" in str(error)
    assert "certificate verify failed" in str(error)


async def test_tls_agent_with_another_name_is_refused(authority, monkeypatch):
    """So is the name in it: a certificate for localhost is none for ElevenLabs."""
    server, client = authority
    async with serving(welcome, server) as port:

        async def connect(host, _port):
            return await open_tcp("127.0.0.1", port)

        open_tcp = trio.open_tcp_stream
        monkeypatch.setattr(trio, "open_tcp_stream", connect)
        plan = dataclasses.replace(PLAN, elevenlabs_base_url="https://api.elevenlabs.io")
        http = answering(signed("wss://api.elevenlabs.io/x"))
        error = await refused(LegProtocolError, http, plan=plan, tls=client)
    assert "certificate verify failed" in str(error)


async def silence(stream) -> None:
    await trio.sleep_forever()


async def test_silent_server_fails_the_tls_handshake_by_its_deadline():
    """Connected, and then nothing."""
    async with serving(silence) as port:
        url = f"wss://localhost:{port}/x"
        http = answering(signed(url))
        error = await refused(LegTimeout, http, plan=local(port, "https"), settings=QUICK)
    assert "TLS handshake took longer" in str(error)


async def test_silent_server_fails_the_upgrade_by_its_deadline():
    """The request is read and never answered; no descriptor is left behind."""
    async with serving(silence) as port:
        before = len(os.listdir("/proc/self/fd"))
        http = answering(signed(f"ws://localhost:{port}/x"))
        error = await refused(LegTimeout, http, plan=local(port), settings=QUICK)
        await trio.testing.wait_all_tasks_blocked()
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # the server's end of it
    assert "WebSocket upgrade took longer" in str(error)


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", LegRefused, 429),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", LegRefused, None),
        (b"nonsense\r\n\r\n", LegRefused, None),
        (b"", LegRefused, None),
    ],
    ids=["status", "no_accept", "no_http", "nothing"],
)
async def test_upgrade_that_is_not_granted_is_refused(answer, error, code):
    """The status is in the error when there was one."""

    async def reply(stream):
        await read_head(stream)
        await stream.send_all(answer)

    async with serving(reply) as port:
        http = answering(signed(f"ws://localhost:{port}/x"))
        caught = await refused(error, http, plan=local(port))
    assert "WebSocket upgrade" in str(caught)
    if code is not None:
        assert caught.code == code


async def test_nobody_listening_is_a_failed_connect():
    """The port is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    http = answering(signed(f"ws://127.0.0.1:{port}/x"))
    plan = dataclasses.replace(PLAN, elevenlabs_base_url=f"http://127.0.0.1:{port}")
    assert "TCP connect" in str(await refused(LegClosed, http, plan=plan))


async def test_dial_that_is_cancelled_leaves_no_socket():
    """The caller hung up while the agent was being dialled."""
    async with serving(silence) as port:
        notes = []
        http = answering(signed(f"ws://localhost:{port}/x"))
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await dial(http, plan=local(port), notes=notes)

            nursery.start_soon(run)
            while "agent_socket_open" not in notes:
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
    assert (
        notes[-1] == "agent_socket_open"
    )  # an open socket would be a ResourceWarning: an error here


async def test_real_http_client_reads_a_signed_url(authority):
    """The client as the worker makes it: over TLS, and with an answer that it need not unpack."""
    server, client = authority

    async def reply(stream):
        assert b"accept-encoding: identity\r\n" in (await read_head(stream)).lower()
        body = orjson.dumps({"signed_url": "wss://evil.example/"})
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)

    async with serving(reply, server) as port:
        error = await refused(LegProtocolError, http_client(client), plan=local(port, "https"))
    assert "foreign host: evil.example" in str(error)


# ---- the caller leg ------------------------------------------------------------------------------


@pytest.fixture
def tcp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


def test_caller_upgrade_is_answered_and_hands_on_what_came_behind(tcp):
    """RFC 6455's own example key; the socket does not block afterwards."""
    ours, theirs = tcp
    leg = upgrade_caller(ours, HEAD + b"frames")
    answer = theirs.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert (leg.rest, ours.getblocking()) == (b"frames", False)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD[:-4], 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (HEAD.replace(b"Version: 13", b"Version: 7"), 426),
    ],
    ids=["incomplete", "no_get", "other_version"],
)
def test_caller_that_asks_wrongly_is_refused_in_http(tcp, head, status):
    """The refusal is on the wire and in the error."""
    ours, theirs = tcp
    with pytest.raises(LegRefused) as caught:
        upgrade_caller(ours, head)
    assert (caught.value.leg, caught.value.code) == ("caller", status)
    assert theirs.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


def test_caller_that_is_no_tcp_connection_any_more_is_a_leg_that_closed(tcp):
    """Whatever the socket is by now, it costs this call and not the worker."""
    ours, _ = tcp
    ours.close()
    with pytest.raises(LegClosed) as caught:
        upgrade_caller(ours, HEAD)
    assert caught.value.blame == "twilio"
