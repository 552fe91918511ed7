"""The media plane with real sockets and a stand-in for the bridge."""

import math
import os
import select
import socket
import struct
from pathlib import Path

import pytest
import trio
import trio.testing

from gateway import mediaplane
from gateway.events import Note
from gateway.intake import plain_intake
from gateway.mediaplane import MediaPlane
from tests.gateway.mediaplane_rig import BOUND, FakeBridge, Observer, pattern, settle


async def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        await trio.lowlevel.wait_readable(sock)
        piece = sock.recv(65536)
        if not piece:
            break
        data += piece
    return data


def waits_to_write(plane: MediaPlane, sock: socket.socket) -> bool:
    """Whether the kernel would wake the plane for room in this socket: proc(5), fdinfo of an epoll set."""
    for line in Path(f"/proc/self/fdinfo/{plane._epoll.fileno()}").read_text().splitlines():
        match line.split():
            case ["tfd:", fd, "events:", mask, *_] if int(fd) == sock.fileno():
                return bool(int(mask, 16) & select.EPOLLOUT)
    raise AssertionError("the plane does not watch this socket")


# ---- sockets -------------------------------------------------------------------------------------


async def test_bytes_go_both_ways_with_what_came_before_them(stage):
    """What came with the handshake is first; what the bridge says in answer goes out in the same wake."""
    bridge, observer, call = stage.call()
    ours, theirs = stage.pair()
    bridge.caller_out = b"welcome"
    stage.plane.adopt_caller(call, ours, b"early ")
    theirs.send(b"late")
    await bridge.until(lambda: bridge.heard("caller") == b"early late")
    assert bridge.names()[0] == "caller_opened"
    assert await read(theirs, 7) == b"welcome"
    bridge.caller_out, bridge.events = b"more", [Note("x", 0.0)]
    stage.plane.flush(call)
    assert await read(theirs, 4) == b"more"
    assert observer.events == [Note("x", 0.0)]


async def test_partial_write_is_finished_when_the_peer_reads(stage):
    """The rest waits, in order, and what is said meanwhile comes behind it."""
    bridge, _, call = stage.call()
    ours, theirs = stage.pair(buffer_bytes=4096)
    stage.plane.adopt_agent(call, ours, b"")
    first, second = pattern(60_000), b"second"
    bridge.agent_out = first
    stage.plane.flush(call)
    assert 0 < len(call.agent.pending) < 60_000
    assert waits_to_write(stage.plane, ours)
    bridge.agent_out = second
    stage.plane.flush(call)
    assert call.agent_peak_bytes == len(call.agent.pending)
    assert await read(theirs, len(first) + len(second)) == first + second
    while call.agent.pending or waits_to_write(stage.plane, ours):
        await settle()
    bridge.agent_out = b"third"
    stage.plane.flush(call)
    assert await read(theirs, 5) == b"third"


@pytest.mark.parametrize("leg", ["caller", "agent"])
async def test_stalled_leg_fails_at_its_bound_and_harms_no_other(stage, leg):
    """Over the bound the leg is closed and its call is told; the neighbour goes on."""
    bridge, observer, call = stage.call()
    other, _, other_call = stage.call()
    ours, _theirs = stage.pair(buffer_bytes=4096)
    other_ours, other_theirs = stage.pair()
    (stage.plane.adopt_caller if leg == "caller" else stage.plane.adopt_agent)(call, ours, b"")
    stage.plane.adopt_caller(other_call, other_ours, b"")
    told = []
    while not told:
        setattr(bridge, f"{leg}_out", pattern(20_000))
        stage.plane.flush(call)
        told = [name for name in bridge.names() if name.endswith(("failed", "closed"))]
    assert told == [f"{leg}_failed", f"{leg}_closed"]
    assert "stalled" in bridge.told[-1][1]
    assert BOUND < getattr(call, f"{leg}_peak_bytes") <= BOUND + 20_000
    assert (getattr(call, leg), observer.gone) == (None, 1)
    assert ours.fileno() == -1
    other_theirs.send(b"hello")
    await other.until(lambda: other.heard("caller") == b"hello")


async def test_half_closed_peer_is_read_to_its_end_and_then_closed(stage):
    """A FIN is no reason to lose data, nor to spin."""
    bridge, observer, call = stage.call()
    ours, theirs = stage.pair()
    data = pattern(150_000)
    stage.plane.adopt_caller(call, ours, b"")
    theirs.setblocking(True)
    await trio.to_thread.run_sync(theirs.sendall, data)
    theirs.shutdown(socket.SHUT_WR)
    await bridge.until(lambda: "caller_closed" in bridge.names())
    assert bridge.heard("caller") == data
    assert observer.gone == 1
    assert call.caller is None


