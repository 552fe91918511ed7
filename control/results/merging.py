"""One result of all conversations that a call had. Pure.

A redial and a return from a transfer begin a conversation of their own, and ElevenLabs analyses each by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from control.results.conversation import DONE, Findings, Turn

UNKNOWN = "unknown"
"""ElevenLabs' word for a criterion that could not be judged; it says less than an earlier judgement."""


def in_order(parts: Iterable[Findings]) -> list[Findings]:
    """By their beginnings, where all of them tell one; else as given."""
    given = list(parts)
    if any(part.began_s is None for part in given):
        return given
    return sorted(given, key=lambda part: part.began_s or 0.0)


def merged(parts: Sequence[Findings]) -> Findings:
    """At least one part, in order. Of a field, the last value that says something counts; costs are added up.

    What could not be analysed adds its cost and its turns. It is `done` when one of the parts is.
    """
    if len(parts) == 1:
        return parts[0]
    analysed = [part for part in parts if part.status == DONE]
    last = (analysed or parts)[-1]
    collected: dict[str, Any] = {}
    rationales: dict[str, str] = {}
    evaluation: dict[str, Any] = {}
    successful = None
    for part in analysed:
        for name, value in part.collected.items():
            if name not in collected or not _is_nothing(value):
                collected[name] = value
                rationales |= {name: part.rationales[name]} if name in part.rationales else {}
        for name, judged in part.evaluation.items():
            if name not in evaluation or judged.get("result") != UNKNOWN:
                evaluation[name] = judged
        if successful is None or part.successful not in (None, UNKNOWN):
            successful = part.successful
    summaries = [part.summary for part in analysed if part.summary]
    return replace(
        last,
        summary="\n\n".join(summaries) or None,
        title=next((part.title for part in reversed(analysed) if part.title), None),
        successful=successful,
        collected=collected,
        rationales=rationales,
        evaluation=evaluation,
        cost=_sum(part.cost for part in parts),
        turns=_one_talk(parts),
        began_s=parts[0].began_s,
    )


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _sum(costs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for cost in costs:
        for name, value in cost.items():
            total[name] = total.get(name, 0) + value
    return total


def _one_talk(parts: Sequence[Findings]) -> tuple[Turn, ...]:
    """All turns, timed from the first part's beginning; behind the former part where times are not told."""
    turns: list[Turn] = []
    for part in parts:
        after_s = turns[-1].at_s if turns else 0.0
        if part.began_s is not None and parts[0].began_s is not None:
            after_s = part.began_s - parts[0].began_s
        turns += [replace(turn, at_s=after_s + turn.at_s) for turn in part.turns]
    return tuple(turns)
