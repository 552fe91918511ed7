"""The public port's handlers for the fuzzer: the real application over a real store, with signatures that fit.

One Trio loop in a thread keeps a switchboard, or a store, alive between inputs; it is made anew now and then, so that
an hour of inputs does not fill the memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from quart_trio import QuartTrio

from control import log
from control.clock import Clock
from control.front import HeadRefused, _read_head
from control.hooks.app import create_hooks
from control.hooks.elevenlabs import SECRET_HEADER, elevenlabs_routes
from control.hooks.sms import sms_routes
from control.metrics import Metrics
from control.results import Results
from control.results.conversation import findings
from control.results.initiation import Initiation
from control.sms.incoming import Incoming
from control.strangers import read_json
from control.twilio import signature
from tests.control.switchboard_rig import open_rig

URL = "https://gw.example.com"
TOKEN = SECRET = "the-secret-of-the-fuzzer"
INPUTS_PER_APPLICATION = 500
PATHS = (
    *("/twilio/voice", "/twilio/voice/fallback", "/twilio/continue", "/twilio/status"),
    *("/twilio/stream", "/twilio/amd", "/twilio/dial", "/twilio/leg", "/twilio/message"),
    *("/twilio/recorded", "/twilio/debugger", "/twilio/sms", "/twilio/sms/status"),
)
ANSWERS = frozenset((200, 204, 400, 403, 404, 405, 413))

Ask = Callable[[str, bytes, dict[str, str]], int]


@asynccontextmanager
async def _application() -> AsyncIterator[QuartTrio]:
    """A switchboard with a call in progress, and what comes after calls."""
    log.configure(level="error", format="json", secrets=())
    with tempfile.TemporaryDirectory() as folder:
        async with open_rig(Path(folder), patience_s=float("inf")) as rig:
            await rig.switchboard.answer(rig.form())
            results = Results(
                rig.store,
                Clock(),
                None,  # type: ignore[arg-type]  # nothing is asked: what is fuzzed is pushed
                None,  # type: ignore[arg-type]
                verticals={},
                show=lambda record, timeline, turns: {"id": record.id},
            )
            incoming = Incoming(rig.store, Clock(), wake=lambda: None)
            metrics = Metrics()

            def elevenlabs(_: Any) -> Any:
                initiation = Initiation(rig.store)
                return elevenlabs_routes(
                    results, initiation, secrets=(SECRET,), clock=Clock(), metrics=metrics
                )

            yield create_hooks(
                rig.switchboard,
                public_url=URL,
                tokens=(TOKEN,),
                metrics=metrics,
                also=(elevenlabs, lambda guard: sms_routes(incoming, guard)),
            )


class Port:
    """`ask` is synchronous, as the fuzzer is."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None
        self._app: QuartTrio | None = None
        self._ready = threading.Event()
        self._enough: trio.Event | None = None
        self._asked = itertools.count(1)
        threading.Thread(target=trio.run, args=(self._main,), daemon=True).start()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        while True:
            self._enough = trio.Event()
            async with _application() as self._app:
                self._ready.set()
                await self._enough.wait()
                self._ready.clear()

    def ask(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        """The status of the answer."""
        self._ready.wait()
        status: int = trio.from_thread.run(self._post, path, body, headers, trio_token=self._token)
        if next(self._asked) % INPUTS_PER_APPLICATION == 0:
            self._ready.clear()
            assert self._enough is not None
            trio.from_thread.run_sync(self._enough.set, trio_token=self._token)
        return status

    async def _post(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        assert self._app is not None
        client = self._app.test_client()
        answer = await client.post(path, data=body, headers=headers)
        return int(answer.status_code)


_port: list[Port] = []


def _ask(path: str, body: bytes, headers: dict[str, str]) -> int:
    if not _port:
        _port.append(Port())
    return _port[0].ask(path, body, headers)


def post_call(body: bytes) -> None:
    """A conversation that ElevenLabs signed: taken, ignored or refused, never a mistake of ours."""
    now_s = int(Clock().now().timestamp())
    signed = hmac.new(SECRET.encode(), f"{now_s}.".encode() + body, hashlib.sha256)
    headers = {"ElevenLabs-Signature": f"t={now_s},v0={signed.hexdigest()}"}
    status = _ask("/elevenlabs/post-call", body, headers)
    assert status in ANSWERS, f"answered {status}"
    with contextlib.suppress(ValueError, RecursionError):
        told = read_json(body)
        data = told.get("data") if isinstance(told, dict) else None
        for turn in findings(data).turns if isinstance(data, dict) else ():
            assert 0 <= round(turn.at_s * 1000) < 2**53, "no time of a turn"


def initiation(body: bytes) -> None:
    """What a native call is to begin with: an object, or a refusal."""
    headers = {SECRET_HEADER: SECRET, "Content-Type": "application/json"}
    status = _ask("/elevenlabs/initiation", body, headers)
    assert status in ANSWERS, f"answered {status}"


def twilio_webhook(data: bytes) -> None:
    """The first byte is the path, the rest the form; signed, whatever is in it."""
    if not data:
        return
    path, body = PATHS[data[0] % len(PATHS)], data[1:]
    try:
        form = signature.parse_form(body)
    except ValueError:
        form = {}
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": signature.sign(URL + path, form, TOKEN),
    }
    status = _ask(path, body, headers)
    assert status in ANSWERS, f"{path} answered {status}"


class _Bytes:
    """What `_read_head` uses of a stream: bytes in two pieces, then the end."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def receive_some(self, _most: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def request_head(data: bytes) -> None:
    """A media request's head: read, or refused with a status; in two pieces what it is in one."""
    if not data:
        return
    cut, wire = data[0], b"GET /media/" + data[1:]

    def read(*pieces: bytes) -> Any:
        async def reading() -> Any:
            with contextlib.suppress(HeadRefused):
                request, _ = await _read_head(_Bytes(*pieces))  # type: ignore[arg-type]
                return request.target, list(request.headers)
            return None

        return trio.run(reading)

    assert read(wire) == read(wire[:cut], wire[cut:]), "another cut, another request"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "head": request_head,
    "post_call": post_call,
    "initiation": initiation,
    "twilio_webhook": twilio_webhook,
}
