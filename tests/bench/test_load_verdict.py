"""When figures count, and what the report makes of them."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench.load import report
from bench.load.steps import judge
from bench.load.svg import line_chart
from bench.load.tally import Tally


def result(**changes: Any) -> dict[str, Any]:
    """A good step; `changes` replace whole groups."""
    spread = {"count": 10, "p50": 1.0, "p99": 2.0, "p999": 3.0, "max": 3.0}
    made: dict[str, Any] = {
        "target": "tandem",
        "calls": 100,
        "uplink_ms": spread,
        "clear_ms": spread,
        "first_word_ms": spread,
        "lead_ms": spread,
        "underruns": 0,
        "errors": {},
        "over_time": [
            {
                "s": second,
                "lead_mean_ms": 80.0,
                "lead_min_ms": 70.0,
                "underruns": 0,
                "underrun_ms": 0.0,
                "uplink_p99_ms": 2.0,
            }
            for second in range(3)
        ],
        "cpu": {"worker_us": 800.0, "worker_user_us": 400.0, "worker_share": 0.08, "control_us": 9},
        "memory": {"worker_kib_per_call": 50.0},
        "noise": {"others_share": 0.01, "stolen_share": 0.0},
        "generator": {
            "cpu_share": 0.4,
            "lateness_ms": {"p99": 1.0},
            "frames": 5000,
            "frames_due": 5000,
        },
        "account": {"calls_failed": 0, "balances": True},
    }
    made = copy.deepcopy(made) | changes
    made["verdict"] = judge(made)
    return made


def test_verdict_of_a_good_step_is_valid_and_holds() -> None:
    """Nothing refused, nothing missed."""
    assert result()["verdict"] == {"valid": True, "refused": [], "holds": True, "missed": []}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"cpu_share": 0.99}, "of its core"),
        ({"lateness_ms": {"p99": 9.0}}, "late"),
        ({"frames": 4000}, "too few frames"),
    ],
)
def test_verdict_refuses_figures_of_a_generator_that_was_the_bottleneck(
    change: dict[str, Any], word: str
) -> None:
    """Each of the three signs is enough, and the report has no plot of it."""
    found = result(generator=result()["generator"] | change)
    assert not found["verdict"]["valid"]
    assert word in found["verdict"]["refused"][0]
    assert report.medians([found]) == []
    assert "refused" in report.outcome(found)


@pytest.mark.parametrize(
    "change",
    [
        {"underruns": 1},
        {"uplink_ms": {"count": 5, "p50": 1.0, "p99": 20.5}},
        {"uplink_ms": {"count": 0}},
        {"account": {"calls_failed": 1, "balances": True}},
        {"account": {"calls_failed": 0, "balances": False}},
    ],
)
def test_verdict_of_a_target_that_misses_is_valid_but_does_not_hold(
    change: dict[str, Any],
) -> None:
    """These figures count, and they are bad."""
    verdict = result(**change)["verdict"]
    assert verdict["valid"]
    assert not verdict["holds"]


def test_ratios_compare_medians_at_the_same_number_of_calls() -> None:
    """Three runs of ours against one of another target."""
    ours = [result(cpu=result()["cpu"] | {"worker_us": us}) for us in (700.0, 800.0, 5000.0)]
    other = result(target="relay-epoll", cpu=result()["cpu"] | {"worker_us": 400.0})
    lonely = result(target="picows-uvloop", calls=200)
    assert report.ratios(report.medians([*ours, other, lonely])) == [
        "tandem / relay-epoll at 100 calls: 2.00 × the CPU"
    ]


def test_page_needs_no_network_and_names_every_step() -> None:
    """No reference to anything outside of the file."""
    page = report.page([result(), result(target="relay-epoll")], {"command": "a < b"})
    assert "a &lt; b" in page
    assert page.count("<svg") == page.count("</svg>") == 6
    for foreign in ("src=", "href=", "@import", "url("):
        assert foreign not in page


@pytest.mark.parametrize("points", [[], [(1.0, 0.0)], [(1.0, 2.0), (5.0, 1e-4), (3.0, 900.0)]])
@pytest.mark.parametrize("log_y", [False, True])
def test_chart_of_any_points_is_well_formed(points: list[tuple[float, float]], log_y: bool) -> None:
    """Empty, single, and over seven orders of magnitude."""
    ET.fromstring(line_chart("<t>", "x", "y", {"a&b": points}, log_y=log_y))


def test_tally_counts_frames_by_when_they_were_sent() -> None:
    """A frame that was sent in the window counts, however late it came."""
    tally = Tally()
    tally.open(10.0)
    tally.close(11.0)
    tally.uplink([9.9, 10.0, 10.5, 11.0], [9.91, 10.02, 12.5])
    assert tally.summary()["uplink_ms"]["count"] == 2
    assert tally.summary()["uplink_ms"]["max"] == pytest.approx(2000.0)
