"""The application behind the public port, without routes of its own.

Answers have no body unless Twilio asked for TwiML: a stranger learns nothing, also not why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quart import Blueprint, Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from control import log
from control.hooks.direct import Note, take_directly
from control.hooks.elevenlabs import LargerRequest
from control.hooks.probe import probe_routes
from control.hooks.twilio import Guard, Signers, Webhooks, twilio_routes
from control.metrics import Metrics

BODY_MAX_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10
"""A webhook is a few kilobytes; whoever needs longer is no provider of ours."""


def create_hooks(
    switchboard: Webhooks,
    *,
    public_url: str,
    tokens: Sequence[str],
    metrics: Metrics,
    signers: Signers | None = None,
    also: Sequence[Callable[[Guard], Blueprint]] = (),
) -> QuartTrio:
    """The application. `public_url` has no trailing slash; `tokens` are the auth tokens of the
    main account, `signers` knows those of all accounts.

    `also` make further routes; a handler that they give to the guard sees only what Twilio signed.
    """
    app = QuartTrio("tandem-hooks", static_folder=None)
    app.request_class = LargerRequest
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX_BYTES
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    # Twilio appends a slash to some URLs; the signature covers what it asked for.
    app.url_map.strict_slashes = False
    app.register_blueprint(twilio_routes(switchboard, public_url, tokens, metrics, signers))
    guard = Guard(public_url, tokens, metrics, signers)
    for routes in (probe_routes, *also):
        app.register_blueprint(routes(guard))
    notes: dict[str, Note] = {
        "/twilio/status": lambda form, call_id: switchboard.call_status(form, call_id),
        "/twilio/stream": lambda form, call_id: switchboard.stream_status(form, call_id),
        "/twilio/amd": lambda form, call_id: switchboard.machine_detected(form, call_id),
    }
    take_directly(app, guard, notes, body_max_bytes=BODY_MAX_BYTES, body_timeout_s=BODY_TIMEOUT_S)

    async def refused(error: HTTPException) -> Response:
        metrics.webhooks.labels("other", str(error.code)).inc()
        allow = error.get_response().headers.get("Allow")  # a 405 without one is no proper 405
        return Response(b"", error.code or 500, headers={"Allow": allow} if allow else None)

    async def failed(error: Exception) -> Response:
        log.event("webhook_failed", level="error", error=error)
        metrics.webhooks.labels("other", "500").inc()
        return Response(b"", 500)

    app.register_error_handler(HTTPException, refused)
    app.register_error_handler(Exception, failed)
    return app
