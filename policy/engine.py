"""Run all rules; the strictest wins.

Three rules of this file. Every rule is asked, also after the first refusal: the record must show every
reason. A rule that cannot answer refuses: whatever it raises, and whatever it returns that is no proper
result, is a deny that names the rule and what was wrong. And a deferral names the first instant at which *all*
rules allow: each of them is asked again at the latest instant that any of them named, until nobody defers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from policy.decision import STRICTNESS, Decision, Obligation, Outcome, Rule, RuleResult, rfc3339
from policy.facts import Facts
from policy.foreign import recordable
from policy.masking import mask_numbers
from policy.rules.base import BuiltIn

RETRY_HORIZON = timedelta(days=45)
"""Longer than any cap of the packs. A call that has to wait longer is denied."""
RETRY_ROUNDS_MAX = 64
"""Candidates that are looked at for one `retry_at`; every round moves on by at least one window or cap."""
_NO_MOMENT = "SYS-RETRY"
_DEPTH_MAX = 8


def evaluate(rules: Sequence[Rule], facts: Facts) -> Decision:
    """Ask every rule. With `defer`, `retry_at` is the first instant at which every rule allows.

    Each rule's own `retry_at` is the first instant at which that rule allows, so nothing before the latest of
    them can do; there all are asked again. When there is none within `RETRY_HORIZON`, or a rule denies there
    (a consent has expired by then), the decision is `deny`: time will not cure it.

    No rule at all allows: so adding a rule can only ever make a decision stricter.
    """
    results = _ask_all(rules, facts)
    outcome = _strictest(results)
    law = getattr(rules, "law", None)
    versions = law.versions(facts.at).to_dict() if law is not None else {}
    if outcome == "allow":
        return Decision(
            outcome, results, facts.at, obligations=_obligations(results), versions=versions
        )
    if outcome == "deny":
        return Decision(outcome, results, facts.at, versions=versions)
    retry_at, path, fault = _first_allowed(rules, facts, results)
    if fault is not None:
        results = (*results, fault)
        return Decision("deny", results, facts.at, None, path, versions=versions)
    return Decision(outcome, results, facts.at, retry_at, path, versions=versions)


_Path = tuple[tuple[datetime, tuple[str, ...]], ...]


def _first_allowed(
    rules: Sequence[Rule], facts: Facts, results: tuple[RuleResult, ...]
) -> tuple[datetime | None, _Path, RuleResult | None]:
    """The fixed point; or why there is none, as a result of the engine's own."""
    path: list[tuple[datetime, tuple[str, ...]]] = []
    for _ in range(RETRY_ROUNDS_MAX):
        candidate = max(result.retry_at for result in results if result.retry_at is not None)
        if candidate - facts.at > RETRY_HORIZON:
            break
        results = _ask_all(rules, replace(facts, at=candidate, read_at=facts.known_at))
        outcome = _strictest(results)
        if outcome == "allow":
            return candidate, tuple(path), None
        if outcome == "deny":
            denied = next(result for result in results if result.outcome == "deny")
            inputs: dict[str, Any] = {
                "at": rfc3339(candidate),
                "rule": denied.id,
                "reason": denied.reason,
            }
            return None, tuple(path), RuleResult(_NO_MOMENT, 1, "deny", "denied_then", inputs)
        path.append((candidate, tuple(one.id for one in results if one.outcome == "defer")))
    inputs = {"horizon_days": RETRY_HORIZON.days}
    return None, tuple(path), RuleResult(_NO_MOMENT, 1, "deny", "no_permitted_moment", inputs)


def _ask_all(rules: Sequence[Rule], facts: Facts) -> tuple[RuleResult, ...]:
    results: list[RuleResult] = []
    for rule in rules:
        answer = _ask(rule, facts)
        if type(answer) is tuple:
            results.extend(answer)
        else:
            results.append(answer)  # type: ignore[arg-type]
    return tuple(results)


def _strictest(results: tuple[RuleResult, ...]) -> Outcome:
    outcome: Outcome = "allow"
    for result in results:
        if STRICTNESS[result.outcome] > STRICTNESS[outcome]:
            outcome = result.outcome
    return outcome


def _obligations(results: tuple[RuleResult, ...]) -> tuple[Obligation, ...]:
    """Each once, in the order of the rules."""
    found: list[Obligation] = []
    for result in results:
        for one in result.obligations:
            if one not in found:
                found.append(one)
    return tuple(found)


