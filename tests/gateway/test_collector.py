"""When a worker's garbage is looked for. The collector is the process's own, so what is changed is put back."""

import gc
import weakref

import pytest

from gateway.collector import ENDED_MAX, Collector


class Ring:
    """Reachable from itself alone, once its name is gone."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def collector():
    thresholds = gc.get_threshold()
    found = Collector()
    found.start()
    yield found
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def collections() -> int:
    """Full ones so far."""
    return gc.get_stats()[2]["collections"]


def an_old_ring() -> "weakref.ref[Ring]":
    """Garbage that has outlived the young generations."""
    ring = Ring()
    gc.collect(1)
    gc.collect(1)
    return weakref.ref(ring)


def test_many_objects_that_live_on_bring_no_full_collection(collector):
    """Python's own rule would have made several."""
    before = collections()
    kept = [[number] for number in range(200_000)]
    assert (len(kept), collections()) == (200_000, before)


@pytest.mark.parametrize(
    ("ended", "calls", "collected"),
    [
        pytest.param(0, 0, False, id="nothing-has-ended"),
        pytest.param(1, 0, True, id="nobody-talks"),
        pytest.param(ENDED_MAX - 1, 1, False, id="few-have-ended-beside-others"),
        pytest.param(ENDED_MAX, 1, True, id="many-have-ended-beside-others"),
    ],
)
def test_old_garbage_goes_when_nobody_talks_or_after_many_calls(collector, ended, calls, collected):
    """And once: the next beat has nothing to do."""
    ring = an_old_ring()
    for _ in range(ended):
        collector.ended()
    assert collector.beat(calls) is collected
    assert (ring() is None) is collected
    assert collector.beat(calls) is False
