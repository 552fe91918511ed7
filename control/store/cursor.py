"""Cursors of lists: opaque to the client, the last key of the page to us."""

from __future__ import annotations

import base64
import binascii

from control.store.errors import BadCursor

_VERSION = b"1:"
CURSOR_MAX_CHARS = 256


def encode(last_key: str) -> str:
    """The cursor of the page after `last_key`."""
    return base64.urlsafe_b64encode(_VERSION + last_key.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The last key of the page before. Raises BadCursor."""
    if len(cursor) > CURSOR_MAX_CHARS:
        raise BadCursor("the cursor is too long")
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if not raw.startswith(_VERSION):
            raise BadCursor("not a cursor of this list")
        return raw.removeprefix(_VERSION).decode()
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise BadCursor("not a cursor of this list") from error