def _ask(rule: Rule, facts: Facts) -> RuleResult | tuple[RuleResult, ...]:
    """The rule's results with masked inputs, or a deny that says what was wrong with the rule.

    Documented boundary: rules may be plug-ins, and none of their exceptions may become a call.
    """
    rule_id, version = _identity(rule)
    checked: RuleResult | tuple[RuleResult, ...]
    try:
        answer = rule(facts)
        if type(answer) is not tuple:
            checked = _checked(answer, rule_id, version, facts)
        elif answer:
            checked = tuple(_checked(one, rule_id, version, facts) for one in answer)
        else:
            checked = RuleResult(rule_id, version, "deny", "rule_invalid: returned no result")
    except Exception as error:  # noqa: BLE001
        checked = RuleResult(rule_id, version, "deny", f"rule_error: {type(error).__name__}")
    if type(rule) is BuiltIn:
        return checked
    if isinstance(checked, RuleResult):
        return recordable(checked, facts, rule_id)
    return tuple(recordable(one, facts, rule_id) for one in checked)


def _checked(result: object, rule_id: str, version: int, facts: Facts) -> RuleResult:
    if not _is_usual(result, rule_id, version):
        fault = _fault(result, rule_id, version, facts)
        if fault is not None:
            return RuleResult(rule_id, version, "deny", fault)
    assert isinstance(result, RuleResult)
    duties = result.obligations
    if _is_plain(result.inputs) and all(_is_plain(one.details) for one in duties):
        return result
    return RuleResult(
        result.id,
        version,
        result.outcome,
        result.reason,
        _plain(result.inputs),
        result.retry_at,
        tuple(Obligation(one.kind, _plain(one.details)) for one in duties),
    )


def _is_usual(result: object, rule_id: str, version: int) -> bool:
    """A proper allow: most results are, and need no closer look."""
    return (
        type(result) is RuleResult
        and result.outcome == "allow"
        and result.id == rule_id
        and result.version == version
        and type(result.reason) is str
        and result.reason != ""
        and result.retry_at is None
        and type(result.inputs) is dict
    )


_SCALARS = frozenset({int, bool, type(None)})


def _is_plain(inputs: Mapping[str, Any]) -> bool:
    """The usual inputs are few, flat and hold no number: then there is nothing to copy or to mask."""
    for name, value in inputs.items():
        kind = type(value)
        if type(name) is not str or not _is_clean(name):
            return False
        if kind is str:
            if not _is_clean(value):
                return False
        elif kind is list:
            for item in value:
                if type(item) not in _SCALARS and (type(item) is not str or not _is_clean(item)):
                    return False
        elif kind not in _SCALARS:
            return False
    return True


def _is_clean(text: str) -> bool:
    """No telephone number in it."""
    return ("+" not in text and "%2" not in text) or mask_numbers(text) == text


def _identity(rule: object) -> tuple[str, int]:
    rule_id = getattr(rule, "id", None)
    version = getattr(rule, "version", None)
    if type(rule_id) is str and rule_id and type(version) is int:
        return rule_id, version
    return (
        rule_id if isinstance(rule_id, str) and rule_id else type(rule).__name__,
        version if isinstance(version, int) and not isinstance(version, bool) else 0,
    )


def _fault(result: object, rule_id: str, version: int, facts: Facts) -> str | None:
    """Why this is no proper result; None when it is one."""
    if not isinstance(result, RuleResult):
        return f"rule_invalid: returned {type(result).__name__}"
    if result.version != version or not (
        result.id == rule_id or (isinstance(result.id, str) and result.id.startswith(rule_id + "-"))
    ):
        return "rule_invalid: result of another rule"
    if not isinstance(result.outcome, str) or result.outcome not in STRICTNESS:
        return "rule_invalid: unknown outcome"
    if not isinstance(result.reason, str) or not result.reason:
        return "rule_invalid: no reason"
    if type(result.inputs) is not dict and not isinstance(result.inputs, Mapping):
        return "rule_invalid: inputs are not a table"
    if result.obligations and result.outcome != "allow":
        return "rule_invalid: obligations without allow"
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
    kind = type(value)
    if kind is str:
        return mask_numbers(value)
    if value is None or kind is int or kind is bool:
        return value
    if depth > _DEPTH_MAX:
        raise TypeError("inputs are nested too deeply")
    if isinstance(value, int):
        return value
    if kind is tuple or kind is list:
        return [_plain(item, depth + 1) for item in value]
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
