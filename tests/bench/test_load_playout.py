"""The virtual Twilio's clock: leads, underruns, marks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.load.playout import PlayoutClock

TURN_BYTES = 16_000


def test_playout_steady_frames_keep_their_lead() -> None:
    """Audio that comes as fast as it plays finds the lead that the first piece made."""
    clock = PlayoutClock(TURN_BYTES)
    clock.push(800, 10.0)
    leads = [clock.push(160, 10.02 * 1 + 0.02 * n) for n in range(10)]
    assert leads == pytest.approx([0.08] * 10)


def test_playout_gap_within_a_turn_is_an_underrun_of_its_length() -> None:
    """Audio of a turn that comes 30 ms after the buffer has run dry."""
    clock = PlayoutClock(TURN_BYTES)
    clock.push(800, 10.0)
    assert clock.push(160, 10.13) == pytest.approx(-0.03)
    assert clock.horizon_s == pytest.approx(10.15)


def test_playout_gap_between_turns_is_none() -> None:
    """A whole turn, a pause, the next turn: nothing was expected in between."""
    clock = PlayoutClock(TURN_BYTES)
    assert clock.push(TURN_BYTES, 10.0) == math.inf
    assert clock.push(800, 14.0) == math.inf
    assert clock.push(160, 14.05) == pytest.approx(0.05)


def test_playout_clear_returns_marks_and_begins_a_turn() -> None:
    """What was unheard is told, all marks are due, and the silence after it is no underrun."""
    clock = PlayoutClock(TURN_BYTES)
    clock.push(1600, 10.0)
    clock.mark("a", 10.0)
    assert clock.due(10.1) == []
    assert clock.clear(10.05) == pytest.approx(0.15)
    assert clock.due(10.05) == ["a"]
    assert clock.push(160, 11.0) == math.inf


def test_playout_mark_is_due_when_the_audio_before_it_was_played() -> None:
    """200 ms of audio, then a mark."""
    clock = PlayoutClock(TURN_BYTES)
    clock.push(1600, 10.0)
    assert clock.mark("a", 10.0) == pytest.approx(10.2)
    assert clock.due(10.199) == []
    assert clock.due(10.2001) == ["a"]
    assert clock.due(10.3) == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4000), st.floats(0, 0.5)), max_size=40))
def test_playout_horizon_never_goes_back_and_counts_all_bytes(
    pushes: list[tuple[int, float]],
) -> None:
    """Whatever comes whenever: the buffer's end moves forward by what was pushed, or by more."""
    clock = PlayoutClock(TURN_BYTES)
    now_s = 1.0
    for size, wait_s in pushes:
        now_s += wait_s
        before_s = clock.horizon_s
        clock.push(size, now_s)
        assert clock.horizon_s >= before_s + size / 8000 - 1e-9
    assert clock.received_bytes == sum(size for size, _ in pushes)
