"""The wall clock and its steps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from control.clock import STEP_KEPT_S, Clock


def test_now_is_aware_and_in_utc():
    """Records and rules compare times of one zone."""
    at = datetime(2027, 1, 13, 18, 0, 0, 500_000, tzinfo=UTC)
    now = Clock(wall=at.timestamp, monotonic=lambda: 0.0).now()
    assert now == at
    assert now.tzinfo is UTC


def test_now_of_the_real_clock_moves_with_the_system():
    """Without arguments it is the system's time."""
    before = datetime.now(UTC)
    assert before <= Clock().now() <= datetime.now(UTC)


def test_recent_step_is_kept_for_every_question_until_it_is_long_ago():
    """The first one who asks must not use it up: calls after it would be judged by a wrong clock."""
    wall, monotonic = [1000.0], [10.0]
    clock = Clock(lambda: wall[0], lambda: monotonic[0])
    wall[0] += 3600.0
    assert [clock.recent_step_s() for _ in range(3)] == [pytest.approx(3600.0)] * 3
    wall[0], monotonic[0] = wall[0] + STEP_KEPT_S - 1, monotonic[0] + STEP_KEPT_S - 1
    assert clock.recent_step_s() == pytest.approx(3600.0)
    wall[0], monotonic[0] = wall[0] + 2, monotonic[0] + 2
    assert clock.recent_step_s() == pytest.approx(0.0)


def test_slewing_is_no_step():
    """Half a second of correction is told once, and not kept."""
    wall, monotonic = [1000.0], [10.0]
    clock = Clock(lambda: wall[0], lambda: monotonic[0])
    wall[0] += 0.5
    assert clock.recent_step_s() == pytest.approx(0.5)
    assert clock.recent_step_s() == pytest.approx(0.0)


def test_stepped_s_after_somebody_set_the_clock_tells_once_how_far():
    """Time that merely passes is no step."""
    times = {"wall": 1_000.0, "monotonic": 50.0}
    clock = Clock(wall=lambda: times["wall"], monotonic=lambda: times["monotonic"])
    times.update(wall=1_060.0, monotonic=110.0)
    assert clock.stepped_s() == pytest.approx(0.0)
    times.update(wall=3_670.0, monotonic=120.0)
    assert clock.stepped_s() == pytest.approx(2_600.0)
    assert clock.stepped_s() == pytest.approx(0.0)
    times.update(wall=3_660.0)
    assert clock.stepped_s() == pytest.approx(-10.0)
