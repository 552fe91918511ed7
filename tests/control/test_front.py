"""The public port over real sockets: sorting, refusals, the hand-over, and the HTTP behind it."""

from __future__ import annotations

import select
import socket

import pytest
import trio
import trio.testing

from control import front
from control.twilio import signature
from tests.control.front_rig import MEDIA_URL, POST, TOKEN, open_front, upgrade


async def test_media_good_ticket_is_handed_over_with_its_head():
    """The worker gets the socket itself and every byte read so far; we keep nothing of it."""
    async with open_front() as rig:
        async with await rig.connect() as stream:
            await stream.send_all(upgrade(extra=b"\x81early"))
            await rig.door.arrived.wait()
            ((call_id, sock, head),) = rig.door.joined
            assert call_id == "call_1"
            assert head == upgrade(extra=b"\x81early")
            await trio.testing.wait_all_tasks_blocked()
            assert rig.front.connections == 0
            sock.send(b"from the worker")
            assert await stream.receive_some(100) == b"from the worker"
            await stream.send_all(b"to the worker")
            ours = trio.socket.from_stdlib_socket(sock)
            assert await ours.recv(100) == b"to the worker"
            ours.close()
        assert rig.count("/media", "admitted") == 1


async def test_media_head_in_single_bytes_is_handed_over():
    """However the head is cut, also within the first eleven bytes."""
    async with open_front() as rig:
        async with await rig.connect() as stream:
            for byte in upgrade():
                await stream.send_all(bytes([byte]))
                await trio.lowlevel.checkpoint()
            await rig.door.arrived.wait()
            assert rig.door.joined[0][2] == upgrade()
            rig.door.joined[0][1].close()


@pytest.mark.parametrize("signed_as", ["/media/good/", "/media/good"])
@pytest.mark.parametrize("target", ["/media/good/", "/media/good"])
async def test_media_either_slash_is_accepted(signed_as, target):
    """Twilio signs with or without a slash."""
    given = signature.sign(MEDIA_URL + signed_as, None, TOKEN)
    async with open_front() as rig:
        async with await rig.connect() as stream:
            await stream.send_all(upgrade(target, signed=given))
            await rig.door.arrived.wait()
            rig.door.joined[0][1].close()
    assert rig.door.asked == ["good"]


async def test_media_port_signed_is_accepted():
    """Either port form."""
    given = signature.sign("wss://gw.example.com:443/media/good", None, TOKEN)
    async with open_front() as rig:
        async with await rig.connect() as stream:
            await stream.send_all(upgrade(signed=given))
            await rig.door.arrived.wait()
            rig.door.joined[0][1].close()


@pytest.mark.parametrize(
    ("data", "status", "asked"),
    [
        pytest.param(upgrade(signed="wrong"), 403, [], id="bad signature"),
        pytest.param(upgrade(drop=("x-twilio-signature",)), 403, [], id="no signature"),
        pytest.param(upgrade("/media/guess"), 404, ["guess"], id="unknown"),
        pytest.param(upgrade("/media/used"), 410, ["used"], id="used"),
        pytest.param(upgrade("/media/expired"), 410, ["expired"], id="expired"),
        pytest.param(upgrade("/media/"), 404, [""], id="empty"),
        pytest.param(upgrade("/media/good/more"), 404, ["good/more"], id="longer path"),
        pytest.param(upgrade(drop=("upgrade",)), 426, [], id="no upgrade"),
        pytest.param(upgrade(drop=("sec-websocket-key",)), 426, [], id="no key"),
        pytest.param(b"GET /media/x y z\r\n\r\n", 400, [], id="malformed"),
        pytest.param(b"GET /media/x HTTP/1.1\r\n" + b"a: b\r\n" * 6000, 431, [], id="huge head"),
    ],
)
async def test_media_refusals_are_plain_and_close(data, status, asked):
    """The status, no body, and the connection ends; nothing reached a worker."""
    async with open_front() as rig:
        answer = await rig.ask(data)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert answer.endswith(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        assert rig.door.asked == asked
        assert rig.door.joined == []
        assert rig.count("/media", str(status)) == 1


async def test_media_bad_signature_does_not_spend_the_ticket():
    """Somebody who guessed a ticket cannot use it up."""
    async with open_front() as rig:
        await rig.ask(upgrade(signed="wrong"))
        async with await rig.connect() as stream:
            await stream.send_all(upgrade())
            await rig.door.arrived.wait()
            rig.door.joined[0][1].close()
        assert rig.metrics.signature_failures._value.get() == 1


async def test_media_worker_gone_closes():
    """The worker died in between: Twilio goes on with its verbs."""
    async with open_front() as rig:
        rig.door.is_gone = True
        assert await rig.ask(upgrade()) == b""
        assert rig.count("/media", "worker_gone") == 1


async def test_media_head_never_ends_is_cut(monkeypatch):
    """A deadline on the head."""
    monkeypatch.setattr(front, "HEAD_DEADLINE_S", 0.1)
    async with open_front() as rig:
        answer = await rig.ask(b"GET /media/good HTTP/1.1\r\nhost:")
        assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("data", [b"", b"GET /med"], ids=["nothing", "a beginning"])
async def test_slow_beginning_is_cut(monkeypatch, data):
    """Whoever does not even send eleven bytes is closed without an answer."""
    monkeypatch.setattr(front, "HEAD_DEADLINE_S", 0.1)
    async with open_front() as rig:
        assert await rig.ask(data) == b""


async def test_short_request_that_ends_goes_to_http():
    """Fewer than eleven bytes and no more to come: HTTP says what is wrong with them."""
    async with open_front() as rig:
        assert (await rig.ask(b"G\r\n\r\n", end=True)).startswith(b"HTTP/1.1 400")


async def test_http_is_served_for_one_request_a_connection():
    """One request a connection: a media upgrade behind a webhook could not be sorted any more."""
    async with open_front() as rig:
        async with await rig.connect() as stream:
            await stream.send_all(POST)
            answer = b""
            while not answer.endswith(b"hello"):
                answer += await stream.receive_some(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()


async def test_http_in_single_bytes_is_served():
    """The beginning of another path is not mistaken for a media stream."""
    async with open_front() as rig:
        async with await rig.connect() as stream:
            for byte in POST:
                await stream.send_all(bytes([byte]))
            answer = b""
            while not answer.endswith(b"hello"):
                answer += await stream.receive_some(4096)


def test_lowat_is_honoured_by_this_kernel():
    """What `_peek` relies on: a socket with fewer bytes than SO_RCVLOWAT is not readable."""
    left, right = _tcp_pair()
    with left, right:
        right.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 11)
        left.send(b"GET /")
        assert select.select([right], [], [], 0.05)[0] == []
        left.send(b"media/")
        assert select.select([right], [], [], 1.0)[0] == [right]


def _tcp_pair():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
        return left, right
