"""The cases of the Autobahn test suite itself, against our handshake and framing in both roles. Not collected; by hand:

    pip install kosoku
    python -m tests.gateway.autobahn

kosoku runs the suite's own case files on Python 3. What it tests has to echo: here is an echo over our two modules, with the
answers that both legs give (a pong, a close for a close, a close that names the broken rule). Prints each group's
verdicts; exit code 1 when a case fails. 12 and 13 (compression) are "unimplemented": we never negotiate an extension.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

from gateway.frames import FIN, MASKED, encode_header
from gateway.handshake import ClientHandshake, accept_response, parse_upgrade
from gateway.websocket import BINARY, CLOSE, PING, TEXT, WebSocket

MESSAGE_MAX_BYTES = 1 << 25
"""The suite's longest messages have 16 MiB."""
AGENT = "tandem"
TIMEOUT_S = 60.0


def echo(sock: socket.socket, data: bytes, heard: list[bytes], *, client: bool) -> None:
    """Until the close, after which the server closes TCP and the client waits for that. `heard` gets the texts."""
    end = WebSocket(client=client, max_message_bytes=MESSAGE_MAX_BYTES)
    while True:
        for opcode, payload in end.receive(data):
            if opcode == TEXT:
                heard.append(payload)
                sock.sendall(end.encode_text(payload))
            elif opcode == BINARY:
                sock.sendall(_binary(payload, client=client))
            elif opcode == PING:
                sock.sendall(end.encode_pong(payload))
            elif opcode == CLOSE and end.close_received is not None:
                sock.sendall(end.encode_close(end.close_received[0]))
        if end.failure is not None:
            sock.sendall(end.encode_close(end.failure.close_code))
        if end.close_sent:
            break
        data = sock.recv(1 << 16)
        if not data:
            return
    if client:
        while sock.recv(1 << 16):
            pass


def _binary(payload: bytes, *, client: bool) -> bytes:
    """A frame that no leg of ours ever sends. A key of zeros leaves the payload as it is."""
    head = encode_header(FIN | BINARY, len(payload), MASKED if client else 0)
    return head + (bytes(4) if client else b"") + payload


def serve(listener: socket.socket) -> None:
    """One connection after the other, until the listener is closed."""
    with suppress(OSError):
        while True:
            sock, _ = listener.accept()
            with sock, suppress(OSError):
                sock.settimeout(TIMEOUT_S)
                data = b""
                while (request := parse_upgrade(data)) is None:
                    data += sock.recv(1 << 16)
                sock.sendall(accept_response(request))
                echo(sock, request.rest, [], client=False)


def call(port: int, target: str) -> list[bytes]:
    """Open a connection to the suite, echo until its end; the texts it sent."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as sock:
        handshake = ClientHandshake(host=f"127.0.0.1:{port}", target=target)
        sock.sendall(handshake.request)
        while (rest := handshake.receive(sock.recv(1 << 16))) is None:
            pass
        heard: list[bytes] = []
        with suppress(ConnectionError):  # it does not wait for the echo of its count
            echo(sock, rest, heard, client=True)
    return heard


def run_cases(port: int) -> None:
    """What every client under test does: ask how many there are, run each, have the report written."""
    count = int(call(port, "/getCaseCount")[0])
    for case in range(1, count + 1):
        call(port, f"/runCase?case={case}&agent={AGENT}")
    call(port, f"/updateReports?agent={AGENT}")


async def _of_server(kosoku: Any) -> list[Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        found: list[Any] = await kosoku.run_fuzzingclient(
            f"ws://127.0.0.1:{listener.getsockname()[1]}"
        )
    return found


async def _of_client(kosoku: Any) -> list[Any]:
    async with kosoku.run_fuzzingserver() as server:
        await asyncio.to_thread(run_cases, server.port)
        found: list[Any] = await server.get_result()
    return found


def say(line: str) -> None:
    """Now, not when a buffer is full."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Both roles; the exit code."""
    import kosoku  # type: ignore[import-not-found]

    failed = False
    for role, run in (("server", _of_server), ("client", _of_client)):
        try:
            results = asyncio.run(run(kosoku))
        except kosoku.FailureError as failure:
            results = failure.results
        groups: dict[int, Counter[str]] = {}
        for result in results:
            verdict = f"{result.behavior.value}, close {result.behavior_close.value}"
            groups.setdefault(int(result.case_id.split(".")[0]), Counter())[verdict] += 1
            fails = not (result.passed or result.behavior.value == "UNIMPLEMENTED")
            failed = failed or fails
            if fails or result.behavior.value == "NON-STRICT":
                say(f"{role} {result.case_id}: {verdict}: {result.result} {result.result_close}")
        for group, verdicts in sorted(groups.items()):
            say(f"{role} {group}.*: " + "; ".join(f"{n} {v}" for v, n in verdicts.items()))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
