"""Names of the configuration to rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policy import PolicyConfigError, RuleResult, load_rules, switches
from policy.catalogue import CATALOGUE
from policy.rules.base import Number


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
        (["zzz"], {}, "no rule 'zzz'; there are: base, cid_own, con_evid"),
        (["system", "system"], {}, "both rule SYS-STORE"),
        (["m:rule", "m:Class"], {}, "both rule X-1"),
        (["m:nothing"], {}, "neither a rule nor makes one"),
        (["m:lies"], {}, "makes str, not a rule"),
        (["m:rule"], {"m:rule": {"a": 1}}, "takes no settings"),
        (["m:Class"], {"m:Class": {"limit": "x"}}, "policy.m:Class: limit: expected a whole"),
        (["opt_out"], {"opt_out": {"days": 3}}, "policy.opt_out: unknown key 'days'"),
        (["opt_out"], {"opt_ot": {}}, r"policy.opt_ot: .*did you mean 'opt_out'\?"),
        (["opt_out", "dnc_int"], {}, "both rule DNC-INT"),
        (["time_st"], {}, "'time_st' needs 'time_hol' beside it"),
        (["con_scope"], {}, "'con_scope' needs 'con_none' beside it"),
        (
            ["freq_ten"],
            {"freq_ten": {"per_day": 11}},
            "freq_ten: per_day: expected a whole number, 1 to 10",
        ),
        (["freq_ten"], {"freq_ten": {"per_day": True}}, "per_day: expected a whole number"),
        (
            ["freq_ten"],
            {"freq_ten": {"per_dai": 1}},
            "unknown key 'per_dai'; there are: per_day, per_week",
        ),
        (["dnc_stale"], {"dnc_stale": {"max_age_days": 32}}, "expected a whole number, 1 to 31"),
        (
            ["sys_tzdata"],
            {"sys_tzdata": {"checked_on": "2027-01-01"}},
            "checked_on: expected a date",
        ),
        (["num_invalid"], {"num_invalid": {"permit_fictitious": 1}}, "expected true or false"),
        (["base"], {"time_fed": {}}, "time_fed: settings for a rule that is not in policy.rules"),
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


def test_load_rules_by_group_gives_the_rules_of_the_group_in_the_order_of_the_catalogue():
    """`standard` is all there are; `base` needs neither lists of others nor a time of day."""
    assert [rule.id for rule in load(["standard"])] == [one.id for one in CATALOGUE]
    base = {rule.id for rule in load(["base"])}
    listed = {"SYS-STORE", "TEN-STATE", "NUM-EMERG", "NUM-PREMIUM", "NUM-OWN", "DNC-INT"}
    assert base == listed | {"FRD-KILL"}
    assert not any(one.startswith(("TIME-", "CON-", "FREQ-", "RND-", "DNC-N")) for one in base)


def test_load_rules_by_group_takes_settings_of_its_rules_and_plug_ins_behind_it():
    """A group is a list of names, nothing more."""
    rules = load(["standard", "m:rule"], {"freq_ten": {"per_day": 1}})
    assert [rule.id for rule in rules][-2:] == ["INB-HOURS", "X-1"]


def test_load_rules_by_the_name_of_an_entry_point_loads_what_it_points_to():
    """An installed plug-in is named like a built-in rule, and has its table."""
    rules = load_rules(
        ["acme"], {"acme": {"limit": 2}}, lambda name: FOUND[name], installed={"acme": "m:Class"}
    )
    assert rules[0].limit == 2
    with pytest.raises(PolicyConfigError, match="did you mean 'acme'"):
        load_rules(["acne"], {}, lambda name: FOUND[name], installed={"acme": "m:Class"})


def test_load_rules_never_lets_an_entry_point_replace_a_built_in_rule():
    """Whatever is installed, `system` stays what it is."""
    rules = load_rules(["system"], {}, lambda name: FOUND[name], installed={"system": "m:rule"})
    assert rules[0].id == "SYS-STORE"


def test_every_built_in_rule_is_on_the_page_with_its_settings():
    """An operator finds each id, and each key with its default and bounds."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z-]+)` \| .* \| (.*) \|$", page, flags=re.M))
    assert rows.keys() == {one.id for one in CATALOGUE}
    for one in CATALOGUE:
        assert set(re.findall(r"`(\w+)`", rows[one.id])) == set(one.settings)
        for key, setting in one.settings.items():
            if isinstance(setting, Number):
                shown = f"`{key}` {setting.default:g} ({setting.low:g}–{setting.high:g})"
                assert shown in rows[one.id]
    for switch in switches.ALL:
        assert f"`{switch}`" in page
