"""What another rule pack, or other rules, would have said of stored attempts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from policy.decision import Decision, Outcome, Rule
from policy.engine import evaluate
from policy.facts import Facts
from policy.masking import mask_number


@dataclass(frozen=True, slots=True)
class Change:
    """One attempt that would be decided otherwise. `index`: its place among those that were given."""

    index: int
    at: datetime
    number: str
    """Masked."""
    before: Outcome
    after: Outcome
    retry_before: datetime | None
    retry_after: datetime | None
    rules_before: tuple[str, ...]
    rules_after: tuple[str, ...]
    sentence: str


def preview(
    before: Sequence[Rule], after: Sequence[Rule], attempts: Iterable[Facts]
) -> Iterator[Change]:
    """Every attempt whose outcome, retry time or deciding rules differ; one decision each way at a time."""
    for index, facts in enumerate(attempts):
        was, becomes = evaluate(before, facts), evaluate(after, facts)
        if _essence(was) != _essence(becomes):
            yield Change(
                index,
                facts.at,
                mask_number(facts.customer_number),
                was.outcome,
                becomes.outcome,
                was.retry_at,
                becomes.retry_at,
                firing(was),
                firing(becomes),
                becomes.sentence,
            )


def firing(decision: Decision) -> tuple[str, ...]:
    """Ids of the rules that did not allow, in their order."""
    return tuple(result.id for result in decision.rules if result.outcome != "allow")


def _essence(decision: Decision) -> tuple[object, ...]:
    return decision.outcome, decision.retry_at, firing(decision)
