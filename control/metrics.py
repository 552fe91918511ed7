"""Prometheus metrics: the counters that the parts of control count up, and the workers' own.

One `Metrics` is made by the composition root and passed in; it has its own registry, so tests do not
share one. Label values come from small fixed sets, never from a client: an unknown path counts as
`other`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

QUICK_S = (0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the histograms: what a caller does not notice, what a person waits for, what a deadline ends."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A second series with the birth of every counter doubles the page and says nothing here.
disable_created_metrics()  # type: ignore[no-untyped-call]


class WorkerStats(Protocol):
    """What the worker pool says about one worker."""

    @property
    def worker_id(self) -> str: ...
    @property
    def calls(self) -> int: ...
    @property
    def counters(self) -> Mapping[str, int | float]: ...
    @property
    def timings(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def admits(self) -> bool: ...


class Metrics:
    """The counters, by their names without `tandem_` and `_total`."""

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry()
        self.webhooks = self._counter(
            "webhooks", "Webhooks received, by path and what became of them.", "path", "outcome"
        )
        self.connections_crowded = self._counter(
            "public_connections_crowded",
            "Over the bound of connections: `cut` before a whole request came, or `refused`.",
            "what",
        )
        self.signature_failures = self._counter(
            "signature_failures", "Requests refused for a missing or wrong provider signature."
        )
        self.calls = self._counter(
            "calls", "Calls that have ended.", "direction", "result", "blame"
        )
        self.calls_turned_away = self._counter(
            "calls_turned_away", "Inbound calls that heard busy for a limit of ours.", "why"
        )
        self.policy_decisions = self._counter(
            "policy_decisions", "Policy decisions, by the rule that decided.", "outcome", "rule"
        )
        self.tickets_refused = self._counter(
            "tickets_refused", "Media streams refused by their ticket.", "why"
        )
        self.twilio_requests = self._counter(
            "twilio_requests", "Requests to Twilio's REST API.", "endpoint", "outcome"
        )
        self.outbox_runs = self._counter(
            "outbox_runs", "Attempts at work of the outbox.", "kind", "outcome"
        )
        self.telemetry_calls = self._counter(
            "telemetry_calls", "Calls whose trace was to be exported.", "outcome"
        )
        self.erased = self._counter(
            "erased", "Calls and messages of which something was erased.", "what"
        )
        self.provider_events = self._counter(
            "provider_events", "Errors and warnings that providers told of.", "provider", "level"
        )
        self.transfers = self._counter(
            "transfers", "Transfers that have ended.", "by", "mode", "status"
        )
        self.tool_calls = self._counter(
            "tool_calls", "Client tools that agents asked for.", "tool", "outcome"
        )
        self.tool_seconds = self._histogram(
            "tool_seconds", "From an agent's question to its answer.", QUICK_S, "tool"
        )
        self.provider_seconds = self._histogram(
            "provider_request_seconds",
            "Requests to the providers' REST APIs, each attempt.",
            QUICK_S,
            "provider",
            "endpoint",
        )
        self.rule_decisions = self._counter(
            "rule_decisions", "What each policy rule said.", "rule", "outcome"
        )
        self.barge_ins = self._counter("barge_ins", "Times a caller spoke over the agent.")
        self.underruns = self._counter(
            "playout_underruns", "Gaps inside what agents said, by who was late.", "blame"
        )
        self.aged_frames = self._counter(
            "caller_audio_aged_frames", "Frames of caller audio dropped for being too old."
        )
        self.first_audio_seconds = self._histogram(
            "first_audio_seconds", "From the stream's start to the agent's first audio.", QUICK_S
        )
        self.dial_queue_waiting = self._gauge("dial_queue_waiting", "Outbound calls in the queue.")
        self.dial_queue_oldest_s = self._gauge(
            "dial_queue_oldest_seconds", "How long the oldest due call has waited to be dialled."
        )
        self.outbox_waiting = self._gauge(
            "outbox_waiting", "Deliveries to be made, by kind.", "kind"
        )
        self.outbox_oldest_s = self._gauge(
            "outbox_oldest_seconds", "How long the oldest due delivery has waited."
        )
        self.outbox_dead = self._gauge("outbox_dead_letters", "Deliveries that were given up.")
        self.worker_events_waiting = self._gauge(
            "worker_events_waiting", "Messages of workers that the switchboard has not read."
        )
        self.api_requests = self._counter(
            "api_requests", "Requests to the control API.", "method", "route", "status"
        )
        self.calls_live = self._gauge("calls_live", "Calls that have not ended.")
        self.conversations = self._gauge(
            "agent_conversations", "Agent conversations of this daemon, open or about to be."
        )
        self.conversations_max = self._gauge(
            "agent_conversations_max", "As many may all daemons have at once; 0 = not known."
        )
        self.draining = self._gauge("draining", "1 while no new calls are taken.")
        self._workers = _WorkerCollector()
        self.registry.register(self._workers)
        if version:
            self._gauge("build_info", "The version that runs.", "version").labels(version).set(1)

    def render(self, workers: Sequence[WorkerStats] = ()) -> bytes:
        """The page for a scrape, in CONTENT_TYPE. `workers` is the pool's state of this moment."""
        self._workers.stats = tuple(workers)
        return generate_latest(self.registry)

    def times_of(self, provider: str) -> Callable[[str, float], None]:
        """What a client of this provider tells: an endpoint's name, and the seconds that a request took."""
        return lambda endpoint, seconds: self.provider_seconds.labels(provider, endpoint).observe(
            seconds
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tandem_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"tandem_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"tandem_{name}", text, labels, registry=self.registry)


MEASURED = frozenset(
    {
        "load_percent",
        "frames_per_message",
        "tick_lateness_p95_ms",
        "tick_lateness_p99_ms",
        "tick_lateness_max_ms",
        "uplink_latency_p99_ms",
        "clear_latency_p99_ms",
        "loop_lag_ms",
    }
)
"""Figures of a worker that go up and down; all others count up since its start."""


class _WorkerCollector(Collector):
    """The workers' figures as they came with the last heartbeat, each `tandem_media_<name>`.

    What was measured over the last seconds is a gauge (`MEASURED`), what counts up a counter, and timings are
    histograms in seconds: of these `rate()` makes any window. The worker's own `calls` is left to the pool,
    which knows it earlier.
    """

    stats: tuple[WorkerStats, ...] = ()

    def collect(self) -> Iterable[Metric]:
        calls = GaugeMetricFamily(
            "tandem_media_calls", "Calls on a media worker.", labels=["worker"]
        )
        admits = GaugeMetricFamily(
            "tandem_media_admits", "1 while new calls are placed on the worker.", labels=["worker"]
        )
        families: dict[str, Metric] = {}
        for worker in self.stats:
            calls.add_metric([worker.worker_id], worker.calls)
            admits.add_metric([worker.worker_id], float(worker.admits))
            for name, value in worker.counters.items():
                clean = re.sub(r"[^a-zA-Z0-9_]", "_", name).removesuffix("_total")
                if clean != "calls":
                    family = families.setdefault(clean, _family(clean))
                    family.add_metric([worker.worker_id], value)  # type: ignore[attr-defined]  # both kinds have it
            for name, timing in worker.timings.items():
                full = f"tandem_media_{name}_seconds"
                text = f"Media workers: {name.replace('_', ' ')}, since their start."
                histogram = HistogramMetricFamily(full, text, labels=["worker"])
                family = families.setdefault(full, histogram)
                buckets, sum_s = _seconds(timing)
                family.add_metric([worker.worker_id], buckets, sum_s)  # type: ignore[attr-defined]
        return [calls, admits, *families.values()]


def _family(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    full, labels = f"tandem_media_{name}", ["worker"]
    if name in MEASURED:
        return GaugeMetricFamily(full, f"Media workers: {name}, lately.", labels=labels)
    return CounterMetricFamily(full, f"Media workers: {name}, since their start.", labels=labels)


def _seconds(timing: Mapping[str, Any]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets, and the sum, of a `Heartbeat`'s timing."""
    edges = [f"{edge_ms / 1000:g}" for edge_ms in timing["edges_ms"]]
    counts = itertools.accumulate(timing["counts"])
    buckets = [(edge, float(n)) for edge, n in zip([*edges, "+Inf"], counts, strict=True)]
    return buckets, timing["sum_ms"] / 1000
