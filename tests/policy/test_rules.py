"""The built-in rules, one test a sentence of the rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from policy import Facts, OptOut, evaluate, load_rules

AT = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
OUTBOUND = Facts("outbound", "dial", "tnt_1", "agt_1", "+14155550100", "+12125550123", AT)
LISTED = replace(OUTBOUND, opt_out=OptOut("+12125550123", AT, "sms"))


def ask(name, facts):
    """One built-in rule by its name."""
    (rule,) = load_rules((name,), {}, lambda name: pytest.fail(name))
    return rule(facts)


def decide(facts):
    """Both built-in rules in their default order."""
    rules = load_rules(("system", "opt_out"), {}, lambda name: pytest.fail(name))
    return evaluate(rules, facts)


def test_both_rules_for_a_number_not_listed_allow():
    """A readable store and no entry: the call may go on."""
    decision = decide(OUTBOUND)
    assert decision.allowed
    assert [result.id for result in decision.rules] == ["SYS-STORE", "DNC-INT"]


def test_opt_out_for_a_listed_number_denies():
    """A number on the tenant's list is not called."""
    assert decide(LISTED).outcome == "deny"
    assert ask("opt_out", LISTED).reason == "opted_out"


def test_opt_out_at_the_answer_says_revoked_in_flight():
    """A stop that landed while the telephone rang ends the call, with its own reason."""
    result = ask("opt_out", replace(LISTED, phase="answer"))
    assert (result.outcome, result.reason) == ("deny", "revoked_in_flight")


@pytest.mark.parametrize(("channel", "outcome"), [("voice", "deny"), ("sms", "allow")])
def test_opt_out_whose_messages_were_asked_for_again_denies_calls_alone(channel, outcome):
    """A START brings back messages, and nothing else."""
    entry = OptOut("+12125550123", AT, "sms", scope="voice")
    assert ask("opt_out", replace(OUTBOUND, opt_out=entry, channel=channel)).outcome == outcome


def test_opt_out_for_a_transfer_to_a_listed_number_denies():
    """The destination of a transfer is called too."""
    assert ask("opt_out", replace(LISTED, direction="transfer")).outcome == "deny"


def test_opt_out_for_an_inbound_caller_allows():
    """Who calls us may talk to us."""
    facts = replace(LISTED, direction="inbound", from_number="+12125550123")
    assert ask("opt_out", facts).outcome == "allow"


def test_opt_out_without_a_readable_list_denies():
    """Nobody can know whether the number is listed, so it is not called."""
    result = ask("opt_out", replace(OUTBOUND, store_readable=False))
    assert (result.outcome, result.reason) == ("deny", "list_unreadable")


@pytest.mark.parametrize("direction", ["inbound", "outbound", "transfer"])
def test_system_without_a_store_denies_every_direction(direction):
    """A call that cannot be recorded is none."""
    facts = replace(OUTBOUND, direction=direction, store_readable=False)
    assert ask("system", facts).outcome == "deny"


def test_decision_as_json_masks_numbers_and_keeps_the_entry():
    """The record tells what the rule saw, without the whole number."""
    shown = decide(LISTED).to_dict()
    assert shown["allowed"] is False
    assert "retry_at" not in shown
    assert shown["rules"][1] == {
        "id": "DNC-INT",
        "version": 2,
        "outcome": "deny",
        "reason": "opted_out",
        "inputs": {
            "number": "+1212•••••23",
            "direction": "outbound",
            "phase": "dial",
            "store_readable": True,
            "opted_out_since": "2027-01-13T18:00:00Z",
            "opt_out_source": "sms",
            "opt_out_scope": "tenant",
        },
    }


def test_facts_without_a_time_zone_are_refused():
    """Rules have no other clock, so a time without a zone is no time."""
    with pytest.raises(ValueError, match="time zone"):
        replace(OUTBOUND, at=datetime(2027, 1, 13))
