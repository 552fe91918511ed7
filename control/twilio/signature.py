"""Was this request signed by Twilio? Pure.

The rules are those of the official SDK's validator (`twilio.request_validator.RequestValidator`), plus
what Twilio's security page asks of a server: the URL is the public one from the configuration, never the
`Host` header; a trailing slash that somebody added or dropped on the way does not matter; for `wss` the
implied port is 443.

Source: Twilio docs, "Webhooks Security", and the SDK's `request_validator.py`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import ParseResult, parse_qs, parse_qsl, urlparse

Form: TypeAlias = Mapping[str, Sequence[str]]
"""A decoded form body: every value of every name, blank values kept."""

_IMPLIED_PORTS = {"https": (443,), "http": (80,), "wss": (443, 80), "ws": (80,)}
# The SDK takes 80 for anything that is not https; for wss that is kept beside the true one.

MAX_FORM_FIELDS = 1000


def parse_form(body: bytes) -> dict[str, list[str]]:
    """The names and values of a form body, in order, blank values and repeated names kept.

    Raises ValueError for more than MAX_FORM_FIELDS fields.
    """
    pairs = parse_qsl(
        body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS
    )
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form


def sign(url: str, form: Form | None, token: str) -> str:
    """The signature of a request to `url` with `form` in its body: base64 of an HMAC-SHA1.

    Names in code point order, each followed by each of its distinct values, without separators.
    """
    return _signed(url, _joined(form or {}), token).decode()


def _joined(form: Form) -> str:
    """What of the form is signed, behind the URL: the same under every spelling of that."""
    parts: list[str] = []
    for name in sorted(form):
        values = form[name]
        for value in values if len(values) == 1 else sorted(set(values)):
            parts += (name, value)
    return "".join(parts)


def _signed(url: str, joined: str, token: str) -> bytes:
    text = (url + joined).encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(token.encode(), text, "sha1"))


def valid(
    url: str, body: Form | bytes | None, signature: str | None, tokens: Sequence[str]
) -> bool:
    """Whether `signature` fits the request under one of `tokens`.

    `url` is the public URL with the query as it was sent; `body` is the decoded form, the raw bytes of
    any other body (then `bodySHA256` of the query must be their hash), or None. Never raises for bad
    input.
    """
    if not signature:
        return False
    try:
        parsed = urlparse(url)
        candidates = set(_candidates(parsed))
    except ValueError:  # a port that is no number
        return False
    form: Form | None
    if isinstance(body, bytes):
        if not _body_hash_fits(parsed, body):
            return False
        form = None
    else:
        form = body
    given = signature.encode("utf-8", "surrogatepass")
    joined = _joined(form or {})
    # No early exit: the time taken shall not tell which candidate came close.
    found = [
        hmac.compare_digest(_signed(candidate, joined, token), given)
        for candidate in candidates
        for token in tokens
    ]
    return any(found)


def _body_hash_fits(parsed: ParseResult, body: bytes) -> bool:
    named = parse_qs(parsed.query).get("bodySHA256")
    if named is None:
        return not body
    expected = hashlib.sha256(body).hexdigest().encode()
    return hmac.compare_digest(expected, named[0].encode("utf-8", "surrogatepass"))


def _candidates(parsed: ParseResult) -> Iterator[str]:
    for spelling in (parsed, _toggle_slash(parsed)):
        yield from _port_forms(spelling)


def _toggle_slash(parsed: ParseResult) -> ParseResult:
    path = parsed.path
    return parsed._replace(path=path[:-1] if path.endswith("/") else path + "/")


def _port_forms(parsed: ParseResult) -> Iterator[str]:
    yield parsed.geturl()
    if parsed.port:
        yield parsed._replace(netloc=parsed.netloc.rpartition(":")[0]).geturl()
        return
    for port in _IMPLIED_PORTS.get(parsed.scheme, (80,)):
        yield parsed._replace(netloc=f"{parsed.netloc}:{port}").geturl()
