"""The fault table as a page: `python -m tests.faults.table` writes `docs/faults.md`."""

from __future__ import annotations

from pathlib import Path

from tests.faults.groups import TITLES
from tests.faults.rows import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
_HEAD = """# Faults, and what they cost

Written by `python -m tests.faults.table` from the rows that `make faults` plays; a test keeps both in step. Each row is a
call through the real daemon, with the fault proxy between the parts. After the fault the caller speaks and has to be
answered: both voices are looked for, bit for bit, at the other end. *Gap* is how long that may take at most, from the
beginning of the fault; `-`: the call ends with the fault. The calls beside it must have no underrun by the daemon's own
count. A row on a machine that was too late itself is tried again, and then a failure.

In one run, on two cores that carried a load of other work: all 72 as stated in 17 minutes, one group at the second try.
"""
_COLUMNS = ("row", "what happens", "the caller hears", "result", "reason", "timeline", "gap")


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, rows in TITLES.items():
        parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n" + _line(_COLUMNS))
        parts.append(_line(("---",) * len(_COLUMNS)))
        parts += [_line(_cells(row)) for row in rows]
    return "".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        row.what,
        " and ".join(sorted(row.hears)) or "nothing",
        row.result if row.blame is None else f"{row.result} ({row.blame})",
        row.reason.replace("|", "\\|"),
        ", ".join(row.timeline) or "-",
        "-" if row.gap_max_s is None else f"{row.gap_max_s:g} s",
    )


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
