"""One request a connection: h11 between a real Quart application and peers of all kinds, on memory streams."""

from __future__ import annotations

import h11
import pytest
import trio
import trio.testing
from quart import Response, request
from quart_trio import QuartTrio

from control import one_request
from control.one_request import serve_one


class NamedStream:
    """A memory stream with the two names that a socket has."""

    class _Socket:
        def getpeername(self):
            return ("127.0.0.1", 40000)

        getsockname = getpeername

    def __init__(self, stream):
        self._stream = stream
        self.socket = self._Socket()

    def __getattr__(self, name):
        return getattr(self._stream, name)


def application():
    app = QuartTrio("test", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 1000
    app.config["BODY_TIMEOUT"] = 5

    @app.post("/echo")
    async def echo():
        return Response(
            await request.get_data(), headers={"X-Query": request.query_string.decode()}
        )

    @app.get("/page")
    async def page():
        return "a page"

    @app.post("/nothing")
    async def nothing():
        return Response(b"", 204)

    return app


async def ask(data, *, app=None, parts=1, end=False):
    """What the peer reads until the server closes; `parts`: writes that the request comes in."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve():
        async with theirs:
            await serve_one(NamedStream(theirs), app or application())

    answer = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        size = max(1, len(data) // parts)
        for start in range(0, len(data), size):
            await ours.send_all(data[start : start + size])
            await trio.testing.wait_all_tasks_blocked()
        if end:
            await ours.send_eof()
        while more := await ours.receive_some(65536):
            answer += more
        await ours.aclose()
    return answer


def read(answer, method="POST"):
    """`(status, headers, body)`, read by h11; raises when the answer is not whole."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.receive_data(answer)
    client.receive_data(b"")
    head = client.next_event()
    while isinstance(head, h11.InformationalResponse):
        head = client.next_event()
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return head.status_code, {bytes(k): bytes(v) for k, v in head.headers}, body


def post(body, path="/echo?a=%2F", *more):
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize("parts", [1, 3, 40])
async def test_request_in_any_number_of_parts_is_answered_once_and_closed(autojump_clock, parts):
    """The answer is whole, says that the connection closes, and has the query as it was sent."""
    status, headers, body = read(await ask(post(b"hello=world"), parts=parts))
    assert (status, body) == (200, b"hello=world")
    assert headers[b"connection"] == b"close"
    assert headers[b"x-query"] == b"a=%2F"


async def test_chunked_body_is_read(autojump_clock):
    """A proxy may not know the length beforehand."""
    data = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    data += b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert read(await ask(data))[::2] == (200, b"abcde")


async def test_peer_that_waits_for_a_word_gets_it(autojump_clock):
    """`Expect: 100-continue`."""
    answer = await ask(post(b"hello", "/echo", "expect: 100-continue"), parts=2)
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert read(answer)[::2] == (200, b"hello")


async def test_peer_that_waits_for_a_word_hears_a_refusal_too(autojump_clock):
    """Whichever of its tasks the application lets run first, the one that refuses or the one that waits for the body."""
    words = set()
    for _ in range(30):
        answer = await ask(post(b"hello", "/page", "expect: 100-continue"))
        assert read(answer)[0] == 405
        words.add(answer.count(b"HTTP/1.1 100 "))
    assert words == {0, 1}


async def test_head_and_204_have_no_body(autojump_clock):
    """What must not have a body has none."""
    answer = await ask(b"HEAD /page HTTP/1.1\r\nhost: x\r\n\r\n")
    status, headers, body = read(answer, "HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"6", b"")
    assert answer.endswith(b"\r\n\r\n")
    assert read(await ask(post(b"x", "/nothing")))[::2] == (204, b"")


async def test_second_request_behind_the_first_is_not_served(autojump_clock):
    """A connection is for one request."""
    answer = await ask(post(b"one") + post(b"two"))
    assert answer.count(b"HTTP/1.1") == 1
    assert read(answer)[2] == b"one"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 6000, 431),
    ],
)
async def test_malformed_head_is_answered(autojump_clock, data, status):
    """With the status that h11 suggests, and the connection ends."""
    assert read(await ask(data))[::2] == (status, b"")


async def test_body_that_is_too_long_is_refused_by_the_application(autojump_clock):
    """The limit is the application's, who knows the route."""
    assert read(await ask(post(b"x" * 2000)))[0] == 413


async def test_head_that_never_ends_is_cut(autojump_clock):
    """A deadline on the head."""
    start_s = trio.current_time()
    assert read(await ask(b"POST /echo HTTP/1.1\r\nhost:"))[0] == 408
    assert trio.current_time() - start_s <= one_request.HEAD_DEADLINE_S + one_request.LINGER_S + 0.1


async def test_body_that_never_comes_is_cut(autojump_clock):
    """The application's deadline on the body."""
    data = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe"
    assert read(await ask(data))[0] == 408


async def test_peer_that_leaves_in_the_body_is_no_error(autojump_clock):
    """Neither for us nor for the application."""
    data = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe"
    await ask(data, end=True)


async def test_peer_that_says_nothing_and_leaves_is_no_error(autojump_clock):
    """A probe of a load balancer."""
    assert await ask(b"", end=True) == b""


async def test_work_goes_on_when_the_peer_does_not_wait_for_the_answer(autojump_clock):
    """What Twilio asked for is done although it hung up."""
    app, done = application(), trio.Event()

    @app.post("/work")
    async def work():
        await trio.sleep(3)
        done.set()
        return "done"

    await ask(post(b"x", "/work"), app=app, end=True)
    assert done.is_set()


async def test_peer_that_does_not_read_is_given_up(autojump_clock):
    """Its answer does not hold the connection for ever."""

    class Stuck:
        socket = NamedStream._Socket()

        async def receive_some(self, _size):
            return post(b"x")

        async def send_all(self, _data):
            await trio.sleep_forever()

    with trio.fail_after(one_request.ANSWER_DEADLINE_S + 1):
        await serve_one(Stuck(), application())


async def test_error_of_the_application_comes_out(autojump_clock):
    """The connection's boundary logs it."""

    async def broken(_scope, _receive, _send):
        raise ZeroDivisionError

    class Once:
        socket = NamedStream._Socket()

        async def receive_some(self, _size):
            return post(b"x")

    with pytest.raises(ZeroDivisionError):
        await serve_one(Once(), broken)
