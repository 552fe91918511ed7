"""Whether a worker takes another call: limits, hysteresis, calls that are too new to be measured."""

from __future__ import annotations

import dataclasses

import pytest

from control.headroom import CALL_LOAD_PERCENT, SETTLE_S, SILENCE_MAX_S, Headroom
from gateway.settings import MediaSettings

SETTINGS = MediaSettings(admit_lateness_ms=20.0, admit_load_percent=90.0)


def beats(headroom, *figures, start_s=100.0):
    """A heartbeat a second with `(load, lateness)`; after each whether a call would be taken."""
    taken = []
    for n, (load, lateness) in enumerate(figures):
        headroom.beat({"load_percent": load, "tick_lateness_p95_ms": lateness}, start_s + n)
        taken.append(headroom.takes(start_s + n))
    return taken


def test_headroom_over_a_limit_comes_back_only_well_below_both():
    """At the limit itself it would flicker: a call more, a call less."""
    headroom = Headroom(SETTINGS, 100.0)
    figures = [(10, 1), (10, 20), (10, 21), (10, 15), (10, 10), (91, 1), (85, 1), (81, 11), (81, 1)]
    assert beats(headroom, *figures) == [
        *(True, True, False, False, True),
        *(False, False, False, True),
    ]


def test_headroom_counts_the_lateness_of_a_loop_without_calls():
    """The first call, too, is not for a worker whose core is taken."""
    headroom = Headroom(SETTINGS, 100.0)
    headroom.beat({"load_percent": 0.0, "tick_lateness_p95_ms": 0.0, "loop_lag_ms": 25.0}, 100.0)
    assert not headroom.takes(100.0)


def test_headroom_of_calls_just_placed_is_taken_already():
    """They are not in what was measured; four seconds later they are."""
    headroom = Headroom(SETTINGS, 100.0)
    headroom.beat({"load_percent": 89.0}, 100.0)
    placed = 0
    while headroom.takes(100.5):
        headroom.place(100.5)
        placed += 1
    assert placed == pytest.approx(1.0 / CALL_LOAD_PERCENT, abs=1.0)
    headroom.beat({"load_percent": 89.8}, 100.5 + SETTLE_S)
    assert headroom.expected_percent(100.5 + SETTLE_S) == 89.8
    assert headroom.takes(100.5 + SETTLE_S)


def test_headroom_of_a_silent_worker_is_none():
    """Whoever does not come to its heartbeat does not come to its ticks."""
    headroom = Headroom(SETTINGS, 100.0)
    assert headroom.takes(100.0 + SILENCE_MAX_S)
    assert not headroom.takes(100.1 + SILENCE_MAX_S)
    headroom.beat({}, 110.0)
    assert headroom.takes(110.0)


def test_headroom_that_is_not_looked_at_is_always_there():
    """0 switches a limit off; both, and only the count of calls is left."""
    off = dataclasses.replace(SETTINGS, admit_lateness_ms=0.0)
    assert beats(Headroom(off, 100.0), (10, 900), (91, 0)) == [True, False]
    off = dataclasses.replace(off, admit_load_percent=0.0)
    headroom = Headroom(off, 100.0)
    assert beats(headroom, (100, 900)) == [True]
    assert headroom.takes(1_000.0)
