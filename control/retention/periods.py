"""How many days texts, recordings and numbers are kept: the configuration's word, or a tenant's own. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

NUMBERS_DAYS_MIN = 36
"""Caps on calls to one person look back 35 days (`control.compliance.counters`): a number that is erased
earlier could be called more often than the law allows."""
DAYS_MAX = 36_500

TRANSCRIPTS = "transcripts"
RECORDINGS = "recordings"
NUMBERS = "numbers"
KINDS = (TRANSCRIPTS, RECORDINGS, NUMBERS)


@dataclass(frozen=True, slots=True)
class Periods:
    """Days after the end of a call; 0 = kept until somebody asks for it to be erased."""

    transcripts_days: int = 0
    recordings_days: int = 0
    numbers_days: int = 0

    def due(self, now: datetime) -> Iterator[tuple[str, int, datetime]]:
        """`(kind, days, before)` of each kind that is kept for a time: what ended before goes."""
        for kind in KINDS:
            days: int = getattr(self, f"{kind}_days")
            if days:
                yield kind, days, now - timedelta(days=days)


NAMES = tuple(item.name for item in fields(Periods))


def periods_of(own: Mapping[str, Any] | None, of_all: Periods) -> Periods:
    """What holds for a tenant whose own periods are `own`."""
    given = own or {}
    return Periods(**{name: int(given.get(name, getattr(of_all, name))) for name in NAMES})


def check(name: str, days: int) -> int:
    """The days, or ValueError with what would be right."""
    if not 0 <= days <= DAYS_MAX:
        raise ValueError(f"must be between 0 (kept) and {DAYS_MAX} days")
    if name == "numbers_days" and 0 < days < NUMBERS_DAYS_MIN:
        raise ValueError(
            f"must be 0 (kept) or at least {NUMBERS_DAYS_MIN} days, because caps on calls to one person "
            "look back 35 days"
        )
    return days


def is_longer(days: int, than: int) -> bool:
    """Whether something would be kept longer; 0 is longest."""
    return than != 0 and (days == 0 or days > than)
