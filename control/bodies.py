"""Bodies of requests that are refused while they come, not when all of them is there.

Quart from 0.23 on (Python 3.13 and later have it) adds up what it was sent and compares that with `MAX_CONTENT_LENGTH` when the
body is complete. One in chunks says no length before and need not have an end: it would be kept, whole, for a stranger.
"""

from __future__ import annotations

from typing import Any

from quart_trio.wrappers.request import TrioBody, TrioRequest
from werkzeug.exceptions import RequestEntityTooLarge


class BoundedBody(TrioBody):
    """Nothing more is kept once it is too long; whoever waits for it is told at once."""

    _taken_bytes = 0

    async def put(self, data: bytes) -> None:
        """Called by Quart 0.23; Quart 0.22 calls `append`, which does the same by itself."""
        if self._must_raise is not None:
            return
        self._taken_bytes += len(data)
        if self._max_content_length is not None and self._taken_bytes > self._max_content_length:
            self._must_raise = RequestEntityTooLarge()
            self.set_complete()
            return
        former: Any = super()
        await former.put(data)


class BoundedRequest(TrioRequest):
    """For `app.request_class`."""

    body_class: type[TrioBody] = BoundedBody
