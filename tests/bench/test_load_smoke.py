"""Five calls for two seconds through the whole daemon, in real processes. Nothing is timed; counts must balance."""

from __future__ import annotations

import os
from typing import Any

import pytest

from bench.load.plan import StepPlan
from bench.load.steps import Bench, run_step

CALLS = 5


def step(target: str, **changes: Any) -> dict[str, Any]:
    """One small step, wherever there is room."""
    cores = set(os.sched_getaffinity(0))
    plan = StepPlan(
        calls=CALLS, seconds=2.0, warmup_s=0.5, ramp_per_s=20.0, barge_share=0.4, **changes
    )
    return run_step(target, plan, Bench(cores, cores, with_records=True), lambda event: None)


@pytest.mark.parametrize(
    "changes", [{}, {"audio_format": "pcm_16000"}, {"tls": True, "alignment": True}]
)
def test_load_through_the_daemon_accounts_for_every_frame(changes: dict[str, Any]) -> None:
    """Sent by callers = heard by agents = in the call records; said by agents = heard by callers."""
    found = step("tandem", **changes)
    assert found["errors"] == {}
    assert found["states"] == {"ended": CALLS}
    assert found["account"]["balances"], found["account"]
    assert found["records"] == {
        "calls": CALLS,
        "statuses": ["completed"],
        "caller_frames": found["account"]["frames_sent"],
        "frames_passed_on": found["account"]["frames_sent"],
        "agree": True,
    }
    assert found["uplink_ms"]["count"] > 0.9 * CALLS * 2.0 * 50
    assert found["first_word_ms"]["count"] == CALLS


@pytest.mark.parametrize("target", ["relay-epoll", "trio-websocket"])
def test_load_through_a_baseline_accounts_for_every_frame(target: str) -> None:
    """What is compared with must not lose anything either."""
    found = step(target)
    assert found["errors"] == {}
    assert found["account"]["balances"], found["account"]
    assert found["cpu"]["worker_us"] > 0
