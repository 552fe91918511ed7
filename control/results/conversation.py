"""A conversation as ElevenLabs tells it, from a webhook or from its REST API; both have one shape. Pure.

Read leniently: whatever is missing or of another type is taken as not said, for a call's record must not
depend on a field that was renamed.

Source: ElevenLabs API reference, "Get conversation details"; "Post-call webhooks".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DONE = "done"
FAILED = "failed"
FINAL = frozenset((DONE, FAILED))
DROPPED = ("full_audio", "otlp_traces")
"""Not kept: audio has its own place, traces are for another reader."""

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One entry of its transcript."""

    role: str
    text: str
    at_s: float
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """What is used of a conversation. `collected` is `{field: raw value}`."""

    status: str
    summary: str | None
    title: str | None
    successful: str | None
    collected: dict[str, Any]
    rationales: dict[str, str]
    evaluation: dict[str, Any]
    cost: dict[str, Any]
    reason: str | None
    turns: tuple[Turn, ...]
    began_s: float | None = None
    """Unix time."""


def findings(data: Mapping[str, Any]) -> Findings:
    """Read a conversation object."""
    analysis = _object(data.get("analysis"))
    metadata = _object(data.get("metadata"))
    collected, rationales = {}, {}
    for name, item in _by_name(analysis, "data_collection_results", "data_collection_id").items():
        collected[name] = item.get("value")
        if isinstance(item.get("rationale"), str):
            rationales[name] = item["rationale"]
    error = _object(metadata.get("error"))
    return Findings(
        status=str(data.get("status") or ""),
        summary=_text(analysis.get("transcript_summary")),
        title=_text(analysis.get("call_summary_title")),
        successful=_text(analysis.get("call_successful")),
        collected=collected,
        rationales=rationales,
        evaluation={
            name: {
                key: item.get(key)
                for key in ("result", "rationale", "score", "max_score")
                if item.get(key) is not None
            }
            for name, item in _by_name(
                analysis, "evaluation_criteria_results", "criteria_id"
            ).items()
        },
        cost=_cost(metadata),
        reason=_text(error.get("reason")) or _text(metadata.get("termination_reason")),
        turns=_turns(data.get("transcript")),
        began_s=_number(metadata.get("start_time_unix_secs")),
    )


def kept(data: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what is not kept."""
    return {name: value for name, value in data.items() if name not in DROPPED}


def _by_name(analysis: Mapping[str, Any], member: str, key: str) -> dict[str, dict[str, Any]]:
    """The results by name; the list form where only that is there."""
    found = analysis.get(member)
    if isinstance(found, dict) and found:
        return {str(name): item for name, item in found.items() if isinstance(item, dict)}
    listed = analysis.get(member + "_list")
    if not isinstance(listed, list):
        return {}
    return {str(item[key]): item for item in listed if isinstance(item, dict) and item.get(key)}


def _cost(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Credits, the charge in dollars where it is told, and what the model cost of it."""
    charging = _object(metadata.get("charging"))
    named = {
        "credits": metadata.get("cost"),
        "usd": metadata.get("cost_fiat"),
        "duration_s": metadata.get("call_duration_secs"),
        "call_credits": charging.get("call_charge"),
        "llm_credits": charging.get("llm_charge"),
        "llm_usd": charging.get("llm_price"),
    }
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _turns(given: Any) -> tuple[Turn, ...]:
    if not isinstance(given, list):
        return ()
    found = []
    for item in given:
        if not isinstance(item, dict) or not isinstance(item.get("message"), str):
            continue
        at_s = item.get("time_in_call_secs")
        found.append(
            Turn(
                role="user" if item.get("role") == "user" else "agent",
                text=item["message"],
                # Not what JSON may say beyond it: infinity, or more than a call can last.
                at_s=float(at_s) if isinstance(at_s, int | float) and 0 <= at_s < DAY_S else 0.0,
                interrupted=item.get("interrupted") is True,
            )
        )
    return tuple(found)


def _object(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _number(given: Any) -> float | None:
    return float(given) if isinstance(given, int | float) and not isinstance(given, bool) else None


def _text(given: Any) -> str | None:
    return given if isinstance(given, str) and given.strip() else None
