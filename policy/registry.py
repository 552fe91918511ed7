"""From the names in `[policy] rules` to rules.

A name is a built-in, a group of them, an installed entry point, or `module:object` of a plug-in. What is behind
the last two is a *factory* that takes the rule's table of settings and returns a rule, or a rule itself (then it
takes no settings). Importing a plug-in is I/O, so the function that does it is handed in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from policy.catalogue import ALIASES, BUILT_IN, GROUPS
from policy.decision import Rule
from policy.law import Law
from policy.loader import packaged

RuleFactory: TypeAlias = Callable[[Mapping[str, Any]], Rule]
Resolve: TypeAlias = Callable[[str], object]


class PolicyConfigError(ValueError):
    """`[policy]` names something that is no rule, or gives a rule settings that it does not take."""


class RuleSet(tuple[Rule, ...]):
    """Rules in their order, and the law that the built-in ones judge by: decisions name its versions."""

    law: Law

    def __new__(cls, rules: Iterable[Rule], law: Law) -> RuleSet:
        made = super().__new__(cls, tuple(rules))
        made.law = law
        return made


def load_rules(
    names: Sequence[str],
    tables: Mapping[str, Mapping[str, Any]],
    resolve: Resolve,
    *,
    installed: Mapping[str, str] | None = None,
    law: Law | None = None,
) -> RuleSet:
    """The rules in the order named. `tables[name]` holds the settings of `[policy.<name>]`.

    `installed`: entry points, name to `module:object`. `law`: the packaged one by default.
    Raises PolicyConfigError naming the rule, and for a misspelt one the nearest.
    """
    law = law or packaged()
    installed = installed or {}
    named = expanded(names)
    tables = {ALIASES.get(name, name): table for name, table in tables.items()}
    there = {ALIASES.get(name, name) for name in named}
    for name in tables:
        if name not in there:
            raise PolicyConfigError(
                f"policy.{name}: settings for a rule that is not in policy.rules{nearest(name, named)}"
            )
    rules: list[Rule] = []
    seen: dict[str, str] = {}
    for name in named:
        rule = _load(name, tables.get(ALIASES.get(name, name), {}), resolve, installed, law)
        if rule.id in seen:
            raise PolicyConfigError(
                f"policy.rules: {name!r} and {seen[rule.id]!r} are both rule {rule.id}"
            )
        seen[rule.id] = name
        rules.append(rule)
    _check_needs(named)
    return RuleSet(rules, law)


def expanded(names: Sequence[str]) -> list[str]:
    """The names with every group replaced by its rules."""
    found: list[str] = []
    for name in names:
        found.extend(GROUPS.get(name, (name,)))
    return found


def _check_needs(named: Sequence[str]) -> None:
    """A rule that leaves cases to another is wrong without it."""
    there = {ALIASES.get(name, name) for name in named}
    for name in there & BUILT_IN.keys():
        for needed in BUILT_IN[name].needs:
            if needed not in there:
                raise PolicyConfigError(f"policy.rules: {name!r} needs {needed!r} beside it")


def _load(
    name: str,
    table: Mapping[str, Any],
    resolve: Resolve,
    installed: Mapping[str, str],
    law: Law,
) -> Rule:
    define = BUILT_IN.get(ALIASES.get(name, name))
    if define is not None:
        try:
            return define.make(table, law)
        except ValueError as error:
            raise PolicyConfigError(f"policy.{name}: {error}") from error
    target = installed.get(name, name)
    if ":" not in target:
        there = (*BUILT_IN, *ALIASES, *GROUPS, *installed)
        raise PolicyConfigError(f"policy.rules: no rule {name!r}{nearest(name, there)}")
    try:
        found = resolve(target)
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
