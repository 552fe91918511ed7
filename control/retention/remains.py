"""What is left of JSON when texts, or telephone numbers, are taken out of it. Pure.

Texts: of a line of the timeline figures and our own words stay (`KEPT`), everything else that is a text goes, so
that a field which a later version adds is erased until somebody has looked at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy import replace_numbers

ERASED = "erased"
"""Stands where a number was."""
PERSON_MIN_CHARS = 4
"""A shorter caller id is no number of anybody, and may be part of any word."""

KEPT = frozenset(
    (
        *("result", "blame", "status", "kind", "by", "mode", "source"),
        *("outcome", "worker", "call", "conversation_id", "twilio_call_sid", "stream_sid", "sid"),
        *("message_id", "tool", "answered_by", "waiting_for", "until", "side", "leg"),
        *("code", "format", "caller_audio", "agent_audio"),
    )
)
"""Keys of timeline data whose texts are ours or a provider's, never a person's."""
LEG_TEXTS = frozenset(("announce", "otherwise", "summary", "reason", "why"))
"""Keys of a call's legs that hold what was said or written."""
METADATA_KEPT = frozenset(("purpose", "subject", "debt_id"))
"""Of a call's metadata: caps count by them. They go with the number."""
ANALYSIS_KEPT = frozenset(("status", "source", "received_at", "successful"))


def without_texts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Data of a timeline's line without texts that are not ours."""
    left: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            left[key] = without_texts(value)
        elif isinstance(value, list | tuple):
            left[key] = [one for one in value if not isinstance(one, str | Mapping | list | tuple)]
        elif not isinstance(value, str) or key in KEPT:
            left[key] = value
    return left


def legs_without_texts(legs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's legs without what was said in them."""
    return {
        name: {key: value for key, value in leg.items() if key not in LEG_TEXTS}
        if isinstance(leg, Mapping)
        else leg
        for name, leg in legs.items()
    }


def only(keys: frozenset[str], data: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part of an object that has these keys."""
    return {key: value for key, value in (data or {}).items() if key in keys}


def without_numbers(value: Any, person: str | None, ours: frozenset[str]) -> Any:
    """The value with `ERASED` for the person's number or address, and for every E.164 number that is not ours."""
    if isinstance(value, str):
        if person and len(person) >= PERSON_MIN_CHARS:
            value = value.replace(person, ERASED)
        return replace_numbers(value, lambda number: number if number in ours else ERASED)
    if isinstance(value, Mapping):
        return {
            without_numbers(key, person, ours): without_numbers(item, person, ours)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_numbers(item, person, ours) for item in value]
    return value
