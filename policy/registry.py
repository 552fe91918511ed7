"""From the names in `[policy] rules` to rules.

A name is a built-in or `module:object` of a plug-in. What is behind it is a *factory* that takes the rule's
table of settings and returns a rule, or, for a plug-in, a rule itself (then it takes no settings). Importing
a plug-in is I/O, so the function that does it is handed in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from policy.decision import Rule
from policy.rules import opt_out, system

RuleFactory: TypeAlias = Callable[[Mapping[str, Any]], Rule]
Resolve: TypeAlias = Callable[[str], object]

BUILT_IN: dict[str, RuleFactory] = {
    "system": system.rule,
    "opt_out": opt_out.rule,
}


class PolicyConfigError(ValueError):
    """`[policy]` names something that is no rule, or gives a rule settings that it does not take."""


def load_rules(
    names: Sequence[str], tables: Mapping[str, Mapping[str, Any]], resolve: Resolve
) -> tuple[Rule, ...]:
    """The rules in the order named. `tables[name]` holds the settings of `[policy.<name>]`.

    Raises PolicyConfigError naming the rule, and for a misspelt one the nearest.
    """
    for name in tables:
        if name not in names:
            raise PolicyConfigError(
                f"policy.{name}: settings for a rule that is not in policy.rules{nearest(name, names)}"
            )
    rules: list[Rule] = []
    seen: dict[str, str] = {}
    for name in names:
        rule = _load(name, tables.get(name, {}), resolve)
        if rule.id in seen:
            raise PolicyConfigError(
                f"policy.rules: {name!r} and {seen[rule.id]!r} are both rule {rule.id}"
            )
        seen[rule.id] = name
        rules.append(rule)
    return tuple(rules)


def _load(name: str, table: Mapping[str, Any], resolve: Resolve) -> Rule:
    factory = BUILT_IN.get(name)
    if factory is not None:
        return _build(name, factory, table)
    if ":" not in name:
        raise PolicyConfigError(f"policy.rules: no rule {name!r}{nearest(name, BUILT_IN)}")
    try:
        found = resolve(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PolicyConfigError(f"policy.rules: cannot load {name!r}: {error}") from error
    if _is_rule(found):
        if table:
            raise PolicyConfigError(f"policy.{name}: this rule takes no settings")
        return cast("Rule", found)
    if not callable(found):
        raise PolicyConfigError(f"policy.rules: {name!r} is neither a rule nor makes one")
    return _build(name, cast("RuleFactory", found), table)


def _build(name: str, factory: RuleFactory, table: Mapping[str, Any]) -> Rule:
    try:
        rule = factory(table)
    except (PolicyConfigError, TypeError, ValueError, KeyError) as error:
        raise PolicyConfigError(f"policy.{name}: {error}") from error
    if not _is_rule(rule):
        raise PolicyConfigError(f"policy.rules: {name!r} makes {type(rule).__name__}, not a rule")
    return rule


def _is_rule(found: object) -> bool:
    """Classes are factories, also when they carry `id` and `version` for their instances."""
    return (
        not isinstance(found, type)
        and callable(found)
        and isinstance(getattr(found, "id", None), str)
        and isinstance(getattr(found, "version", None), int)
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the list of what there is, or nothing when there is nothing."""
    candidates = list(known)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(sorted(candidates))}" if candidates else ""
