"""What is measured, second by second."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.load.tally import Tally, by_second


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(-1e6, 1e6))))
def test_values_are_found_in_their_second_in_their_order(pairs):
    at_s, values = np.array([a for a, _ in pairs]), np.array([v for _, v in pairs])
    expected: dict[int, list[float]] = {}
    for at, value in pairs:
        expected.setdefault(int(at), []).append(value)
    found = {second: inside.tolist() for second, inside in by_second(at_s, values).items()}
    assert found == expected


def test_summary_knows_each_second_and_leaves_out_what_was_outside_the_window():
    tally = Tally()
    tally.open(100.0)
    for at_s, lead_s in ((99.0, 0.5), (100.2, 0.08), (100.9, 0.12), (102.5, -0.03)):
        tally.lead(lead_s, at_s)
    tally.close(103.0)
    found = tally.summary()
    seconds = {one["s"]: one for one in found["over_time"]}
    assert sorted(seconds) == [0, 2]
    assert seconds[0]["lead_mean_ms"] == 100.0
    assert seconds[0]["lead_min_ms"] == 80.0
    assert (seconds[2]["underruns"], seconds[2]["underrun_ms"]) == (1, 30.0)
    assert found["underruns"] == 1
    assert seconds[0]["uplink_p99_ms"] is None
