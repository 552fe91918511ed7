"""The table at the end of `make faults`; nothing is played here."""

from tests.faults.groups import TITLES
from tests.faults.outcomes import GOOD, outcomes, table

ROWS = TITLES["wire to Twilio"][:2]
NAMES = [row.name for row in ROWS]


def test_table_has_every_row_that_was_played_and_what_else_was_wrong():
    """A row that is as stated, one that is not, and the callers beside them."""
    failures = {NAMES[1]: "the caller heard []", "bystanders": "2 underruns of 40 ms"}
    found = outcomes(ROWS, failures, {NAMES[0]: 1.25}, 2)
    assert [(one.row, one.verdict) for one in found] == [
        (NAMES[0], GOOD),
        (NAMES[1], "the caller heard []"),
        ("bystanders", "2 underruns of 40 ms"),
    ]
    lines = table(found)
    assert "1.2 of" in lines[0]
    assert lines[0].endswith(f"{GOOD} (try 2)")
    assert lines[-1] == "1 of 3 as stated"
