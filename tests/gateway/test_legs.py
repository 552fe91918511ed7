"""Opening the legs over real sockets: what goes right, and each way to go wrong."""

import contextlib
import dataclasses
import os
import socket
import ssl

import orjson
import pytest
import trio
import trio.testing

from bench.sim_elevenlabs.tls import throwaway_tls
from gateway import legs
from gateway.errors import LegClosed, LegProtocolError, LegRefused, LegTimeout
from gateway.handshake import accept_response, parse_upgrade
from gateway.legs import http_client, upgrade_caller
from gateway.link import CallPlan
from gateway.settings import MediaSettings
from tests.gateway.legs_rig import PLAN, answering, dial, refused, signed

QUICK = MediaSettings(agent_connect_timeout_s=0.3, agent_handshake_timeout_s=0.3)
HEAD = (
    b"GET /media/t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


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
