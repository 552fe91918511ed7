"""What became of the rows that were played, as one table at the end of `make faults`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.faults.rows import Row

OUTCOMES = "fault rows"
"""The property of a test's report that holds its `Outcome`s, as plain tuples."""
GOOD = "as stated"


class Outcome(NamedTuple):
    """Of one row, or of what is judged for all rows of a daemon together (`bystanders`, `checker`)."""

    row: str
    verdict: str
    gap_s: float | None
    """Until the caller was answered; None: nobody was to be."""
    gap_max_s: float | None
    tries: int


def outcomes(
    rows: Sequence[Row], failures: Mapping[str, str], gaps_s: Mapping[str, float], tries: int
) -> list[Outcome]:
    """Every row that was played, and whatever else failed."""
    played = [
        Outcome(
            row.name, failures.get(row.name) or GOOD, gaps_s.get(row.name), row.gap_max_s, tries
        )
        for row in rows
    ]
    names = {row.name for row in rows}
    others = [name for name in failures if name not in names]
    return played + [Outcome(name, failures[name], None, None, tries) for name in others]


def table(found: Iterable[Outcome]) -> list[str]:
    """Lines of text: each row with its gap, and how many are as they state."""
    found = list(found)
    wide = max((len(one.row) for one in found), default=0)
    lines = []
    for one in found:
        gap = "-" if one.gap_s is None else f"{one.gap_s:.1f}"
        most = "-" if one.gap_max_s is None else f"{one.gap_max_s:g}"
        again = f" (try {one.tries})" if one.tries > 1 else ""
        lines.append(f"{one.row:<{wide}}  {gap:>5} of {most:>3} s  {one.verdict}{again}")
    good = sum(one.verdict == GOOD for one in found)
    return [*lines, f"{good} of {len(found)} as stated"]
