"""Identifiers: shape, order, and what happens within one millisecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from control import ids

MOMENT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
INSTANTS = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2200, 1, 1)).map(
    lambda naive: naive.replace(tzinfo=UTC)
)


def test_id_of_known_moment_has_ulid_layout() -> None:
    """The time part is the ULID specification's; the prefix names the kind."""
    source = ids.IdSource(random_bytes=bytes)
    made = source.new(ids.CALL, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=33))
    assert made == "call_" + "0000000011" + "0" * 16


def test_ids_in_one_millisecond_rise() -> None:
    """A burst of ids with one timestamp is in order and without repeats, even from the top."""
    source = ids.IdSource(random_bytes=lambda n: b"\xff" * n)
    made = [source.new(ids.CALL, MOMENT) for _ in range(1000)]
    assert made == sorted(set(made))
    assert all(len(one) == len("call_") + ids.ID_CHARS for one in made)


@settings(deadline=None)
@given(INSTANTS, INSTANTS)
def test_ids_of_two_moments_sort_as_the_moments(one: datetime, other: datetime) -> None:
    """Text order is order of creation, to the millisecond."""
    first, second = sorted((one, other))
    if int(first.timestamp() * 1000) == int(second.timestamp() * 1000):
        return
    assert ids.new_id("x", first) < ids.new_id("x", second)
