"""The public port when it is full, kept busy by those who ask nothing, or told to stop."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing

from control import front, http
from tests.control.front_rig import POST, echoing, open_front, read_all, upgrade

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
    app = echoing()
    app.config["BODY_TIMEOUT"] = 0.1
    async with (
        open_front(app) as rig,
        await rig.connect() as stream,
        trio.open_nursery() as nursery,
    ):

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
