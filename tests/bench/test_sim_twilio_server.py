"""The simulator's small HTTP server, over memory streams."""

from __future__ import annotations

import trio
import trio.testing

from bench.sim_twilio.server import BODY_MAX_BYTES, Request, Response, serve_connection


async def talk(sent: bytes, handler) -> bytes:
    """Everything the server answers to `sent`."""
    ours, theirs = trio.testing.memory_stream_pair()
    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, handler)
        await ours.send_all(sent)
        await ours.send_eof()
        async for chunk in ours:
            received += chunk
    return received


async def echo(request: Request) -> Response:
    """Answer with what was understood."""
    return Response(200, f"{request.method} {request.path} {request.form}".encode(), "text/plain")


async def test_two_requests_on_one_connection_are_answered_in_turn():
    """Keep-alive works, and forms keep blank values."""
    post = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nb=&c=d"
    answer = await talk(post + b"GET /e HTTP/1.1\r\nHost: x\r\n\r\n", echo)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b"POST /a [('b', ''), ('c', 'd')]" in answer
    assert b"GET /e []" in answer


async def test_handler_that_answers_nothing_closes_the_connection():
    """The peer sees the connection end without a byte."""

    async def nothing(request: Request) -> None:
        return None

    assert await talk(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", nothing) == b""


async def test_nonsense_and_oversized_bodies_close_the_connection():
    """What is no HTTP, or too much, is not answered and hurts nobody."""
    assert await talk(b"\x00\x01nonsense\r\n\r\n", echo) == b""
    size = BODY_MAX_BYTES + 1
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    assert await talk(head + b"x" * size, echo) == b""


async def test_silent_connection_is_closed_after_the_idle_deadline(autojump_clock):
    """An open connection that says nothing does not stay for ever."""
    ours, theirs = trio.testing.memory_stream_pair()
    began = trio.current_time()
    await serve_connection(theirs, echo)
    assert 75 <= trio.current_time() - began < 76
    assert await ours.receive_some() == b""
