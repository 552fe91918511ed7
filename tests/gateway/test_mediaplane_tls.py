"""The media plane with TLS on real sockets: what epoll does not see of it."""

import contextlib
import os
import socket
import ssl

import pytest
import trio

from bench.sim_elevenlabs.tls import throwaway_tls
from gateway import mediaplane, planecall
from gateway.planecall import Leg
from tests.gateway.mediaplane_rig import pattern, settle


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    server, certificate = throwaway_tls(tmp_path_factory.mktemp("tls"))
    return server, ssl.create_default_context(cafile=os.fspath(certificate))


async def tls_pair(stage, contexts) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Ours (the client, not blocking) and theirs (blocking, for use in threads)."""
    ours, theirs = stage.tcp_pair()
    theirs.setblocking(True)
    server, client = contexts
    ends: list = [None, None]

    def accept() -> None:
        ends[1] = server.wrap_socket(theirs, server_side=True)

    def connect() -> None:
        ends[0] = client.wrap_socket(ours, server_hostname="localhost")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, accept)
        nursery.start_soon(trio.to_thread.run_sync, connect)
    for end in ends:
        stage._stack.callback(end.close)
    ends[0].setblocking(False)
    return ends[0], ends[1]


async def first_bytes(sock: ssl.SSLSocket, size: int) -> bytes:
    """The session tickets of TLS 1.3 come first and are no data."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        with contextlib.suppress(ssl.SSLWantReadError):
            return sock.recv(size)


async def test_tls_bytes_that_epoll_does_not_announce_are_read(stage, contexts, monkeypatch):
    """Many records come in one segment; all of them reach the bridge although the socket is silent then."""
    monkeypatch.setattr(mediaplane, "_READS_PER_WAKE", 2)
    bridge, _, call = stage.call()
    ours, theirs = await tls_pair(stage, contexts)
    stage.plane.adopt_agent(call, ours, b"")
    records = [b"%04d" % n * 10 for n in range(300)]

    def send_all() -> None:
        for record in records:
            theirs.sendall(record)

    await trio.to_thread.run_sync(send_all)
    await bridge.until(lambda: bridge.heard("agent") == b"".join(records))


async def test_tls_bytes_decrypted_before_the_plane_had_the_socket_are_read(stage, contexts):
    """What came with the answer to the upgrade is held by the TLS object, and epoll will never say so."""
    bridge, _, call = stage.call()
    ours, theirs = await tls_pair(stage, contexts)
    await trio.to_thread.run_sync(theirs.sendall, b"answer and more")
    assert await first_bytes(ours, 6) == b"answer"
    assert ours.pending() == 9
    stage.plane.adopt_agent(call, ours, b"rest,")
    assert bridge.heard("agent") == b"rest, and more"


async def test_tls_write_that_has_to_wait_is_finished_later(stage, contexts):
    """The same bytes again, in order, when the socket takes them."""
    bridge, _, call = stage.call()
    ours, theirs = await tls_pair(stage, contexts)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stage.plane.adopt_agent(call, ours, b"")
    sent = b""
    while not call.agent.pending:
        bridge.agent_out = pattern(30_000)
        sent += bridge.agent_out
        stage.plane.flush(call)
    for _ in range(3):
        bridge.agent_out = b"behind it"
        sent += b"behind it"
        stage.plane.flush(call)

    def receive() -> bytes:
        data = b""
        while len(data) < len(sent):
            data += theirs.recv(65536)
        return data

    assert await trio.to_thread.run_sync(receive) == sent


async def test_lane_writes_to_tls_as_send_does(stage, contexts):
    """The same bytes, the same count, the same answer to a full socket. A plain socket is the lane's own."""
    _bridge, _, call = stage.call()
    ours, theirs = await tls_pair(stage, contexts)
    leg = Leg(call, ours, is_agent=True)
    write = leg.lane_write
    assert write is not None
    assert write != ours.send
    assert write(b"by the lane, ") == 13
    assert ours.send(b"by hand") == 7
    received = b""
    while len(received) < 20:
        received += await trio.to_thread.run_sync(theirs.recv, 100)
    assert received == b"by the lane, by hand"
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with pytest.raises(ssl.SSLWantWriteError):
        while True:
            write(bytes(30_000))
    assert Leg(call, stage.pair()[0], is_agent=True).lane_write is None


async def test_leg_that_waits_to_be_read_again_is_not_confused_with_a_later_one(
    stage, contexts, monkeypatch
):
    """Its descriptor number may belong to another call's socket by the time it is its turn."""
    monkeypatch.setattr(mediaplane, "_READS_PER_WAKE", 1)
    monkeypatch.setattr(planecall, "TLS_RECORD_BYTES", 1)
    _bridge, _, call = stage.call()
    ours, theirs = await tls_pair(stage, contexts)
    await trio.to_thread.run_sync(theirs.sendall, b"x" * 5)
    await first_bytes(ours, 1)
    stage.plane.adopt_agent(call, ours, b"")  # one read is done, another is asked for
    number = ours.fileno()
    assert stage.plane._again
    stage.plane.remove(call)
    other, _, other_call = stage.call()
    other_ours, other_theirs = stage.pair()
    if other_theirs.fileno() == number:
        other_ours, other_theirs = other_theirs, other_ours
    assert other_ours.fileno() == number
    stage.plane.adopt_agent(other_call, other_ours, b"")
    await settle()
    other_theirs.send(b"hello")
    await other.until(lambda: other.heard("agent") == b"hello")
    assert "agent_closed" not in other.names()
    stage.plane.remove(other_call)
