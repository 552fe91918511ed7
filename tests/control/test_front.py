"""The public port over real sockets: sorting, refusals, the hand-over, and the HTTP behind it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from quart import request
from quart_trio import QuartTrio

from control import front, http
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
class FakeOthers:
    """Another instance: takes what is about the ticket or call `theirs`."""

    taken: list[Any] = field(default_factory=list)
    is_there: bool = True
    looked: int = 0

    def doors(self):
        self.looked += 1
        return ["a door"] if self.is_there else []

    async def offer(self, sock, *, ticket="", call_id="", path="", head=b""):
        if "theirs" not in (ticket, call_id):
            return False
        self.taken.append(
            (socket.socket(fileno=os.dup(sock.fileno())), ticket, call_id, path, head)
        )
        return True


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
    answer = b""
    with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError):
        while data := await stream.receive_some(65536):
            answer += data
    return answer


def _app():
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
async def open_front(**options):
    door, metrics = FakeDoor(), Metrics()
    server = Front(_app(), door, media_url=MEDIA_URL, tokens=(TOKEN,), metrics=metrics, **options)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [listener])
            yield Rig(port, door, metrics, server)
            nursery.cancel_scope.cancel()


def upgrade(target="/media/good", *, signed=None, drop=(), extra=b""):
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


BEGINNINGS = {
    "nothing": b"",
    "a beginning": b"POST /ec",
    "half a head": b"POST /echo HTTP/1.1\r\nhost: x\r\n",
    "half a body": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe",
    "half a media head": b"GET /media/good HTTP/1.1\r\nhost:",
    "a media stream that nobody signed": None,
}


@pytest.mark.parametrize("data", BEGINNINGS.values(), ids=BEGINNINGS)
async def test_connections_that_ask_nothing_make_room_for_the_newest(data, monkeypatch):
    """At the bound, the oldest goes whose request is not whole: idlers cannot lock the providers out."""
    monkeypatch.setattr(front, "LINGER_S", 30.0)
    data = upgrade(signed="wrong") if data is None else data
    async with open_front(connections_max=3) as rig:
        held = []
        for n in range(3):
            held.append(await rig.connect())
            await held[-1].send_all(data)
            while rig.front.connections < n + 1:
                await trio.sleep(0.001)
        asking = [await rig.connect() for _ in range(2)]
        for n, stream in enumerate(asking):
            await stream.send_all(POST)
            while b"hello" not in await stream.receive_some(4096):
                pass
            await read_all(held[n])  # the oldest is closed
        assert (rig.front.cut, rig.front.refused, rig.front.connections) == (2, 0, 3)
        assert rig.metrics.connections_crowded.labels("cut")._value.get() == 2
        for stream in (*held, *asking):
            await stream.aclose()


async def test_connections_that_were_answered_and_stay_make_room():
    """One request, correct or not, is no ticket for a place of one's own."""
    async with open_front(connections_max=2) as rig:
        held = []
        for _ in range(4):
            held.append(await rig.connect())
            await held[-1].send_all(POST)
            while b"hello" not in await held[-1].receive_some(4096):
                pass
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert (rig.front.cut, rig.front.refused, rig.front.connections) == (2, 0, 2)
        for stream in held:
            await stream.aclose()


async def test_connections_that_are_being_answered_are_not_cut_for_newer_ones():
    """Whoever has asked is answered; when all are being answered the newest is closed."""
    slow = b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    async with open_front(connections_max=2) as rig:
        busy = []
        for _ in range(2):
            busy.append(await rig.connect())
            await busy[-1].send_all(slow)
        while rig.front._idle or rig.front.connections < 2:
            await trio.sleep(0.001)
        assert await rig.ask(b"") == b""
        assert (rig.front.cut, rig.front.refused) == (0, 1)
        assert rig.metrics.connections_crowded.labels("refused")._value.get() == 1
        for stream in busy:
            while b"done" not in await stream.receive_some(4096):
                pass
            await stream.aclose()


async def test_body_that_never_ends_is_answered_and_cut(monkeypatch):
    """Byte by byte, for as long as one likes: neither the body's time nor Hypercorn's silence would end it."""
    monkeypatch.setattr(http, "ANSWERED_STAYS_S", 0.1)
    app = _app()
    app.config["BODY_TIMEOUT"] = 0.1
    monkeypatch.setattr(f"{__name__}._app", lambda: app)
    async with open_front() as rig, await rig.connect() as stream, trio.open_nursery() as nursery:

        async def drip():
            await stream.send_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n")
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(0.03)

        nursery.start_soon(drip)
        with contextlib.suppress(trio.BrokenResourceError):
            assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 408")
            while await stream.receive_some(4096):
                pass
        while rig.front.connections:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()


async def test_client_that_does_not_read_is_cut(monkeypatch):
    """Hypercorn's own sends have no deadline."""
    monkeypatch.setattr(http, "SEND_DEADLINE_S", 0.1)
    app = QuartTrio("big", static_folder=None)

    @app.get("/big")
    async def big():
        return b"x" * 50_000_000

    server = http.HttpServer(app)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [listener])
            stream = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
            await stream.send_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await stream.receive_some(10)
            while server.connections:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    await stream.aclose()


