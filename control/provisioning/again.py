"""Agents that a provider's outage has kept from going live: tried again by themselves, later and later, for a day.

    failed:    {"name": "live", …, "retries": 2, "retry_at": "2027-01-13T18:03:00+00:00"}: all unfinished steps, anew
    degraded:  {"name": "knowledge_base", …, "retries": 1, "retry_at": …}, or `self_test`: that step alone; the agent
               goes on answering calls meanwhile

What a provider refuses is for a person to put right; then `POST /v2/agents/{id}/retry` goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from control.elevenlabs.workspace import RAG_DONE, RAG_FAILED
from control.provisioning.values import SOFT
from control.store import agents

AFTER_FIRST = timedelta(minutes=1)
AFTER_MAX = timedelta(minutes=30)
RETRIES_MAX = 52
"""The last one comes a day after the first failure."""
LATER = "is_away"
"""Of a failed step: nobody refused it, the provider was away or slow until its deadline."""


def schedule(step: dict[str, Any], now: datetime) -> str:
    """Set down the next try in `step`; returns what to say of it."""
    retries = int(step.get("retries", 0))
    step.pop("retry_at", None)
    if retries >= RETRIES_MAX:
        return "tried again for a day; POST /v2/agents/{id}/retry goes on"
    at = now + min(AFTER_FIRST * 2 ** min(retries, 16), AFTER_MAX)
    step.update(retries=retries + 1, retry_at=at.isoformat())
    return f"tried again at {at:%Y-%m-%d %H:%M:%SZ}"


def forget(step: dict[str, Any]) -> None:
    """No further try: it is done, or was refused."""
    for name in ("retries", "retry_at", LATER):
        step.pop(name, None)


def after_failure(steps: Sequence[dict[str, Any]], failed: Sequence[str], now: datetime) -> str:
    """How a failed agent goes on: by itself when only outages kept it, else by a person's request."""
    by_name = {step["name"]: step for step in steps}
    tried = [name for name in failed if not _was_left_out(by_name[name])]
    if tried and all(by_name[name].get(LATER) for name in tried):
        return schedule(by_name["live"], now)
    return "when that is put right, POST /v2/agents/{id}/retry goes on"


def after_knowledge(
    steps: Sequence[dict[str, Any]], knowledge: dict[str, Any] | None, now: datetime
) -> None:
    """After a change: the step `knowledge_base` is done by now, or is looked at again later."""
    step = next((step for step in steps if step["name"] == "knowledge_base"), None)
    if step is None:
        return
    index = (knowledge or {}).get("index")
    if index in RAG_DONE:
        step["status"] = "done"
        step.pop("error", None)
        forget(step)
    elif knowledge and index is None:
        step.update({"status": "failed", LATER: True})
        step["error"] = f"ElevenLabs still reads the page; {schedule(step, now)}"
    elif step.get(LATER) and index not in RAG_FAILED:
        why = str(step.get("error", "")).partition("; tried again")[0]
        step["error"] = f"{why}; {schedule(step, now)}"


def due_ids(conn: Connection, now: datetime) -> list[str]:
    """Agents whose next try is due."""
    found = agents.with_retries(conn)
    return [agent_id for agent_id, status, steps in found if _due(status, steps, now)]


def take_up(conn: Connection, agent_id: str, now: datetime) -> None:
    """Have the agent's work done again; nothing when somebody was quicker."""
    record = agents.get(conn, agent_id, to_change=True)
    if record is None or record.pending is not None:
        return
    due = _due(record.status, record.steps, now)
    if not due:
        return
    if record.status == "failed":
        steps = [step for step in record.steps if step.get("status") in ("done", "skipped")]
        retries = next(s["retries"] for s in record.steps if s.get("name") == "live")
        steps.append({"name": "live", "status": "pending", "ms": 0, "retries": retries})
        made = record.elevenlabs or {}
        columns: dict[str, Any] = {"status": "provisioning", "provisioning_ended_at": None}
        columns |= {"provisioning_started_at": now}
        if made.get("managed"):  # what was changed while it had failed is not known there yet
            columns["pending"] = "update"
            steps = _asked(steps, now)
    else:
        columns = {"pending": "update"}
        steps = [_taken_up(step, now) if step["name"] in due else step for step in record.steps]
        if "knowledge_base" in due:
            steps = _asked(steps, now)
    agents.update(conn, agent_id, **columns, steps=steps, updated_at=now)


def _taken_up(step: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Of a degraded agent: the page is looked at by the change that is asked for beside it."""
    step = {name: value for name, value in step.items() if name != "retry_at"}
    if step["name"] == "self_test":
        step |= {"status": "pending", "asked_at": now.isoformat()}
    return step


def _asked(steps: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    others = [step for step in steps if step["name"] != "elevenlabs_update"]
    asked = {"name": "elevenlabs_update", "status": "pending", "ms": 0}
    return [*others, {**asked, "asked_at": now.isoformat()}]


def _was_left_out(step: dict[str, Any]) -> bool:
    return str(step.get("error", "")).startswith("not tried, because of: ")


def _due(status: str, steps: Sequence[dict[str, Any]], now: datetime) -> set[str]:
    """Names of the steps with a try that is due."""
    names = {"failed": {"live"}, "degraded": SOFT}.get(status, frozenset())
    return {
        step["name"]
        for step in steps
        if step.get("name") in names
        and step.get("retry_at") is not None
        and datetime.fromisoformat(step["retry_at"]) <= now
    }
