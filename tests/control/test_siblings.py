"""Two instances on one machine: the door of one, asked by the other, over real sockets."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from control import siblings
from control.siblings import DOOR, Siblings

PUBLIC = "127.0.0.1:8443"


@dataclass
class FakeHost:
    """Takes the ticket `mine`."""

    is_draining: bool = False
    served: list[tuple[socket.socket, bytes]] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def takes(self, *, ticket, call_id, path):
        self.asked.append((ticket, call_id, path))
        return ticket == "mine"

    def serve(self, sock, head):
        self.served.append((sock, head))


@dataclass
class Pair:
    blue: Siblings
    green: Siblings
    host: FakeHost
    port: int


def instance(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return Siblings(folder, f"host|{name}")


@asynccontextmanager
async def open_pair(tmp_path):
    """Blue has the port and an open door; green is about to start."""
    blue, green, host = instance(tmp_path, "blue"), instance(tmp_path, "green"), FakeHost()
    blue.host = host
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(blue.run, PUBLIC, listeners)
            yield Pair(blue, green, host, listeners[0].socket.getsockname()[1])
            nursery.cancel_scope.cancel()
    for listener in listeners:
        await listener.aclose()
    for sock, _ in host.served:
        sock.close()


async def shares(pair):
    """Whether blue answers with its listening socket."""
    found = await pair.green.listeners(PUBLIC)
    for listener in found:
        await listener.aclose()
    return bool(found)


async def test_listening_socket_is_the_very_same(tmp_path):
    """A connection that waits in its queue is accepted by whoever asks, also when the other one has closed it."""
    async with open_pair(tmp_path) as pair:
        (shared,) = await pair.green.listeners(PUBLIC)
        async with await trio.open_tcp_stream("127.0.0.1", pair.port) as caller:
            for listener in pair.blue._listeners:
                await listener.aclose()
            accepted = await shared.accept()
            await caller.send_all(b"hello")
            assert await accepted.receive_some(10) == b"hello"
            await accepted.aclose()
        await shared.aclose()
        # One that leaves has nothing to share any more.
        assert await pair.green.listeners(PUBLIC) == []


async def test_listening_socket_of_another_address_or_store_is_not_taken(tmp_path):
    """An instance that was configured anew must not listen where the old one did."""
    async with open_pair(tmp_path) as pair:
        assert await pair.green.listeners("127.0.0.1:9443") == []


async def test_successor_is_one_that_serves_the_same_port_and_stays(tmp_path):
    """Not one that starts, drains, serves another port, or has been killed."""
    async with open_pair(tmp_path) as pair:
        async with trio.open_nursery() as nursery:
            await nursery.start(pair.green.run, PUBLIC, ())
            assert await pair.green.successor() == "host|blue"
            pair.host.is_draining = True
            assert await pair.green.successor() is None
            pair.host.is_draining = False
            pair.blue.host = None
            assert await pair.green.successor() is None
            pair.blue.host = pair.host
            pair.green._shared = "127.0.0.1:9443"
            assert await pair.green.successor() is None
            nursery.cancel_scope.cancel()
    assert not (tmp_path / "green" / DOOR).exists()


async def test_door_of_a_killed_process_is_nobody(tmp_path):
    """Its socket is still in the folder."""
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (tmp_path / "blue").mkdir()
    dead.bind(str(tmp_path / "blue" / DOOR))
    dead.close()
    green = instance(tmp_path, "green")
    assert green.doors()
    assert await green.successor() is None
    assert await green.listeners(PUBLIC) == []
    async with open_pair(tmp_path) as pair:  # and it keeps no new one from opening
        assert await shares(pair)


async def test_connection_is_taken_with_its_head_by_the_one_it_is_for(tmp_path):
    """The socket itself changes hands."""
    async with open_pair(tmp_path) as pair:
        ours, theirs = socket.socketpair()
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
            assert await pair.green.offer(stream.socket, ticket="mine", head=b"GET /media/mine")
        ((sock, head),) = pair.host.served
        assert head == b"GET /media/mine"
        sock.send(b"hello")
        assert theirs.recv(10) == b"hello"
        theirs.close()


async def test_connection_of_nobody_stays(tmp_path):
    """And no descriptor is left open."""
    async with open_pair(tmp_path) as pair:
        ours, theirs = socket.socketpair()
        with theirs:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
                assert not await pair.green.offer(stream.socket, ticket="", call_id="c", path="/p")
                assert pair.host.asked == [("", "c", "/p")]
            assert theirs.recv(10) == b""
        assert pair.host.served == []


async def test_instance_that_does_not_answer_may_have_taken_it(tmp_path, monkeypatch):
    """Served twice would be worse than not at all; to other questions its silence is a no."""
    monkeypatch.setattr(siblings, "ASK_TIMEOUT_S", 0.05)
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (tmp_path / "blue").mkdir()
    with deaf:
        deaf.bind(str(tmp_path / "blue" / DOOR))
        deaf.listen(5)
        green = instance(tmp_path, "green")
        ours, theirs = socket.socketpair()
        with theirs:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
                assert await green.offer(stream.socket, ticket="mine")
        assert await green.successor() is None
        assert await green.listeners(PUBLIC) == []


@pytest.mark.parametrize(
    "packet", [b"", b"nonsense", b"[]", b'{"ask": "take"}', b'{"ask": 7, "head": "!"}']
)
async def test_nonsense_at_the_door_changes_nothing(tmp_path, packet):
    """It answers the next one all the same."""
    async with open_pair(tmp_path) as pair:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(tmp_path / "blue" / DOOR))
            sock.send(packet)
        assert await pair.green.successor() is None  # green itself shares nothing yet
        assert await shares(pair)


async def test_folder_that_cannot_be_used_leaves_the_daemon_alone(tmp_path):
    """It carries calls; only nobody takes over from it."""
    lonely = Siblings(tmp_path / "missing", "host|lonely")
    async with trio.open_nursery() as nursery:
        await nursery.start(lonely.run, PUBLIC, ())
        assert lonely.doors() == []
    assert os.listdir(tmp_path) == []
