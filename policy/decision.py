"""What one rule says, and what all rules together say. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeAlias

from policy.facts import Facts
from policy.sentences import describe

Outcome: TypeAlias = Literal["allow", "deny", "defer"]
STRICTNESS: dict[str, int] = {"allow": 0, "defer": 1, "deny": 2}


@dataclass(frozen=True, slots=True)
class Obligation:
    """What an allow demands of the call: a line to say, a limit to keep, a branch to take.

    `kind` is a stable code (the list is in docs/policy.md), `details` JSON values.
    """

    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.details}


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule's word. `reason` is a stable code; `inputs` is what the rule looked at, JSON values only.

    `retry_at` (with a time zone) goes with `defer` and with nothing else: the first instant at which this
    rule would allow.
    """

    id: str
    version: int
    outcome: Outcome
    reason: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    retry_at: datetime | None = None
    obligations: tuple[Obligation, ...] = ()
    """With `allow` only."""

    def to_dict(self) -> dict[str, Any]:
        """As it is stored and shown."""
        shown: dict[str, Any] = {
            "id": self.id,
            "version": self.version,
            "outcome": self.outcome,
            "reason": self.reason,
            "inputs": dict(self.inputs),
        }
        if self.retry_at is not None:
            shown["retry_at"] = rfc3339(self.retry_at)
        return shown


class Rule(Protocol):
    """A pure function of the facts. Bump `version` on any change of text, figures or data."""

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> int: ...

    def __call__(self, facts: Facts, /) -> RuleResult | tuple[RuleResult, ...]:
        """One result; or several, of which each has this rule's id or `<id>-<something>`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The strictest of all results, with every result kept, in the order of the rules.

    `retry_at` is the first instant at which every rule allows, on what is known now. `retry_path` names the
    rules that still deferred at candidates before it. `versions` names the data that was judged by.
    """

    outcome: Outcome
    rules: tuple[RuleResult, ...]
    decided_at: datetime
    retry_at: datetime | None = None
    retry_path: tuple[tuple[datetime, tuple[str, ...]], ...] = ()
    obligations: tuple[Obligation, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def allowed(self) -> bool:
        """Whether the call may go on now."""
        return self.outcome == "allow"

    @property
    def decided_by(self) -> RuleResult | None:
        """The first rule that spoke the outcome; None when all allowed."""
        if self.allowed:
            return None
        return next(result for result in self.rules if result.outcome == self.outcome)

    @property
    def reason(self) -> str:
        """`RULE-ID: reason_code` of the rule that decided; empty on an allow."""
        result = self.decided_by
        return f"{result.id}: {result.reason}" if result else ""

    @property
    def sentence(self) -> str:
        """The decision in one sentence, for people."""
        return sentence_of(self.decided_by, self.retry_at)

    def to_dict(self) -> dict[str, Any]:
        """The contract's decision object `{allowed, outcome, retry_at?, rules}` and what stands beside it."""
        shown: dict[str, Any] = {"allowed": self.allowed, "outcome": self.outcome}
        if self.retry_at is not None:
            shown["retry_at"] = rfc3339(self.retry_at)
        if self.retry_path:
            shown["retry_path"] = [
                {"at": rfc3339(at), "deferred_by": list(ids)} for at, ids in self.retry_path
            ]
        shown["reason"] = self.reason
        shown["sentence"] = self.sentence
        shown["rules"] = [result.to_dict() for result in self.rules]
        shown["obligations"] = [one.to_dict() for one in self.obligations]
        shown["versions"] = dict(self.versions)
        shown["decided_at"] = rfc3339(self.decided_at)
        return shown


def sentence_of(result: RuleResult | None, retry_at: datetime | None) -> str:
    """What happened and why, in words."""
    if result is None:
        return "All rules allow it."
    said = describe(result.id, result.reason, result.inputs)
    if retry_at is not None:
        return f"{said} The first moment at which every rule allows is {rfc3339(retry_at)}."
    return said


def rfc3339(at: datetime) -> str:
    """An aware time in UTC, e.g. `2026-11-21T09:00:00Z` (RFC 3339)."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
