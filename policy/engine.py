"""Run all rules; the strictest wins.

Two rules of this file. Every rule is asked, also after the first refusal: the record must show every
reason. And a rule that cannot answer refuses: whatever it raises, and whatever it returns that is no
proper result, is a deny that names the rule and what was wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from policy.decision import STRICTNESS, Decision, Outcome, Rule, RuleResult, rfc3339
from policy.facts import Facts
from policy.masking import mask_numbers

_DEPTH_MAX = 8


def evaluate(rules: Sequence[Rule], facts: Facts) -> Decision:
    """Ask every rule. `retry_at` is set with `defer` only: the latest that any deferring rule named.

    No rule at all allows: so adding a rule can only ever make a decision stricter.
    """
    results = tuple(_ask(rule, facts) for rule in rules)
    outcome: Outcome = "allow"
    for result in results:
        if STRICTNESS[result.outcome] > STRICTNESS[outcome]:
            outcome = result.outcome
    retry_at = None
    if outcome == "defer":
        retry_at = max(result.retry_at for result in results if result.retry_at is not None)
    return Decision(outcome, results, facts.at, retry_at)


def _ask(rule: Rule, facts: Facts) -> RuleResult:
    """The rule's result with masked inputs, or a deny that says what was wrong with the rule.

    Documented boundary: rules may be plug-ins, and none of their exceptions may become a call.
    """
    rule_id, version = _identity(rule)
    try:
        result = rule(facts)
        fault = _fault(result, rule_id, version, facts)
        if fault is None:
            return replace(result, inputs=_plain(result.inputs))
    except Exception as error:  # noqa: BLE001
        fault = f"rule_error: {type(error).__name__}"
    return RuleResult(rule_id, version, "deny", fault)


def _identity(rule: object) -> tuple[str, int]:
    rule_id = getattr(rule, "id", None)
    version = getattr(rule, "version", None)
    return (
        rule_id if isinstance(rule_id, str) and rule_id else type(rule).__name__,
        version if isinstance(version, int) and not isinstance(version, bool) else 0,
    )


def _fault(result: object, rule_id: str, version: int, facts: Facts) -> str | None:
    """Why this is no proper result; None when it is one."""
    if not isinstance(result, RuleResult):
        return f"rule_invalid: returned {type(result).__name__}"
    if (result.id, result.version) != (rule_id, version):
        return "rule_invalid: result of another rule"
    if not isinstance(result.outcome, str) or result.outcome not in STRICTNESS:
        return "rule_invalid: unknown outcome"
    if not isinstance(result.reason, str) or not result.reason:
        return "rule_invalid: no reason"
    if not isinstance(result.inputs, Mapping):
        return "rule_invalid: inputs are not a table"
    return _retry_fault(result, facts)


def _retry_fault(result: RuleResult, facts: Facts) -> str | None:
    if result.outcome != "defer":
        return None if result.retry_at is None else "rule_invalid: retry_at without defer"
    if not isinstance(result.retry_at, datetime) or result.retry_at.utcoffset() is None:
        return "rule_invalid: defer without retry_at"
    # A retry in the past would have the caller of this engine spin.
    return None if result.retry_at > facts.at else "rule_invalid: retry_at is not later"


def _plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON can hold it, telephone numbers masked. Raises TypeError for anything else."""
    if depth > _DEPTH_MAX:
        raise TypeError("inputs are nested too deeply")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str):
        return mask_numbers(value)
    if isinstance(value, datetime):
        return rfc3339(value) if value.utcoffset() is not None else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {mask_numbers(_name(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        items = value if isinstance(value, Sequence) else sorted(value)
        return [_plain(item, depth + 1) for item in items]
    raise TypeError(f"an input of type {type(value).__name__} cannot be recorded")


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError("names of inputs must be text")
    return key
