"""ElevenLabs' webhooks: what a conversation was about, and what a native call is to begin with.

`ElevenLabs-Signature: t=<unix seconds>,v0=<hex>` with v0 = HMAC-SHA256(secret, "<t>." + raw body). Success is 200;
a repeated webhook is answered like the first one. What is not asked for (audio, other types) is answered 200
and not used, because ElevenLabs switches off a webhook that fails too often.

Source: ElevenLabs docs, "Webhooks", "Post-call webhooks", "Twilio personalization"; its SDK's
`webhooks.construct_event` for the tolerance.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, cast

from quart import Blueprint, Response, request

from control.bodies import BoundedRequest
from control.metrics import Metrics
from control.store import StoreUnavailable
from control.strangers import read_json

POST_CALL = "/elevenlabs/post-call"
INITIATION = "/elevenlabs/initiation"
BODY_MAX_BYTES = 8 * 1024 * 1024
"""A long call with every tool result is below 2 MB; audio, which would be larger, is not to be switched on."""
OLD_S = 30 * 60
AHEAD_S = 5 * 60
HEADER_MAX_CHARS = 2_000
SECRET_HEADER = "X-Tandem-Secret"
"""Set at ElevenLabs as a request header of the initiation webhook, which is not signed."""
TRANSCRIPTION = "post_call_transcription"
ID_MAX_CHARS = 128


class Clock(Protocol):
    def now(self) -> datetime: ...


class Results(Protocol):
    """What is used of `control.results.Results`."""

    async def take(self, data: Mapping[str, Any]) -> str: ...


class Initiation(Protocol):
    """What is used of `control.results.initiation.Initiation`."""

    async def data(self, asked: Mapping[str, Any]) -> dict[str, Any] | None: ...


class LargerRequest(BoundedRequest):
    """Quart takes the limit of a body when it makes the request, so it has to be known by then."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        path = arguments[2] if len(arguments) > 2 else options.get("path")
        if path == POST_CALL:
            options["max_content_length"] = BODY_MAX_BYTES
        super().__init__(*arguments, **options)


def signed(header: str | None, body: bytes, secrets: Sequence[str], now_s: float) -> bool:
    """Whether one of the secrets signed this body, not too long ago. Constant time."""
    if not header or len(header) > HEADER_MAX_CHARS or not header.isascii():
        return False
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v0"]
    if len(times) != 1 or not times[0].isdigit() or len(times[0]) > 12 or not given:
        return False
    if not now_s - OLD_S <= int(times[0]) <= now_s + AHEAD_S:
        return False
    good = False
    for secret in secrets:
        wanted = hmac.new(secret.encode(), f"{times[0]}.".encode() + body, hashlib.sha256)
        for one in given:
            good |= hmac.compare_digest(wanted.hexdigest(), one)
    return good


def parse_secrets(text: str) -> tuple[str, ...]:
    """`elevenlabs.webhook_secret`: one secret, or the new and the old one while they are exchanged."""
    return tuple(text.replace(",", " ").split())


def elevenlabs_routes(
    results: Results,
    initiation: Initiation,
    *,
    secrets: Sequence[str],
    clock: Clock,
    metrics: Metrics,
) -> Blueprint:
    """`/elevenlabs/post-call` and `/elevenlabs/initiation`. Without a secret both refuse everything."""
    hooks = _Hooks(results, initiation, secrets, clock, metrics)
    routes = Blueprint("elevenlabs", __name__)
    routes.add_url_rule(POST_CALL, "post_call", hooks.post_call, methods=["POST"])
    routes.add_url_rule(INITIATION, "initiation", hooks.initiate, methods=["POST"])
    return routes


class _Hooks:
    def __init__(
        self,
        results: Results,
        initiation: Initiation,
        secrets: Sequence[str],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._results = results
        self._initiation = initiation
        self._secrets = secrets
        self._clock = clock
        self._metrics = metrics

    async def post_call(self) -> Response:
        body = cast("bytes", await request.get_data(cache=False))
        header = request.headers.get("ElevenLabs-Signature")
        if not signed(header, body, self._secrets, self._clock.now().timestamp()):
            self._metrics.signature_failures.inc()
            return self._counted(POST_CALL, 401)
        envelope = _object(body)
        data = envelope.get("data") if envelope else None
        if envelope is None or not isinstance(data, dict):
            return self._counted(POST_CALL, 400)
        if envelope.get("type") != TRANSCRIPTION:
            return self._counted(POST_CALL, 200, "ignored")
        conversation_id = data.get("conversation_id")
        if not isinstance(conversation_id, str) or not 0 < len(conversation_id) <= ID_MAX_CHARS:
            return self._counted(POST_CALL, 400)
        try:
            return self._counted(POST_CALL, 200, await self._results.take(data))
        except StoreUnavailable:
            return self._counted(POST_CALL, 503)

    async def initiate(self) -> Response:
        given = request.headers.get(SECRET_HEADER, "").encode()
        known = [hmac.compare_digest(given, secret.encode()) for secret in self._secrets]
        if not any(known):
            self._metrics.signature_failures.inc()
            return self._counted(INITIATION, 401)
        asked = _object(cast("bytes", await request.get_data(cache=False)))
        if asked is None:
            return self._counted(INITIATION, 400)
        try:
            data = await self._initiation.data(asked)
        except StoreUnavailable:
            return self._counted(INITIATION, 503)
        if data is None:
            return self._counted(INITIATION, 404)
        return self._counted(INITIATION, 200, body=json.dumps(data).encode())

    def _counted(
        self, path: str, status: int, outcome: str | None = None, body: bytes = b""
    ) -> Response:
        self._metrics.webhooks.labels(path, outcome or str(status)).inc()
        return Response(body, status, content_type="application/json" if body else None)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = read_json(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
