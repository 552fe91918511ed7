"""Names of the configuration to rules."""

from __future__ import annotations

import pytest

from policy import PolicyConfigError, RuleResult, load_rules


class Plugin:
    """A rule that may also be made by its own class."""

    id = "X-1"
    version = 1

    def __init__(self, table=None):
        self.limit = (table or {}).get("limit", 0)
        if not isinstance(self.limit, int):
            raise TypeError("limit: expected a whole number")

    def __call__(self, facts):
        return RuleResult(self.id, self.version, "allow", "plugin")


FOUND = {"m:Class": Plugin, "m:rule": Plugin(), "m:nothing": 5, "m:lies": lambda table: "rule"}


def load(names, tables=None):
    return load_rules(names, tables or {}, lambda name: FOUND[name])


def test_load_rules_keeps_the_order():
    """The record lists rules as the operator did."""
    rules = load(["opt_out", "m:rule", "system"])
    assert [rule.id for rule in rules] == ["DNC-INT", "X-1", "SYS-STORE"]


def test_load_rules_with_a_factory_passes_its_table():
    """`[policy."m:Class"]` goes to the plug-in's factory."""
    (rule,) = load(["m:Class"], {"m:Class": {"limit": 4}})
    assert rule.limit == 4


@pytest.mark.parametrize(
    ("names", "tables", "message"),
    [
        (["opt_ot"], {}, r"no rule 'opt_ot'; did you mean 'opt_out'\?"),
        (["zzz"], {}, "no rule 'zzz'; there are: opt_out, system"),
        (["system", "system"], {}, "both rule SYS-STORE"),
        (["m:rule", "m:Class"], {}, "both rule X-1"),
        (["m:nothing"], {}, "neither a rule nor makes one"),
        (["m:lies"], {}, "makes str, not a rule"),
        (["m:rule"], {"m:rule": {"a": 1}}, "takes no settings"),
        (["m:Class"], {"m:Class": {"limit": "x"}}, "policy.m:Class: limit: expected a whole"),
        (["opt_out"], {"opt_out": {"days": 3}}, "policy.opt_out: unknown key 'days'"),
        (["opt_out"], {"opt_ot": {}}, r"policy.opt_ot: .*did you mean 'opt_out'\?"),
    ],
)
def test_load_rules_with_a_wrong_configuration_names_the_rule(names, tables, message):
    """The operator reads which name or key to correct."""
    with pytest.raises(PolicyConfigError, match=message):
        load(names, tables)


def test_load_rules_with_a_plug_in_that_cannot_be_imported_says_why():
    """The import's own message is kept."""

    def resolve(name):
        raise ModuleNotFoundError("No module named 'nope'")

    with pytest.raises(PolicyConfigError, match="cannot load 'nope:x': No module named 'nope'"):
        load_rules(["nope:x"], {}, resolve)
