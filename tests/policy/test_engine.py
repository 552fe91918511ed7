"""The engine: strictest wins, broken rules refuse, retry times only with defer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import Facts, Obligation, RuleResult, evaluate
from policy.decision import STRICTNESS

AT = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
FACTS = Facts("outbound", "dial", "tnt_1", "agt_1", "+14155550100", "+12125550123", AT)
UNSET = object()


class Fixed:
    """A rule that answers, raises or misbehaves as told."""

    def __init__(self, rule_id, outcome="allow", retry_at=None, *, answer=UNSET, inputs=None):
        self.id = rule_id
        self.version = 3
        self._until_then = answer is UNSET
        self._result = (
            RuleResult(rule_id, 3, outcome, "fixed", inputs or {}, retry_at)
            if answer is UNSET
            else answer
        )

    def __call__(self, facts):
        if isinstance(self._result, BaseException):
            raise self._result
        until = getattr(self._result, "retry_at", None)
        if self._until_then and until and facts.at >= until:
            return RuleResult(self.id, 3, "allow", "later")
        return self._result


def proper_rules():
    """Rules that answer as they should."""
    later = st.integers(1, 10_000).map(lambda minutes: AT + timedelta(minutes=minutes))
    return st.one_of(
        st.builds(Fixed, st.text("ABC-", min_size=1), st.sampled_from(["allow", "deny"])),
        st.builds(Fixed, st.text("ABC-", min_size=1), st.just("defer"), later),
    )


def broken_rules():
    """Rules that raise, or return anything but a proper result."""
    wrong = st.one_of(
        st.none(),
        st.booleans(),
        st.text(),
        st.sampled_from([ValueError("x"), RecursionError(), AssertionError(), StopIteration()]),
        st.builds(RuleResult, st.just("other"), st.integers(), st.just("allow"), st.just("r")),
        st.builds(RuleResult, st.just("B"), st.just(3), st.text(), st.just("r")).filter(
            lambda result: result.outcome not in STRICTNESS
        ),
        st.just(RuleResult("B", 3, "defer", "r")),
        st.just(RuleResult("B", 3, "defer", "r", {}, datetime(2030, 1, 1))),
        st.just(RuleResult("B", 3, "defer", "r", {}, AT)),
        st.just(RuleResult("B", 3, "allow", "r", {}, AT + timedelta(days=1))),
        st.just(RuleResult("B", 3, "allow", "")),
        st.just(RuleResult("B", 3, "allow", "r", {"x": object()})),
        st.just(RuleResult("B", 3, "allow", "r", {"x": float("nan")})),
        st.just(RuleResult("B", 3, "allow", "r", {1: 2})),
        st.just(RuleResult("B", 3, "allow", "r", None)),
        st.just(RuleResult("B", 3, ["allow"], "r")),
    )
    return wrong.map(lambda answer: Fixed("B", answer=answer))


def any_rules():
    return st.lists(st.one_of(proper_rules(), broken_rules()), max_size=6)


@settings(deadline=None)
@given(any_rules(), st.one_of(proper_rules(), broken_rules()), st.integers(0, 6))
def test_adding_a_rule_anywhere_never_makes_the_decision_milder(rules, more, place):
    """Deny stays deny, and defer never becomes allow."""
    before = evaluate(rules, FACTS)
    after = evaluate([*rules[:place], more, *rules[place:]], FACTS)
    assert STRICTNESS[after.outcome] >= STRICTNESS[before.outcome]


@settings(deadline=None)
@given(any_rules(), broken_rules())
def test_a_broken_rule_denies_and_is_named(rules, broken):
    """Whatever it raises or returns, the call is refused and the record says by whom."""
    decision = evaluate([*rules, broken], FACTS)
    assert not decision.allowed
    assert decision.outcome == "deny"
    last = decision.rules[-1]
    assert (last.id, last.version, last.outcome) == ("B", 3, "deny")
    assert last.reason.startswith(("rule_error: ", "rule_invalid: "))


@settings(deadline=None)
@given(any_rules())
def test_the_strictest_wins_and_every_rule_is_recorded_in_order(rules):
    """The record shows every reason, not only the first."""
    decision = evaluate(rules, FACTS)
    assert [result.id for result in decision.rules] == [rule.id for rule in rules]
    worst = max((STRICTNESS[result.outcome] for result in decision.rules), default=0)
    assert STRICTNESS[decision.outcome] == worst
    json.dumps(decision.to_dict(), allow_nan=False)


@settings(deadline=None)
@given(any_rules())
def test_retry_at_comes_with_defer_only_and_is_the_latest(rules):
    """Before the latest of them, some rule would defer again."""
    decision = evaluate(rules, FACTS)
    if decision.outcome != "defer":
        assert decision.retry_at is None
        assert "retry_at" not in decision.to_dict()
    else:
        named = [result.retry_at for result in decision.rules if result.retry_at]
        assert decision.retry_at == max(named)


def test_several_deferring_rules_name_the_latest_time():
    """At the earlier ones another rule would still defer."""
    hours = [2, 9, 5]
    rules = [Fixed(f"H{hour}", "defer", AT + timedelta(hours=hour)) for hour in hours]
    assert evaluate([Fixed("A"), *rules], FACTS).retry_at == AT + timedelta(hours=9)


def test_a_raising_rule_is_recorded_with_the_exceptions_class_and_not_its_text():
    """The text could hold anything, the number that was called among it."""
    decision = evaluate([Fixed("R", answer=ZeroDivisionError("+12125550123"))], FACTS)
    assert decision.rules[0].reason == "rule_error: ZeroDivisionError"


def test_retry_at_of_another_zone_is_written_in_utc():
    """Times of the contract are RFC 3339 in UTC."""
    later = datetime(2027, 1, 13, 15, 0, tzinfo=timezone(timedelta(hours=-8)))
    decision = evaluate([Fixed("H", "defer", later)], FACTS)
    assert decision.to_dict()["retry_at"] == "2027-01-13T23:00:00Z"
    assert decision.to_dict()["rules"][0]["retry_at"] == "2027-01-13T23:00:00Z"


def test_inputs_with_numbers_anywhere_are_masked():
    """Also in lists, in tables and in the names of a table."""
    inputs = {"to": "+12125550123", "more": [{"+442071838750": {"a": ("x +4915112345678",)}}]}
    shown = evaluate([Fixed("M", inputs=inputs)], FACTS).to_dict()["rules"][0]["inputs"]
    assert shown == {
        "to": "+1212•••••23",
        "more": [{"+4420••••••50": {"a": ["x +4915•••••••78"]}}],
    }


def test_keyboard_interrupt_in_a_rule_is_not_a_decision():
    """The boundary is for failures of rules, not for the operator's wish to stop."""
    with pytest.raises(KeyboardInterrupt):
        evaluate([Fixed("K", answer=KeyboardInterrupt())], FACTS)