async def test_write_to_a_peer_that_has_gone_reads_its_last_words_first(stage):
    """A goodbye with its reason must not be lost because a write found the reset before the read did."""
    bridge, _, call = stage.call()
    ours, theirs = stage.tcp_pair()
    stage.plane.adopt_agent(call, ours, b"")
    await trio.testing.wait_all_tasks_blocked()
    theirs.send(b"quota exceeded, goodbye")
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()  # RST
    bridge.agent_out = b"audio"
    stage.plane.flush(call)  # in the same instant: the plane has had no chance to read
    assert bridge.names()[-2:] == ["agent_bytes", "agent_closed"]
    assert bridge.heard("agent") == b"quota exceeded, goodbye"
    assert call.agent is None


async def test_closing_handshake_done_closes_the_callers_socket(stage):
    """As the server it is for us to hang up."""
    bridge, _, call = stage.call()
    ours, theirs = stage.pair()
    stage.plane.adopt_caller(call, ours, b"")
    bridge.caller_out, bridge.caller_is_done = b"bye", True
    stage.plane.flush(call)
    assert await read(theirs, 100) == b"bye"
    assert bridge.told[-1] == ("caller_closed", "closing handshake complete")


async def test_remove_closes_both_sockets_once(stage):
    """Idempotent, and nothing is ticked or told afterwards."""
    bridge, observer, call = stage.call()
    (ours, _), (ours_too, _) = stage.pair(), stage.pair()
    stage.plane.adopt_caller(call, ours, b"")
    stage.plane.adopt_agent(call, ours_too, b"")
    stage.plane.remove(call)
    stage.plane.remove(call)
    assert (ours.fileno(), ours_too.fileno(), observer.gone, stage.plane.calls) == (-1, -1, 2, 0)
    before = list(bridge.told)
    bridge.events = [Note("x", 0.0)]
    stage.plane.flush(call)
    stage.plane.command(call, bridge.tick)
    assert (bridge.told, observer.events) == (before, [])


async def test_socket_for_a_call_that_has_gone_is_closed(stage):
    """An agent leg that comes up in the instant in which its call ends must not stay open for ever."""
    bridge, _, call = stage.call()
    stage.plane.remove(call)
    for adopt in (stage.plane.adopt_agent, stage.plane.adopt_caller):
        ours, theirs = stage.pair()
        adopt(call, ours, b"rest")
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""
    assert bridge.told == []


async def test_run_closes_what_is_left_when_it_is_cancelled():
    """The worker's exit leaks no descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    with theirs:
        async with trio.open_nursery() as nursery:
            plane = MediaPlane(leg_write_max_bytes=BOUND)
            nursery.start_soon(plane.run)
            bridge = FakeBridge()
            plane.adopt_caller(plane.add(bridge, Observer(bridge)), ours, b"")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert ours.fileno() == -1
    assert len(os.listdir("/proc/self/fd")) <= before


# ---- the boundary around a call ------------------------------------------------------------------


@pytest.mark.parametrize("bug", ["caller_opened", "caller_bytes", "caller_closed", "tick"])
async def test_raising_bridge_ends_its_own_call_only(stage, bug):
    """The crash is told once, the sockets are closed, and the neighbour hears nothing of it."""
    bridge, observer, call = stage.call(raises=bug)
    other, other_observer, other_call = stage.call()
    ours, theirs = stage.pair()
    other_ours, other_theirs = stage.pair()
    stage.plane.adopt_caller(call, ours, b"")
    stage.plane.adopt_caller(other_call, other_ours, b"")
    if bug == "tick":
        bridge.outlet.due_s = 0.0
    elif bug != "caller_opened":
        theirs.send(b"hello")
        if bug == "caller_closed":
            theirs.shutdown(socket.SHUT_WR)
    await bridge.until(lambda: observer.crashes)
    other_theirs.send(b"still here")
    await other.until(lambda: other.heard("caller") == b"still here")
    assert [str(error) for error in observer.crashes] == [f"bug in {bug}"]
    assert (call.is_gone, ours.fileno(), stage.plane.calls) == (True, -1, 1)
    assert other_observer.crashes == []


async def test_command_that_raises_ends_its_own_call_only(stage):
    """Commands come from the link's reader: what they raise must not end the worker."""
    bridge, observer, call = stage.call(raises="tick")
    stage.plane.command(call, bridge.tick)
    assert len(observer.crashes) == 1
    assert call.is_gone


