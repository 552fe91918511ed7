"""Two instances on one public port: what is about the other's calls is passed on."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from tests.control.front_rig import POST, open_front, read_all, upgrade


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
