"""The control API on a real socket, as the daemon serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from control.store import calls
from tests.control.api_rig import KEY, Rig, call, open_rig

HEADERS = {"Authorization": f"Bearer {KEY}"}
BODY = {"agent_id": "agt_0001", "to": "+15550100456"}


@asynccontextmanager
async def served(rig: Rig) -> AsyncIterator[str]:
    """The base URL of the application behind Hypercorn on a free port of loopback."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = config.accesslog = None
    stop = trio.Event()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[Any]) -> None:
                await serve(rig.app, config, shutdown_trigger=stop.wait, task_status=task_status)

            binds = await nursery.start(run)
            try:
                yield binds[0]
            finally:
                stop.set()


async def test_served_recording_comes_whole(tmp_path: Path) -> None:
    """A file of several reads, with its length, kept out of caches."""
    wav = tmp_path / "a.wav"
    wav.write_bytes(b"RIFF" + bytes(range(256)) * 10_000)
    with open_rig() as rig:
        await rig.store.write(calls.insert, call(1, recording={"path": str(wav)}))
        async with served(rig) as url, httpx.AsyncClient(headers=HEADERS) as client:
            answered = await client.get(f"{url}/v2/calls/call_0001/recording")
            assert answered.content == wav.read_bytes()
            assert answered.headers["content-length"] == str(wav.stat().st_size)
            assert answered.headers["cache-control"] == "no-store"


async def test_served_removal_has_no_body() -> None:
    """204 is framed as HTTP wants it: the connection goes on."""
    with open_rig() as rig:
        async with served(rig) as url, httpx.AsyncClient(headers=HEADERS) as client:
            await client.post(f"{url}/v2/opt-outs", json={"e164": "+15550100456"})
            assert (await client.delete(f"{url}/v2/opt-outs/+15550100456")).status_code == 204
            assert (await client.get(f"{url}/healthz")).json() == {"status": "ok"}


async def test_served_oversized_body_is_413() -> None:
    """Declared or chunked, the answer comes and is a problem document."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield b" " * 1024

    with open_rig() as rig:
        async with served(rig) as url:
            for content in (b" " * 70_000, pieces()):
                async with httpx.AsyncClient(headers=HEADERS) as client:
                    answered = await client.post(f"{url}/v2/opt-outs", content=content)
                assert answered.status_code == 413
                assert answered.headers["content-type"] == "application/problem+json"


async def test_served_body_without_an_end_is_413() -> None:
    """It is not waited for, and not kept."""
    head = f"POST /v2/opt-outs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ntransfer-encoding: chunked\r\n\r\n"
    with open_rig() as rig:
        async with served(rig) as url:
            port = int(url.rpartition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(head.encode() + b"11180\r\n%b\r\n" % (b" " * 0x11180))
                assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 413 ")


async def test_served_client_that_hangs_up_finds_its_answer_later() -> None:
    """A dropped connection does not cost the call its answer: the repeat gets it, and dials nothing."""
    asked, go_on = trio.Event(), trio.Event()

    async def slow(_asked: dict[str, Any]) -> Any:
        asked.set()
        await go_on.wait()
        return call(1)

    with open_rig() as rig:
        rig.switchboard.result = slow
        headers = HEADERS | {"Idempotency-Key": "k1"}
        async with served(rig) as url:

            async def first() -> None:
                async with httpx.AsyncClient(headers=headers) as client:
                    await client.post(f"{url}/v2/calls/initiate", json=BODY)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(first)
                await asked.wait()
                nursery.cancel_scope.cancel()
            async with httpx.AsyncClient(headers=headers) as client:
                while True:
                    answered = await client.post(f"{url}/v2/calls/initiate", json=BODY)
                    go_on.set()
                    if answered.status_code != 409:
                        break
            assert answered.status_code == 201
            assert answered.headers["idempotent-replayed"] == "true"
            assert len(rig.switchboard.asked) == 1
