"""The public port's answer to `tandem doctor`: whoever signs as Twilio does learns that it has arrived here.

A stranger gets 403 and learns nothing. That the signature fits says that `public.url`, the path through the
proxy in front and the auth token are right together, as for every webhook.
"""

from __future__ import annotations

import re

from quart import Blueprint, Response

from control.hooks.twilio import Form, Guard

PATH = "/twilio/probe"
NONCE = "Nonce"
_NONCE_SHAPE = re.compile(r"[0-9a-f]{16,64}")


def probe_routes(guard: Guard) -> Blueprint:
    """POST `/twilio/probe` with a signed `Nonce` (hex): 200 and the same text."""
    blueprint = Blueprint("probe", __name__)

    async def answer(form: Form, _call_id: str | None) -> Response:
        nonce = form[NONCE]
        if not _NONCE_SHAPE.fullmatch(nonce):
            return Response(b"", 400)
        return Response(nonce, content_type="text/plain")

    blueprint.add_url_rule(
        PATH, view_func=guard.protect(PATH, answer, needs=NONCE), methods=["POST"]
    )
    return blueprint