async def test_stop_finishes_what_is_under_way_and_refuses_new():
    """The request in progress is answered, idle connections are closed, nobody new is let in."""
    async with open_front() as rig:
        idle = await rig.connect()
        await idle.send_all(POST)
        await idle.receive_some(4096)
        busy = await rig.connect()
        await busy.send_all(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        while rig.front.connections < 2:
            await trio.lowlevel.checkpoint()
        await trio.sleep(0.05)  # the request has to be under way
        rig.front.stop()
        assert (await read_all(busy)).endswith(b"done")
        await read_all(idle)
        with pytest.raises(OSError, match="connect"):
            await rig.connect()
        await idle.aclose()
        await busy.aclose()


async def test_stop_client_that_does_not_read_is_cut(monkeypatch):
    """Hypercorn shields its sends; the socket is closed under it."""
    monkeypatch.setattr(http, "SHUTDOWN_GRACE_S", 0.1)
    app = QuartTrio("big", static_folder=None)

    @app.get("/big")
    async def big():
        return b"x" * 50_000_000

    server = http.HttpServer(app)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [listener])
            stream = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
            await stream.send_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await stream.receive_some(10)
            server.stop()
    await stream.aclose()


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


# ---- two instances on one port -------------------------------------------------------------------


async def echoed(stream):
    answer = b""
    with trio.fail_after(5):
        while not answer.endswith(b"hello"):
            answer += await stream.receive_some(4096)
    return answer


def told_of(call_id):
    return f"POST /echo?call_id={call_id} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello".encode()


async def test_stream_with_a_ticket_of_another_instance_is_passed_on_with_its_head():
    """The one that knows the ticket checks the signature; here nothing was answered."""
    others = FakeOthers()
    async with open_front(others=others) as rig, await rig.connect() as stream:
        await stream.send_all(upgrade("/media/theirs"))
        while not others.taken:
            await trio.sleep(0.005)
        ((sock, ticket, _, _, head),) = others.taken
        assert (ticket, head) == ("theirs", upgrade("/media/theirs"))
        assert rig.door.asked == []
        sock.send(b"from there")
        assert await stream.receive_some(100) == b"from there"
        sock.close()


async def test_webhook_of_a_call_of_another_instance_is_passed_on_unread():
    """Whoever takes it reads it as if it had accepted it."""
    others = FakeOthers()
    async with open_front(others=others) as rig, await rig.connect() as stream:
        await stream.send_all(told_of("theirs"))
        while not others.taken:
            await trio.sleep(0.005)
        ((sock, _, call_id, path, head),) = others.taken
        assert (call_id, path, head) == ("theirs", "/echo", b"")
        assert sock.recv(1000) == told_of("theirs")
        sock.close()


@pytest.mark.parametrize("data", [told_of("call_1"), told_of("nobodys"), POST])
async def test_webhook_that_nobody_else_takes_is_served_here(data):
    """Ours, unknown, or about no call at all; also in single bytes."""
    async with open_front(others=FakeOthers()) as rig:
        for pieces in ([data], [bytes([byte]) for byte in data]):
            async with await rig.connect() as stream:
                for piece in pieces:
                    await stream.send_all(piece)
                assert await echoed(stream)


async def test_webhook_of_a_call_of_ours_looks_for_nobody_else():
    """The folder of the others is read for what may be theirs alone."""
    others = FakeOthers()
    async with open_front(others=others) as rig:
        for data, looked in ((told_of("call_1"), 0), (told_of("nobodys"), 1)):
            async with await rig.connect() as stream:
                await stream.send_all(data)
                assert await echoed(stream)
            assert others.looked == looked


async def test_request_line_without_an_end_is_served_here():
    """HTTP says what is wrong with it."""
    async with open_front(others=FakeOthers()) as rig:
        assert (await rig.ask(b"POST /" + b"x" * 30_000)).startswith(b"HTTP/1.1 4")
        assert (await rig.ask(b"POST /echo?call_id=theirs", end=True)).startswith(b"HTTP/1.1 400")


async def test_what_was_passed_to_us_is_served_after_we_stopped_accepting():
    """A stream with its head, and a webhook unread; an unknown ticket is refused and not passed back."""
    others = FakeOthers()
    async with open_front(others=others) as rig:
        rig.front.leave_to_others()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="connect"):
            await rig.connect()
        for head in (upgrade("/media/theirs"), b""):
            ours, theirs = socket.socketpair()
            rig.front.adopt(ours, head)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
                if head:
                    assert (await read_all(stream)).startswith(b"HTTP/1.1 404 ")
                else:
                    await stream.send_all(told_of("call_1"))
                    assert (await echoed(stream)).startswith(b"HTTP/1.1 200 ")
        ours, theirs = socket.socketpair()
        rig.front.adopt(ours, upgrade())
        await rig.door.arrived.wait()
        assert rig.door.joined[0][2] == upgrade()
        rig.door.joined[0][1].close()
        theirs.close()
        assert others.taken == []
