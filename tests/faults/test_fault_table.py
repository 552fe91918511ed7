"""The fault table: each row states what the caller hears, what the record says, and that others are spared."""

from __future__ import annotations

import os

import pytest

from tests.faults import rows_agent, rows_twilio
from tests.faults.bed import open_bed, play_all

pytestmark = pytest.mark.skipif(
    "TANDEM_FAULTS" not in os.environ, reason="the fault table runs by `make faults`"
)
GROUPS = {
    "agent cannot be reached": rows_agent.UNREACHABLE,
    "agent of another format": rows_agent.FORMATS,
    "agent is odd": rows_agent.ODD,
    "wire to the agent": rows_agent.WIRE,
    "wire to Twilio": rows_twilio.ROWS,
}


@pytest.mark.parametrize("group", GROUPS)
async def test_faults_cost_what_the_table_says_and_others_nothing(tmp_path, group):
    """All rows of a group at once, in one daemon, beside two calls that go on undisturbed."""
    rows = GROUPS[group]
    async with open_bed(tmp_path, rows) as bed:
        failures = await play_all(bed, rows)
    assert failures == {}, "\n".join(f"{name}: {text}" for name, text in failures.items())


def test_rows_have_names_of_their_own():
    """A row's name is its agent's."""
    names = [row.name for rows in GROUPS.values() for row in rows]
    assert len(set(names)) == len(names)
