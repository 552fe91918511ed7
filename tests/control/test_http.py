"""HTTP on a listening socket that is ours: clients that do not read are cut."""

from __future__ import annotations

import trio
from quart_trio import QuartTrio

from control import http


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
