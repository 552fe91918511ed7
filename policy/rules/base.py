"""How a built-in rule is written: a pure function of facts, law and settings, and a row that defines it.

A rule that does not concern a call (marketing rules and an informational call, say) allows with the reason
`not_applicable`. A rule that needs what is not known refuses with `not_known` and names the fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeAlias

from policy.decision import Obligation, RuleResult
from policy.facts import Facts
from policy.law import Law

Answer: TypeAlias = RuleResult | tuple[RuleResult, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """Results of one rule."""

    id: str
    version: int

    def allow(self, reason: str, /, *duties: Obligation, **inputs: Any) -> RuleResult:
        return RuleResult(self.id, self.version, "allow", reason, inputs, None, duties)

    def deny(self, reason: str, /, **inputs: Any) -> RuleResult:
        return RuleResult(self.id, self.version, "deny", reason, inputs)

    def defer(self, retry_at: datetime, reason: str, /, **inputs: Any) -> RuleResult:
        return RuleResult(self.id, self.version, "defer", reason, inputs, retry_at)

    def missing(self, what: str) -> RuleResult:
        """Absence of data denies; `what` is the field of `Facts`."""
        return RuleResult(self.id, self.version, "deny", "not_known", {"missing": what})

    def of(self, part: str) -> Say:
        """For one state, country or figure: `TIME-ST` → `TIME-ST-FL`."""
        return Say(f"{self.id}-{part}", self.version)


# ---- settings --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number or a fraction within bounds. Where law stands behind it, the bound is the law's figure."""

    default: float
    low: float
    high: float
    whole: bool = True

    def read(self, value: object) -> float:
        wanted = "a whole number" if self.whole else "a number"
        good = isinstance(value, int) or (not self.whole and isinstance(value, float))
        if not good or isinstance(value, bool) or not self.low <= value <= self.high:  # type: ignore[operator]
            raise ValueError(f"expected {wanted}, {self.low:g} to {self.high:g}")
        return value  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Flag:
    """A switch. Its name begins with `permit_` where turning it on allows more."""

    default: bool

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value


@dataclass(frozen=True, slots=True)
class Day:
    """A date, `2027-05-01` without quotes; None by default."""

    default: date | None = None

    def read(self, value: object) -> date:
        if not isinstance(value, date) or isinstance(value, datetime):
            raise ValueError("expected a date such as 2027-05-01")
        return value


Setting: TypeAlias = Number | Flag | Day


def read_settings(known: Mapping[str, Setting], table: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting with its value. Raises ValueError naming the key."""
    for key in table:
        if key not in known:
            there = f"; there are: {', '.join(known)}" if known else ": this rule takes no settings"
            raise ValueError(f"unknown key {key!r}{there}")
    found: dict[str, Any] = {}
    for key, setting in known.items():
        if key not in table:
            found[key] = setting.default
            continue
        try:
            found[key] = setting.read(table[key])
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return found


# ---- definitions -----------------------------------------------------------------------------------

Judge: TypeAlias = Callable[["Ask"], Answer]


@dataclass(slots=True)
class Ask:
    """What a rule's function gets: how to answer, the facts, the law and the rule's settings."""

    say: Say
    facts: Facts
    law: Law
    set: Mapping[str, Any]

    @property
    def is_marketing(self) -> bool:
        return self.facts.judged_purpose == "marketing"

    def has_switch(self, name: str) -> bool:
        """A permission that an operator turned on for the tenant."""
        tenant = self.facts.tenant
        return tenant is not None and name in tenant.switches


@dataclass(frozen=True, slots=True)
class Define:
    """A built-in rule. `directions` and `channels`: elsewhere it is not applicable.

    `marketing`: judged for marketing alone. `recheck`: judged at the answer too; the attempt that rings must
    not be counted against itself. `replies`: judged for the one answer that is due to a STOP or HELP.
    """

    id: str
    version: int
    judge: Judge
    settings: Mapping[str, Setting] = field(default_factory=dict)
    directions: frozenset[str] = frozenset({"outbound"})
    channels: frozenset[str] = frozenset({"voice", "sms"})
    marketing: bool = False
    recheck: bool = True
    replies: bool = False
    needs: tuple[str, ...] = ()
    """Names of rules that have to be there too: this one leaves cases to them."""

    @property
    def name(self) -> str:
        """`TIME-FED` → `time_fed`."""
        return self.id.lower().replace("-", "_")

    def make(self, table: Mapping[str, Any], law: Law) -> BuiltIn:
        """Raises ValueError naming the wrong key."""
        return BuiltIn(self, law, read_settings(self.settings, table))


class BuiltIn:
    """A rule of ours with its settings. The result for calls that it does not concern is made once."""

    __slots__ = ("_aside", "_define", "_law", "_say", "_settings", "id", "version")

    def __init__(self, define: Define, law: Law, settings: Mapping[str, Any]) -> None:
        self.id = define.id
        self.version = define.version
        self._define = define
        self._law = law
        self._settings = settings
        self._say = Say(define.id, define.version)
        self._aside = self._say.allow("not_applicable")

    def __call__(self, facts: Facts, /) -> Answer:
        define = self._define
        if (
            facts.direction not in define.directions
            or facts.channel not in define.channels
            or (define.marketing and facts.judged_purpose != "marketing")
            or (not define.recheck and facts.phase == "answer")
            or (not define.replies and facts.channel == "sms" and is_due_reply(facts))
        ):
            return self._aside
        return define.judge(Ask(self._say, facts, self._law, self._settings))


def is_due_reply(facts: Facts) -> bool:
    """The confirmation of a STOP, or the answer to HELP: owed also to those who opted out."""
    return facts.channel == "sms" and facts.sms is not None and facts.sms.is_reply is not None


OUTBOUND = frozenset({"outbound"})
DIALLED = frozenset({"outbound", "transfer"})
"""Whatever makes a telephone ring: a transfer's destination is called too."""
INBOUND = frozenset({"inbound"})
ALL_DIRECTIONS = frozenset({"outbound", "transfer", "inbound"})
VOICE = frozenset({"voice"})
SMS = frozenset({"sms"})
