"""Twilio's Debugger: errors and warnings of an account, as events of the calls that they are about.

Source: Twilio docs, "Debugger event webhooks". The spelling of the payload's inner keys is not promised, so it
is read leniently; what cannot be read is kept as an event without details, never refused: Twilio would only
complain about the complaint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from control.ids import DEFAULT_TENANT_ID
from control.store.provider_events import ProviderEventRecord
from control.strangers import whole_number

MESSAGE_MAX_CHARS = 500
_CALL_SID = re.compile(r"CA[0-9a-fA-F]{32}")
_LEVELS = {"ERROR": "error", "WARNING": "warning", "WARN": "warning", "NOTICE": "notice"}

Form = Mapping[str, str]


def event_of(form: Form, received_at: datetime) -> ProviderEventRecord:
    """The event in a Debugger webhook. Numbers and bodies of the request it is about are left out."""
    payload = _object(form.get("Payload", ""))
    webhook = _within(payload, "webhook")
    request, response = _within(webhook, "request"), _within(webhook, "response")
    more = payload.get("more_info", payload.get("moreInfo"))
    resource_sid = _text(payload, "resource_sid", "resourceSid")
    detail = {
        "account_sid": form.get("AccountSid", "")[:64],
        "webhook_url": _without_query(_text(request, "url")),
        "webhook_status": _text(response, "status_code", "statusCode") or None,
        "service_sid": _text(payload, "service_sid", "serviceSid")[:64] or None,
    }
    return ProviderEventRecord(
        provider="twilio",
        sid=form.get("Sid", "")[:64],
        level=_LEVELS.get(form.get("Level", "").upper(), "error"),
        at=_instant(form.get("Timestamp", "")) or received_at,
        received_at=received_at,
        tenant_id=DEFAULT_TENANT_ID,
        code=whole_number(_text(payload, "error_code", "errorCode")),
        message=_message(more)[:MESSAGE_MAX_CHARS] or None,
        resource_sid=resource_sid[:64] or None,
        call_sid=_call_sid(resource_sid, request, more),
        detail={name: value for name, value in detail.items() if value},
    )


def _call_sid(resource_sid: str, request: Mapping[str, Any], more: Any) -> str | None:
    """The call that it is about: the resource itself, or the call that a webhook was asked about."""
    parameters = _within(request, "parameters")
    told = more if isinstance(more, Mapping) else {}
    for text in (
        resource_sid,
        _text(parameters, "CallSid", "callSid", "call_sid"),
        _text(told, "CallSid", "callSid", "call_sid"),
    ):
        if _CALL_SID.fullmatch(text):
            return text
    return None


def _message(more: Any) -> str:
    """The words of `more_info`: an object with a message under some spelling, or a text with such inside."""
    if isinstance(more, str):
        inner = _object(more)
        return _message(inner) if inner else more
    if not isinstance(more, Mapping):
        return ""
    words = {str(name).lower(): value for name, value in more.items()}
    for name in ("msg", "message", "parsermessage", "errormessage", "details"):
        if isinstance(words.get(name), str) and words[name]:
            return str(words[name])
    return ""


def _object(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _within(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = mapping.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(mapping: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = mapping.get(name)
        if isinstance(value, str | int) and value:
            return str(value)
    return ""


def _without_query(url: str) -> str:
    """A path is worth keeping; a query may hold anything."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}"[:300] if parts.netloc else ""


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
