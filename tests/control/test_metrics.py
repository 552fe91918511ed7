"""Metrics: names, labels, and the workers' counters at the moment of a scrape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from control.metrics import Metrics
from gateway.mediaplane import MediaPlane


@dataclass
class Worker:
    worker_id: str
    calls: int
    counters: dict[str, int | float] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    admits: bool = True


def samples(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_metrics_counted_up_are_on_the_page_under_their_names() -> None:
    """Every counter of the glossary is there with its labels, and all names begin with tandem_."""
    metrics = Metrics(version="1.2.3")
    metrics.webhooks.labels("/twilio/voice", "ok").inc()
    metrics.signature_failures.inc()
    metrics.calls.labels("inbound", "completed", "none").inc(2)
    metrics.policy_decisions.labels("deny", "DNC-INT").inc()
    metrics.tickets_refused.labels("expired").inc()
    metrics.twilio_requests.labels("calls.create", "ok").inc()
    metrics.calls_live.set(3)
    found = samples(metrics.render())
    expected = {
        ("tandem_webhooks_total", (("outcome", "ok"), ("path", "/twilio/voice"))): 1,
        ("tandem_signature_failures_total", ()): 1,
        (
            "tandem_calls_total",
            (("blame", "none"), ("direction", "inbound"), ("result", "completed")),
        ): 2,
        ("tandem_policy_decisions_total", (("outcome", "deny"), ("rule", "DNC-INT"))): 1,
        ("tandem_tickets_refused_total", (("why", "expired"),)): 1,
        (
            "tandem_twilio_requests_total",
            (("endpoint", "calls.create"), ("outcome", "ok")),
        ): 1,
        ("tandem_calls_live", ()): 3,
        ("tandem_draining", ()): 0,
        ("tandem_build_info", (("version", "1.2.3"),)): 1,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_metrics_of_workers_are_those_of_the_scrape() -> None:
    """Counters carry the worker; a worker that is gone is gone from the page."""
    metrics = Metrics()
    page = metrics.render(
        [
            Worker(
                "w1", 2, {"frames_in": 10, "odd name": 1.5, "calls": 7, "tick_lateness_p99_ms": 0.5}
            ),
            Worker("w2", 0, {"frames_in": 4}),
        ]
    )
    found = samples(page)
    assert found["tandem_media_calls", (("worker", "w1"),)] == 2
    assert found["tandem_media_tick_lateness_p99_ms", (("worker", "w1"),)] == 0.5
    assert found["tandem_media_frames_in_total", (("worker", "w1"),)] == 10
    assert found["tandem_media_frames_in_total", (("worker", "w2"),)] == 4
    assert found["tandem_media_odd_name_total", (("worker", "w1"),)] == 1.5
    assert page.count(b"# TYPE tandem_media_frames_in_total counter") == 1
    assert not [key for key in samples(metrics.render()) if key[0].startswith("tandem_media_")]


GAUGES = {
    "load_percent",
    "frames_per_message",
    "tick_lateness_p95_ms",
    "tick_lateness_p99_ms",
    "tick_lateness_max_ms",
    "uplink_latency_p99_ms",
    "clear_latency_p99_ms",
}
COUNTERS = {"wakes", "ticks_missed", "grid_resets"}


async def test_metrics_of_workers_are_what_they_are_called() -> None:
    """`rate()` of a gauge and the last value of a counter say nothing: each figure of a heartbeat has its kind."""
    plane = MediaPlane(leg_write_max_bytes=1000)
    page = Metrics().render([Worker("w1", 0, plane.report(), plane.timings())])
    kinds = {
        family.name.removeprefix("tandem_media_"): family.type
        for family in text_string_to_metric_families(page.decode())
        if family.name.startswith("tandem_media_")
    }
    assert kinds == {
        **dict.fromkeys(GAUGES | {"calls", "admits"}, "gauge"),
        **dict.fromkeys(COUNTERS, "counter"),
        "tick_lateness_seconds": "histogram",
        "uplink_latency_seconds": "histogram",
        "clear_latency_seconds": "histogram",
    }
    assert page.count(b"_total{") == len(COUNTERS)


async def test_lateness_of_the_last_minutes_is_seen_after_days_of_good_ticks() -> None:
    """What an alert does with two scrapes: the difference of the buckets, not a percentile of the whole life."""
    plane = MediaPlane(leg_write_max_bytes=1000)
    metrics = Metrics()
    add = plane.grid.lateness.add

    def late_since(before: dict[Any, float], now: dict[Any, float]) -> float:
        total = name_of_bucket("+Inf")
        good = name_of_bucket("0.02")
        return 1 - (now[good] - before[good]) / (now[total] - before[total])

    def name_of_bucket(edge: str) -> Any:
        return "tandem_media_tick_lateness_seconds_bucket", (("le", edge), ("worker", "w1"))

    def scrape() -> dict[Any, float]:
        return samples(metrics.render([Worker("w1", 1, plane.report(), plane.timings())]))

    for _ in range(1_000_000):
        add(0.1)
    days = scrape()
    for _ in range(2_000):
        add(30.0)
    bad = scrape()
    assert late_since(days, bad) == 1.0
    for _ in range(2_000):
        add(0.1)
    assert late_since(bad, scrape()) == 0.0
    summed = "tandem_media_tick_lateness_seconds_sum", (("worker", "w1"),)
    assert round(bad[summed] - days[summed]) == 60


def test_metrics_of_two_objects_are_apart() -> None:
    """No process-wide registry: what one counts the other does not show."""
    one, other = Metrics(), Metrics()
    one.signature_failures.inc()
    assert samples(other.render())["tandem_signature_failures_total", ()] == 0
