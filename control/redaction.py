"""What may not be in a log line: secrets and whole telephone numbers. Pure."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from policy import mask_written

TEXT_MAX_CHARS = 2_000
"""A longer text of a field is cut, after it was redacted: a cut secret would not be known any more."""
SECRET_MIN_CHARS = 4
"""A shorter secret is not hidden: it would take half of every line with it."""
_DEPTH_MAX = 6
_ITEMS_MAX = 100


class Redactor:
    """Hides registered secrets and telephone numbers in texts and in nested values."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        # The longest first, so that a secret that begins with another one is hidden as a whole.
        ordered = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str, max_chars: int = TEXT_MAX_CHARS) -> str:
        """The text without secrets, numbers masked, at most `max_chars` and an ellipsis."""
        if self._secrets is not None:
            text = self._secrets.sub("***", text)
        text = mask_written(text)
        return text if len(text) <= max_chars else text[:max_chars] + "…"

    def value(self, value: Any, depth: int = 0) -> Any:
        """The value as JSON can hold it, every text in it redacted."""
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)  # JSON has no word for it
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, datetime):
            return value.isoformat().replace("+00:00", "Z")
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if isinstance(value, BaseException):
            return self.text(describe(value))
        if depth < _DEPTH_MAX:
            if isinstance(value, Mapping):
                pairs = list(value.items())[:_ITEMS_MAX]
                return {self.text(str(key)): self.value(item, depth + 1) for key, item in pairs}
            if isinstance(value, list | tuple | set | frozenset):
                return [self.value(item, depth + 1) for item in list(value)[:_ITEMS_MAX]]
        return self.text(_text_of(value))


def describe(error: BaseException) -> str:
    """`Class: text`, the members of a group included."""
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__}: " + "; ".join(describe(part) for part in error.exceptions)
    text = _text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # documented boundary: no object may stop a log line
        return f"<{type(value).__name__} without a text>"


def _forms(secret: str) -> set[str]:
    """The secret as it may turn up: itself, in a URL, in base64, in JSON, in a repr of text or bytes."""
    if len(secret) < SECRET_MIN_CHARS:
        return set()
    shown = repr(secret)[1:-1]
    return {
        secret,
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        shown,
        shown.replace("'", "\\'"),  # in a longer text that holds both kinds of quotes
        repr(secret.encode())[2:-1],
    }
