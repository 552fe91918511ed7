"""The fault table: each row states what the caller hears, what the record says, and that others are spared."""

from __future__ import annotations

import os

import pytest

from tests.faults.bed import open_bed
from tests.faults.groups import GROUPS, SMOKE, TITLES
from tests.faults.outcomes import OUTCOMES, Outcome, outcomes
from tests.faults.play import MachineWasLate, play_all
from tests.faults.rows import Row
from tests.faults.table import PAGE, page

whole_table = pytest.mark.skipif(
    "TANDEM_FAULTS" not in os.environ, reason="the whole fault table runs by `make faults`"
)
TRIES = 3
"""On a machine that was late itself nothing is proven."""
ROWS = {row.name: row for rows in TITLES.values() for row in rows}


async def _failures(
    tmp_path, rows: tuple[Row, ...], tries: int, record_property
) -> dict[str, str] | str:
    """What is wrong, by row; or in words why nothing can be said. What was measured goes into the table at the end."""
    why = ""
    for attempt in range(tries):
        try:
            async with open_bed(tmp_path / str(attempt), rows, dict(rows[0].media)) as bed:
                failures = await play_all(bed, rows)
        except* MachineWasLate as late:
            why = f"inconclusive, {tries} times: {late.exceptions[0]!r}"
        else:
            _keep(record_property, outcomes(rows, failures, bed.gaps_s, attempt + 1))
            return failures
    _keep(
        record_property, outcomes(rows, dict.fromkeys([row.name for row in rows], why), {}, tries)
    )
    return why


def _keep(record_property, found: list[Outcome]) -> None:
    """As plain tuples: a report may come from another process, where several run the tests."""
    record_property(OUTCOMES, [tuple(outcome) for outcome in found])


@whole_table
@pytest.mark.parametrize("group", GROUPS)
async def test_faults_cost_what_the_table_says_and_others_nothing(tmp_path, group, record_property):
    """All rows of a group in one daemon, beside two calls that go on undisturbed."""
    found = await _failures(tmp_path, GROUPS[group], TRIES, record_property)
    assert found == {}


async def test_some_faults_cost_what_the_table_says(tmp_path, record_property):
    """One of each kind, in every run of the tests. Where the machine was late it is skipped, and says so."""
    found = await _failures(tmp_path, tuple(ROWS[name] for name in SMOKE), 1, record_property)
    if isinstance(found, str):
        pytest.skip(found)
    assert found == {}


def test_rows_have_names_of_their_own():
    """A row's name is its agent's."""
    names = [row.name for rows in TITLES.values() for row in rows]
    assert len(set(names)) == len(names)


def test_page_of_the_faults_is_the_table():
    """`python -m tests.faults.table` was run since a row changed."""
    assert PAGE.read_text(encoding="utf-8") == page()
