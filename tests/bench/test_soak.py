"""The soak's own judgement, and a very short one through the real daemon."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from bench import soak
from bench.load import procfs
from bench.load.plan import StepPlan
from bench.load.steps import Bench, StepFailed
from bench.soak import SLOPE_MAX_KIB_PER_MIN, Sample, Watcher, account, slope_kib_per_min

GOOD: dict[str, Any] = {
    "account": {"calls_failed": 0, "balances": True},
    "underruns": 0,
    "calls": 2,
    "short_calls": 1,
    "verdict": {"refused": []},
}


def watched(kib_per_min: float = 0.0, more_sockets: int = 0, role: str = "worker") -> Watcher:
    """Ten minutes of one process."""
    made = Watcher(begin_s=0.0, end_s=600.0, roles={1: role}, idle={1: ["pipe", "socket"]})
    made.final = {1: ["pipe", "socket"] + ["socket"] * more_sockets}
    made.samples = {
        1: [Sample(at, 1, 50_000 + round(kib_per_min * at / 60), 9) for at in range(0, 601, 10)]
    }
    return made


def missed(watcher: Watcher, *, is_judged: bool = True, **changes: Any) -> list[str]:
    found: list[str] = account(watcher, GOOD | changes, is_judged=is_judged)["missed"]
    return found


def test_slope_is_that_of_the_line() -> None:
    """Noise around it does not matter, and too few samples say nothing."""
    assert slope_kib_per_min(watched(120.0).samples[1]) == pytest.approx(120.0, rel=0.01)
    noisy = [
        Sample(s.at_s, 1, s.pss_kib + (-1) ** n * 300, 1)
        for n, s in enumerate(watched().samples[1])
    ]
    assert abs(slope_kib_per_min(noisy)) < 5.0
    assert slope_kib_per_min(noisy[:2]) == 0.0


def test_flat_memory_and_all_descriptors_back_hold() -> None:
    """Nothing is missed."""
    assert missed(watched()) == []


@pytest.mark.parametrize(
    ("watcher", "changes", "said"),
    [
        (watched(SLOPE_MAX_KIB_PER_MIN * 1.1), {}, "grows by 70 KiB"),
        (watched(more_sockets=1), {}, "has not closed {'socket': 1}"),
        (watched(more_sockets=33, role="control"), {}, "has not closed {'socket': 33}"),
        (watched(), {"underruns": 1}, "1 underruns"),
        (watched(), {"account": {"calls_failed": 2, "balances": True}}, "2 calls failed"),
        (watched(), {"account": {"calls_failed": 0, "balances": False}}, "do not balance"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_may_not_be_is_said(watcher: Watcher, changes: dict[str, Any], said: str) -> None:
    """One line each; control's pools may stay open."""
    (line,) = missed(watcher, **changes)
    assert said in line
    assert missed(watched(more_sockets=32, role="control")) == []


def test_gaps_of_a_generator_that_was_late_are_not_judged() -> None:
    """Nor is the run called good: its exit code is another one."""
    late = {"refused": ["generator was late by 14.4 ms at p99"]}
    found = account(watched(), GOOD | {"underruns": 9, "verdict": late}, is_judged=True)
    assert (found["missed"], found["refused"]) == ([], late["refused"])


def test_short_window_is_not_judged_by_its_slope() -> None:
    """Caches that fill look like a leak."""
    assert missed(watched(1000.0), is_judged=False) == []


def test_process_that_died_is_missed() -> None:
    """It has no descriptors at all."""
    watcher = watched()
    watcher.final = {1: []}
    assert missed(watcher) == ["worker 1 has died"]


def test_descriptors_and_memory_of_this_process_are_read() -> None:
    """An open file is one more, by its path."""
    before = procfs.descriptors(os.getpid())
    with open(__file__, "rb"):
        more = procfs.descriptors(os.getpid())
    assert len(more) == len(before) + 1
    assert __file__ in more
    assert procfs.rss_kib(os.getpid()) > 1_000


def test_soak_of_five_calls_gives_every_descriptor_back() -> None:
    """Ten seconds through real processes; gaps are not judged, for this machine may have other work."""
    cores = set(os.sched_getaffinity(0))
    plan = StepPlan(
        calls=5, seconds=10.0, warmup_s=0.5, ramp_per_s=20.0, churn_per_s=1.0, fill_calls=8
    )
    watcher = Watcher(every_s=1.0)
    found = soak.soak(plan, Bench(cores, cores), watcher)
    assert [line for line in found["missed"] if "underruns" not in line] == []
    assert found["short_calls"] >= 8 + 5
    assert {one["role"] for one in found["processes"]} == {"worker", "control"}
    worker = next(one for one in found["processes"] if one["role"] == "worker")
    assert worker["descriptors"]["peak"] >= worker["descriptors"]["idle"] + 2 * 5
    assert all(len(samples) >= 5 for samples in found["samples"].values())


def test_soak_that_breaks_off_keeps_what_was_read(tmp_path, monkeypatch, capsys) -> None:
    """It may have been on for an hour."""

    def breaks_off(plan: StepPlan, bench: Bench, watcher: Watcher) -> dict[str, Any]:
        assert (plan.calls, plan.fill_calls, bench.priority) == (7, 11, 3)
        watcher.samples[4] = [Sample(1.0, 5, 6, 7)]
        raise StepFailed("the generator has stalled")

    monkeypatch.setattr(soak, "soak", breaks_off)
    path = tmp_path / "out" / "soak.json"
    options = ["--calls", "7", "--fill", "11", "--priority", "3", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["soak", *options])
    assert soak.main() == soak.EXIT_MISSED
    assert "stalled" in capsys.readouterr().err
    kept = json.loads(path.read_text())
    sample = {"at_s": 1.0, "rss_kib": 5, "pss_kib": 6, "descriptors": 7}
    assert kept == {"failed": "the generator has stalled", "samples": {"4": [sample]}}
