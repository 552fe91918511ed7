"""What one rule says, and what all rules together say. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeAlias

from policy.facts import Facts

Outcome: TypeAlias = Literal["allow", "deny", "defer"]
STRICTNESS: dict[str, int] = {"allow": 0, "defer": 1, "deny": 2}


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

    def __call__(self, facts: Facts, /) -> RuleResult: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """The strictest of all results, with every result kept, in the order of the rules."""

    outcome: Outcome
    rules: tuple[RuleResult, ...]
    decided_at: datetime
    retry_at: datetime | None = None

    @property
    def allowed(self) -> bool:
        """Whether the call may go on now."""
        return self.outcome == "allow"

    def to_dict(self) -> dict[str, Any]:
        """The contract's decision object: `{allowed, outcome, retry_at?, rules}`, JSON values only."""
        shown: dict[str, Any] = {"allowed": self.allowed, "outcome": self.outcome}
        if self.retry_at is not None:
            shown["retry_at"] = rfc3339(self.retry_at)
        shown["rules"] = [result.to_dict() for result in self.rules]
        return shown


def rfc3339(at: datetime) -> str:
    """An aware time in UTC, e.g. `2026-11-21T09:00:00Z` (RFC 3339)."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
