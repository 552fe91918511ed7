"""Cursors of lists: opaque to the client; to us the last key of the page, and which list was asked for what."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from control.store.errors import BadCursor

_VERSION = b"2:"
_DIGEST_BYTES = 6
CURSOR_MAX_CHARS = 256
_FOREIGN = "not a cursor of this list with these filters: begin at its first page"


def digest(list_name: str, filters: Mapping[str, Any]) -> bytes:
    """What a cursor belongs to; a filter that is None does not count, nor does the size of a page.

    It keeps a client from going on in the wrong list by mistake. It is no secret and protects nothing: what a
    caller may see, the query says each time.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    text = json.dumps([list_name, given], sort_keys=True, default=_plain)
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()


def encode(last_key: str, of: bytes) -> str:
    """The cursor of the page after `last_key`; `of` is the `digest` of the list."""
    return base64.urlsafe_b64encode(_VERSION + of + last_key.encode()).decode().rstrip("=")


def decode(cursor: str, of: bytes) -> str:
    """The last key of the page before. Raises BadCursor, for one of another list or other filters as well."""
    if len(cursor) > CURSOR_MAX_CHARS:
        raise BadCursor("the cursor is too long")
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if not raw.startswith(_VERSION + of):
            raise BadCursor(_FOREIGN)
        return raw.removeprefix(_VERSION + of).decode()
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise BadCursor(_FOREIGN) from error


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()  # one moment, however it was written
    raise TypeError(f"no filter is a {type(value).__name__}")
