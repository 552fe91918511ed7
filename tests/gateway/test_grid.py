"""The playout grid in numbers, and the load that decides about message lengths."""

import math

import pytest

from gateway.grid import (
    GRID_RESET_S,
    GRID_S,
    LOAD_WINDOW_S,
    PHASES,
    SLOT_S,
    WINDOW_BEATS,
    Grid,
    Histogram,
    Load,
    Window,
)


def run_grid(grid, start_s, seconds, step_s=SLOT_S):
    """Look at the grid every `step_s`; returns [(time, phase)]."""
    taken = []
    for n in range(1, round(seconds / step_s) + 1):
        now_s = start_s + n * step_s + 1e-9
        taken += [(now_s, phase) for phase in grid.take(now_s)]
    return taken


def test_grid_stopped_is_never_due():
    """No calls, no deadlines."""
    grid = Grid()
    assert grid.due_s == math.inf
    assert grid.take(1e9) == []


def test_grid_comes_to_every_phase_once_in_20_ms():
    """Absolute deadlines: after a hundred rounds there is no drift."""
    grid = Grid()
    grid.start(50.0)
    taken = run_grid(grid, 50.0, 100 * GRID_S)
    for phase in range(PHASES):
        times = [at for at, taken_phase in taken if taken_phase == phase]
        assert len(times) == 100
        assert times[-1] - times[0] == pytest.approx(99 * GRID_S)
    assert (grid.missed, grid.resets) == (0, 0)


def test_grid_looked_at_late_gives_each_phase_once_and_stays_on_its_grid():
    """A stall of ten rounds is made good by one tick a phase; the misses are counted."""
    grid = Grid()
    grid.start(0.0)
    assert sorted(grid.take(10 * GRID_S)) == list(range(PHASES))
    assert grid.missed == pytest.approx(9 * PHASES, abs=PHASES)
    assert grid.resets == 0
    offset = grid.due_s / SLOT_S
    assert offset == pytest.approx(round(offset))
    assert grid.lateness.max_ms > 150


def test_grid_after_a_long_stop_starts_anew():
    """A suspended machine does not replay an hour of ticks."""
    grid = Grid()
    grid.start(0.0)
    assert grid.take(GRID_RESET_S + 3600.0) == list(range(PHASES))
    assert (grid.resets, grid.missed) == (1, 1)
    assert grid.due_s == pytest.approx(GRID_RESET_S + 3600.0 + SLOT_S)


def test_load_lengthens_messages_when_the_core_is_busy_and_shortens_them_again():
    """With a distance between the two thresholds, so that it does not flicker."""
    load = Load()
    seen = []
    now_s = 0.0
    for share in (0.05, 0.2, 0.2, 0.35, 0.35, 0.25, 0.2, 0.12, 0.08, 0.05):
        for _ in range(250):
            now_s += LOAD_WINDOW_S / 100
            load.add(share * LOAD_WINDOW_S / 100, now_s)
        seen.append(load.frames_per_message)
    assert seen == [1, 2, 2, 3, 3, 3, 2, 2, 1, 1]


def test_histogram_gives_upper_edges_and_the_true_maximum():
    """A quantile is never below the value it stands for."""
    histogram = Histogram()
    assert histogram.report() == {
        "count": 0,
        "mean_ms": 0.0,
        "p50_ms": 0.0,
        "p99_ms": 0.0,
        "max_ms": 0.0,
    }
    for value_ms in [0.1] * 90 + [3.0] * 10:
        histogram.add(value_ms)
    assert (histogram.quantile(0.5), histogram.quantile(0.99)) == (0.25, 3.0)
    histogram.add(1e9)
    assert histogram.report()["max_ms"] == 1e9


def test_window_forgets_what_is_older_and_costs_the_histogram_nothing():
    """A bad beat counts for WINDOW_BEATS beats, a good past does not hide it, and then it is over."""
    histogram = Histogram()
    window = Window(histogram)
    assert (window.quantile(0.95), window.max_ms) == (0.0, 0.0)
    for _ in range(100_000):
        histogram.add(0.1)
    for _ in range(WINDOW_BEATS):
        window.roll()
        for _ in range(200):
            histogram.add(0.1)
    window.roll()
    assert (window.quantile(0.95), window.max_ms) == (0.1, 0.1)
    for _ in range(200):
        histogram.add(30.0)
    seen = []
    for _ in range(WINDOW_BEATS + 1):
        window.roll()
        seen.append((window.quantile(0.95), window.max_ms))
        for _ in range(200):
            histogram.add(0.1)
    assert seen == [(30.0, 30.0)] * WINDOW_BEATS + [(0.1, 0.1)]
    buckets = histogram.buckets()
    assert (len(buckets["edges_ms"]) + 1, sum(buckets["counts"])) == (
        len(buckets["counts"]),
        100_000 + 200 * (2 * WINDOW_BEATS + 2),
    )


def test_load_of_the_last_beats_falls_when_the_loop_is_asleep():
    """Without calls nobody adds anything: what was measured last must not stay."""
    load, now_s = Load(), 100.0
    seen = []
    for share in (0.0, 0.5, 0.5, 0.5, 0.5, 0.5, None, None, None, None, None):
        if share is not None:
            for _ in range(100):
                now_s += 0.01
                load.add(share * 0.01, now_s)
        else:
            now_s += 1.0
        seen.append(round(load.beat(now_s), 3))
    assert seen[0] == 0.0
    assert seen[5] == 0.5
    assert seen[6:] == [0.375, 0.25, 0.125, 0.0, 0.0]
    assert load.share == pytest.approx(0.5)
