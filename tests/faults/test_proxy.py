"""The fault proxy against an echo server on loopback: each fault does what its name says."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing

from bench.faults import Fault, FaultProxy

PATIENCE_S = 10.0


async def _echo(stream):
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            await stream.send_all(data)
        await stream.send_eof()


@contextlib.asynccontextmanager
async def proxied():
    """A proxy in front of an echo server, and a way to connect to it."""
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, _echo, [listener])
            proxy = FaultProxy(listener.socket.getsockname()[1], seed=1)
            url = await nursery.start(proxy.run)

            opened = []

            async def connect():
                port = int(url.rpartition(":")[2])
                opened.append(await trio.open_tcp_stream("127.0.0.1", port))
                return opened[-1]

            yield proxy, connect
            for stream in opened:
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


async def _ask(stream, data):
    """Send and take the same number of bytes back; what came, and the seconds it took."""
    began = trio.current_time()
    await stream.send_all(data)
    got = b""
    while len(got) < len(data):
        piece = await stream.receive_some()
        if not piece:
            break
        got += bytes(piece)
    return got, trio.current_time() - began


async def test_proxy_without_faults_is_not_noticed():
    """A megabyte both ways, bit for bit, and the end of file."""
    async with proxied() as (proxy, connect):
        stream, data = await connect(), bytes(range(256)) * 4_096
        got = bytearray()

        async def read():
            async for piece in stream:
                got.extend(piece)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.send_all(data)
            await stream.send_eof()
        assert bytes(got) == data
        assert proxy.links[0].carried == {"up": len(data), "down": len(data)}


async def test_latency_holds_both_ways_and_ends_when_it_is_healed():
    """Each way for itself, on a connection that is open."""
    async with proxied() as (proxy, connect):
        stream = await connect()
        proxy.set(Fault(latency_s=0.1, jitter_s=0.02))
        got, took_s = await _ask(stream, b"x")
        assert got == b"x"
        assert took_s >= 0.2
        proxy.heal()
        _, took_s = await _ask(stream, b"y")
        assert took_s < 0.1


async def test_fault_about_one_connection_spares_the_other():
    """Connections are known by what their client said first."""
    async with proxied() as (proxy, connect):
        proxy.set(Fault(latency_s=0.2), about=b"victim")
        victim, other = await connect(), await connect()
        assert (await _ask(other, b"somebody"))[1] < 0.1
        assert (await _ask(victim, b"victim"))[1] >= 0.4


async def test_blackhole_holds_everything_and_loses_nothing():
    """What was sent meanwhile arrives afterwards."""
    async with proxied() as (proxy, connect):
        stream = await connect()
        await _ask(stream, b"hello")
        proxy.set(Fault(blackhole=True), way="down")
        await stream.send_all(b"waits")
        with trio.move_on_after(0.1) as silence:
            await stream.receive_some()
        assert silence.cancelled_caught
        proxy.heal()
        assert await stream.receive_some() == b"waits"


async def test_slices_arrive_one_by_one():
    """A message comes in pieces."""
    async with proxied() as (proxy, connect):
        stream = await connect()
        proxy.set(Fault(slice_bytes=2, slice_pause_s=0.02), way="down")
        await stream.send_all(b"abcdef")
        assert await stream.receive_some() == b"ab"
        assert await stream.receive_some() == b"cd"


async def test_bandwidth_is_kept():
    """Ten kilobytes at fifty a second take a fifth of a second."""
    async with proxied() as (proxy, connect):
        proxy.set(Fault(bytes_per_s=50_000), way="up")
        got, took_s = await _ask(await connect(), bytes(10_000))
        assert len(got) == 10_000
        assert 0.18 <= took_s < 1.0


async def test_garbage_replaces_the_head_of_a_piece():
    """As many bytes as before, others."""
    async with proxied() as (proxy, connect):
        proxy.set(Fault(garbage=4), way="up")
        got, _ = await _ask(await connect(), bytes(16))
        assert got[:4] != bytes(4)
        assert got[4:] == bytes(12)


async def test_close_after_bytes_is_an_end_of_file():
    """So many and no more, then an orderly end."""
    async with proxied() as (proxy, connect):
        proxy.set(Fault(close_after_bytes=5), way="down")
        got, _ = await _ask(await connect(), b"0123456789")
        assert got == b"01234"


async def test_reset_after_bytes_is_a_reset():
    """RST, not an end of file."""
    async with proxied() as (proxy, connect):
        proxy.set(Fault(reset_after_bytes=0), way="down")
        stream = await connect()
        await stream.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_reset_and_close_by_hand_hit_open_connections():
    """Each as it says, and only those that are meant."""
    async with proxied() as (proxy, connect):
        first, second = await connect(), await connect()
        await _ask(first, b"first")
        await _ask(second, b"second")
        assert proxy.reset(b"first") == 1
        with pytest.raises(trio.BrokenResourceError):
            await first.receive_some()
        assert proxy.close() == 1
        assert await second.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked()
        assert proxy.open_links() == []


async def test_refusing_proxy_takes_nobody():
    """New connections are reset; it takes them again afterwards."""
    async with proxied() as (proxy, connect):
        proxy.refusing = True
        stream = await connect()
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        proxy.refusing = False
        assert (await _ask(await connect(), b"x"))[0] == b"x"


async def test_server_that_is_gone_resets_the_client():
    """No server behind the proxy: as if none were there at all."""
    async with proxied() as (proxy, connect):
        proxy._upstream_port = 1
        stream = await connect()
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