def test_retry_at_is_a_fixed_point_when_rules_take_turns():
    """One rule allows on even hours, one from 21:00 on: the first that suits both, and the way there."""

    class Even:
        id, version = "EVEN", 1

        def __call__(self, facts):
            if facts.at.hour % 2 == 0:
                return RuleResult("EVEN", 1, "allow", "even")
            later = facts.at.replace(minute=0) + timedelta(hours=1)
            return RuleResult("EVEN", 1, "defer", "odd", {}, later)

    decision = evaluate([Fixed("L", "defer", AT + timedelta(hours=3)), Even()], FACTS)
    assert decision.retry_at == AT + timedelta(hours=4)
    assert decision.retry_path == ((AT + timedelta(hours=3), ("EVEN",)),)


def test_a_rule_that_denies_at_the_retry_time_denies_now():
    """A consent that has expired by then is not cured by waiting."""

    class Expires:
        id, version = "E", 1

        def __call__(self, facts):
            outcome = "deny" if facts.at > AT + timedelta(hours=1) else "allow"
            return RuleResult("E", 1, outcome, "expired")

    decision = evaluate([Fixed("L", "defer", AT + timedelta(hours=3)), Expires()], FACTS)
    assert (decision.outcome, decision.retry_at) == ("deny", None)
    assert decision.rules[-1].id == "SYS-RETRY"
    assert decision.rules[-1].inputs["rule"] == "E"


def test_rules_that_never_agree_deny_within_bounded_rounds():
    """Two that contradict each other for ever end the search, not the process."""

    class Later:
        id, version = "Z", 1
        asked = 0

        def __call__(self, facts):
            Later.asked += 1
            return RuleResult("Z", 1, "defer", "later", {}, facts.at + timedelta(minutes=1))

    decision = evaluate([Later()], FACTS)
    assert (decision.outcome, decision.rules[-1].reason) == ("deny", "no_permitted_moment")
    assert Later.asked <= 66


def test_a_family_may_answer_with_several_results_of_its_own_name_alone():
    """`TIME-ST` speaks for `TIME-ST-FL` and `TIME-ST-TX`, and not for anybody else."""
    good = (RuleResult("B-1", 3, "allow", "r"), RuleResult("B-2", 3, "deny", "r"))
    assert [one.id for one in evaluate([Fixed("B", answer=good)], FACTS).rules] == ["B-1", "B-2"]
    stranger = (RuleResult("C-1", 3, "allow", "r"),)
    assert evaluate([Fixed("B", answer=stranger)], FACTS).outcome == "deny"
    assert evaluate([Fixed("B", answer=())], FACTS).outcome == "deny"


def test_obligations_come_with_an_allow_once_each_and_with_nothing_else():
    """A duty of two rules is one duty; with a refusal there is no call to oblige."""
    duty = Obligation("say", {"line": "hello", "to": "+12125550123"})
    allow = RuleResult("B", 3, "allow", "r", {}, None, (duty,))
    again = RuleResult("C", 3, "allow", "r", {}, None, (duty,))
    decision = evaluate([Fixed("B", answer=allow), Fixed("C", answer=again)], FACTS)
    assert decision.to_dict()["obligations"] == [
        {"kind": "say", "line": "hello", "to": "+1212•••••23"}
    ]
    refused = evaluate([Fixed("B", answer=allow), Fixed("D", "deny")], FACTS)
    assert refused.to_dict()["obligations"] == []
    wrong = RuleResult("B", 3, "deny", "r", {}, None, (duty,))
    assert evaluate([Fixed("B", answer=wrong)], FACTS).reason.startswith("B: rule_invalid")
