"""Twilio's webhooks about text messages. No decision is made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from quart import Blueprint, Response, request

from control import log
from control.hooks.twilio import Form, Guard
from control.store import StoreUnavailable
from control.twilio import twiml


class Incoming(Protocol):
    """What is used of `control.sms.incoming.Incoming`."""

    async def receive(self, form: Mapping[str, str]) -> str: ...
    async def status(self, form: Mapping[str, str], message_id: str | None) -> bool: ...


def sms_routes(incoming: Incoming, guard: Guard) -> Blueprint:
    """`/twilio/sms` and `/twilio/sms/status`, behind the signature."""
    routes = Blueprint("sms", __name__, url_prefix="/twilio/sms")

    async def received(form: Form, _: str | None) -> Response:
        try:
            document = await incoming.receive(form)
        except StoreUnavailable:
            # An opt-out that is not written down is not answered: the URL asks Twilio to repeat it.
            return Response(b"", 503)
        return Response(document, 200, content_type=twiml.CONTENT_TYPE)

    async def status(form: Form, _: str | None) -> Response:
        try:
            is_ours = await incoming.status(form, request.args.get("message_id") or None)
        except StoreUnavailable:
            return Response(b"", 503)
        if not is_ours:
            log.event("unknown_message", level="warning", sid=form.get("MessageSid", ""))
        return Response(b"", 204)

    for path, handler in (("", received), ("/status", status)):
        view = guard.protect("/twilio/sms" + path, handler, needs="MessageSid")
        routes.add_url_rule(path, path.strip("/") or "received", view, methods=["POST"])
    return routes