async def test_observer_that_raises_ends_its_own_call_only(stage):
    """The call's own handling of events is behind the same boundary."""
    bridge, observer, call = stage.call()

    def broken() -> None:
        raise ValueError("bug")

    observer.on_events = broken
    bridge.events = [Note("x", 0.0)]
    stage.plane.flush(call)
    assert [type(error) for error in observer.crashes] == [ValueError]


# ---- the grid ------------------------------------------------------------------------------------


def add(plane: MediaPlane, count: int) -> list[FakeBridge]:
    bridges = [FakeBridge() for _ in range(count)]
    for bridge in bridges:
        bridge.outlet.due_s = 0.0
        plane.add(bridge, Observer(bridge))
    return bridges


async def test_plane_ticks_bridges_that_are_due_and_leaves_the_others(stage):
    """`due_s` decides; the phases are spread over the calls."""
    due = add(stage.plane, 4)
    (idle,) = add(stage.plane, 1)
    idle.outlet.due_s = math.inf
    while any(len(bridge.ticks) < 5 for bridge in due):
        await trio.sleep(0.01)
    assert idle.ticks == []
    # On a busy machine those of one late turn of the grid come together; not those of every turn.
    assert any(
        len({round((b.ticks[n] - due[0].ticks[n]) * 200) for b in due}) > 1 for n in range(5)
    )


async def test_plane_without_calls_sleeps_and_wakes_for_the_next(stage):
    """No call, no wake-up."""
    (bridge,) = add(stage.plane, 1)
    while not bridge.ticks:
        await trio.sleep(0.01)
    stage.plane.remove(stage.plane._phases[0][0].owner)
    await trio.sleep(0.01)
    before = stage.plane.wakes
    await trio.sleep(0.1)
    assert stage.plane.wakes - before <= 1
    (bridge,) = add(stage.plane, 1)
    while not bridge.ticks:
        await trio.sleep(0.01)


async def test_rest_of_the_process_has_its_turn_while_the_plane_is_busy(stage):
    """A slice ends after two milliseconds, however much there is to do."""
    add(stage.plane, 50)
    turns = 0
    with trio.move_on_after(0.2):
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1
    assert turns > 10


async def test_frame_does_not_wait_for_all_tasks_that_are_ready(stage, monkeypatch):
    """Calls that are set up beside those that talk: Trio runs all their steps before it asks the kernel again."""
    monkeypatch.setattr(mediaplane, "LOOK_AFTER_S", 0.0)
    bridge, _, call = stage.call()
    ours, theirs = stage.pair()
    stage.plane.adopt_caller(call, ours, b"")
    await settle()
    heard = []

    async def step() -> None:
        if not heard:
            theirs.send(b"a frame")
        heard.append(bridge.heard("caller"))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(step)
    assert heard == [b""] + [b"a frame"] * 9


async def test_look_that_takes_the_wake_of_the_first_call_leaves_the_plane_on_its_grid(
    stage, monkeypatch
):
    """Asleep without a deadline while nobody talks; the event that ends this is read by whoever comes first."""
    monkeypatch.setattr(mediaplane, "LOOK_AFTER_S", 0.0)
    await settle()
    (bridge,) = add(stage.plane, 1)
    await trio.lowlevel.checkpoint()  # behind this step the plane looks
    await bridge.until(
        lambda: len(bridge.ticks) >= 3
    )  # its task sleeps meanwhile: no step of others helps


async def test_plane_that_has_ended_looks_no_more():
    """Its instrument goes with it."""
    plane = MediaPlane(leg_write_max_bytes=BOUND)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plane.run)
        await settle()
        nursery.cancel_scope.cancel()
    plane.calls = 1  # would look now, into an epoll set that is closed
    await settle()
    await trio.lowlevel.checkpoint()


async def test_what_a_look_raises_ends_the_plane_and_its_sockets(monkeypatch):
    """As what a slice raises: bytes that were received and given to nobody would damage every call they belong to."""

    def poll(wait_s, pause_s, batch):
        raise MemoryError("of a look")

    monkeypatch.setattr(mediaplane, "LOOK_AFTER_S", 0.0)
    plane = MediaPlane(leg_write_max_bytes=BOUND, intake=plain_intake)
    ours, theirs = socket.socketpair()
    with theirs, pytest.RaisesGroup(MemoryError), trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plane.run)
            await settle()
            bridge = FakeBridge()
            plane.adopt_caller(plane.add(bridge, Observer(bridge)), ours, b"")
            monkeypatch.setattr(plane._intake, "poll", poll)
            monkeypatch.setattr(plane, "_slice", lambda now_s: None)
            await trio.sleep_forever()
    assert ours.fileno() == -1
