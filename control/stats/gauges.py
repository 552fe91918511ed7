"""What waits, and for how long: gauges that only the store knows, read now and then."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from control.metrics import Metrics
from control.store import outbox
from control.store.dialing import WAITING
from control.store.tables.after_call import outbox as outbox_table
from control.store.tables.dialing import dial_queue

EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """At one instant. Seconds are those since the oldest was due."""

    calls: int
    calls_oldest_s: float
    deliveries: dict[str, int] = field(default_factory=dict)
    deliveries_oldest_s: float = 0.0
    dead: int = 0


def read(conn: Connection, now: datetime) -> Waiting:
    """Counts by index; nothing else is read."""
    q, o = dial_queue.c, outbox_table.c
    calls, due = conn.execute(
        select(func.count(), func.min(q.due_at)).where(q.state == WAITING)
    ).one()
    by_kind: dict[str, int] = {}
    oldest: datetime | None = None
    rows = conn.execute(
        select(o.kind, func.count(), func.min(o.due_at))
        .where(o.status == outbox.PENDING)
        .group_by(o.kind)
    )
    for kind, count, first in rows:
        by_kind[kind] = count
        oldest = first if oldest is None or first < oldest else oldest
    dead = conn.execute(select(func.count()).where(o.status == outbox.DEAD)).scalar_one()
    return Waiting(calls, _age_s(due, now), by_kind, _age_s(oldest, now), dead)


def show(metrics: Metrics, waiting: Waiting, events_waiting: int) -> None:
    """Set the gauges."""
    metrics.dial_queue_waiting.set(waiting.calls)
    metrics.dial_queue_oldest_s.set(waiting.calls_oldest_s)
    metrics.outbox_waiting.clear()
    for kind, count in waiting.deliveries.items():
        metrics.outbox_waiting.labels(kind).set(count)
    metrics.outbox_oldest_s.set(waiting.deliveries_oldest_s)
    metrics.outbox_dead.set(waiting.dead)
    metrics.worker_events_waiting.set(events_waiting)


def count_call(metrics: Metrics, media: dict[str, Any], transfer: Any) -> None:
    """What a call's report says about who was late; from the newest agent leg and those before it."""
    for part in (media, *media.get("before_resume", ())):
        agent, caller = part.get("agent_audio") or {}, part.get("caller_audio") or {}
        metrics.barge_ins.inc(_whole(part.get("barge_ins")))
        metrics.underruns.labels("agent").inc(_whole(agent.get("underruns")))
        metrics.underruns.labels("gateway").inc(_whole(agent.get("late_underruns")))
        metrics.aged_frames.inc(_whole(caller.get("aged_frames")))
        first_ms = part.get("first_audio_ms")
        if isinstance(first_ms, int | float):
            metrics.first_audio_seconds.observe(first_ms / 1000)
    if isinstance(transfer, dict) and transfer.get("status"):
        labels = (transfer.get("by", "api"), transfer.get("mode", "blind"), transfer["status"])
        metrics.transfers.labels(*map(str, labels)).inc()


def _whole(value: Any) -> float:
    return max(0.0, float(value)) if isinstance(value, int | float) else 0.0


def _age_s(due: datetime | None, now: datetime) -> float:
    return 0.0 if due is None else max(0.0, (now - due).total_seconds())
