"""Callbacks past the framework: most of what Twilio tells is a form, and the answer a status without a body.

Three of them come with every call that is dialled, and a request's way through the framework (its objects, contexts,
tasks and signals) costs more than what is done for one. Only the plain request is taken here; any other spelling of
it goes the framework's way, to the same check of the signature and the same note.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import trio
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection

from control import log
from control.hooks.twilio import Asked, Form, Guard, noted

Note: TypeAlias = Callable[[Form, "str | None"], Awaitable[None]]
"""What is done with a form that Twilio signed, and with the call that its URL names."""
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]


def take_directly(
    app: QuartTrio,
    guard: Guard,
    notes: Mapping[str, Note],
    *,
    body_max_bytes: int,
    body_timeout_s: float,
) -> None:
    """Have `app` give a plain `POST` to one of these paths to its note, unless its body is larger."""

    class Connection(TrioASGIHTTPConnection):
        async def __call__(self, receive: Any, send: Any) -> None:
            headers = dict(reversed(list(self.scope["headers"])))  # the first of a name counts
            length = headers.get(b"content-length", b"")
            is_plain = length.isdigit() and len(length) < 10 and int(length) <= body_max_bytes
            if b"transfer-encoding" in headers:
                is_plain = (
                    False  # chunks are as many as they are, whatever length is named beside them
                )
            note = notes.get(self.scope["path"]) if self.scope["method"] == "POST" else None
            if note is None or not is_plain:
                await super().__call__(receive, send)
                return
            body = None
            with trio.move_on_after(body_timeout_s) as patience:
                body = await _read(receive)
            if patience.cancelled_caught:
                guard.count("other", 408)
                await _answer(send, 408)
            elif body is not None:
                status = await _status_of(self.scope, headers, body, guard, note)
                guard.count(self.scope["path"] if status != 500 else "other", status)
                await _answer(send, status)

    app.asgi_http_class = Connection


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None from a peer that has left in the middle of it."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _status_of(
    scope: Any, headers: Mapping[bytes, bytes], body: bytes, guard: Guard, note: Note
) -> int:
    """Documented boundary: what a note raises is a line in the log and a 500, and Twilio repeats it."""
    path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
    signature = headers.get(b"x-twilio-signature")
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    asked = Asked(
        path + (b"?" + query if query else b""),
        body,
        content_type.partition(";")[0].strip().lower(),
        None if signature is None else signature.decode("latin-1"),
    )
    try:
        form = await guard.admitted(asked)
        if isinstance(form, int):
            return form
        named = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        call_id = next((value for name, value in named if name == "call_id"), None)
        return await noted(note(form, call_id or None))
    except Exception as error:  # noqa: BLE001
        log.event("webhook_failed", level="error", error=error)
        return 500


async def _answer(send: Send, status: int) -> None:
    """As the framework answers: without a body."""
    headers = [(b"content-type", b"text/html; charset=utf-8")]
    if status != 204:
        headers.append((b"content-length", b"0"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
