"""A moment that somebody names: with its zone, and such that it may be counted with. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond them an offset, or a day more, is no moment that a `datetime` has."""


def _in_range(at: datetime) -> datetime:
    if not EARLIEST <= at <= LATEST:
        raise ValueError("lies before the year 1900 or after the year 8999")
    return at


Instant = Annotated[AwareDatetime, AfterValidator(_in_range)]
