"""What has to hold of every decision, over random people, places, instants and histories."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy import BUILT_IN, evaluate, load_rules
from policy.decision import STRICTNESS
from policy.facts import Attempt, Hours, Location, OptOut, Revocation, Sms, Spend, Usage
from policy.rules.frequency import first_free
from tests.policy.worlds import TEST_SETTINGS, facts_for, nowhere, standard

AREAS = (212, 305, 214, 401, 205, 215, 850, 928, 907, 208, 206, 416, 709, 604, 671, 500, 800, 900)
ELSEWHERE = ("+447400123456", "+61412345678", "+33612345678", "+491701234567", "+8816123456", "911")
START = datetime(2026, 9, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ALL = standard()
SLOW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

numbers = st.one_of(
    st.builds(
        lambda area, last: f"+1{area}555{last:04}", st.sampled_from(AREAS), st.integers(100, 199)
    ),
    st.sampled_from(ELSEWHERE),
)
instants = st.integers(0, 500 * 24 * 60).map(lambda minutes: START + minutes * MINUTE)
purposes = st.sampled_from(["marketing", "informational", "debt_collection", "emergency", None])
locations = st.one_of(
    st.just(Location()),
    st.sampled_from(["32301", "79901", "60601", "M5V2T6", "zzz"]).map(
        lambda code: Location(postcode=code)
    ),
    st.sampled_from(["TX", "FL", "ID"]).map(lambda state: Location(state=state)),
)


@st.composite
def histories(draw, at):
    """Attempts of the last weeks."""
    ago = draw(st.lists(st.integers(1, 9 * 24 * 60), max_size=8))
    return tuple(
        Attempt(at - minutes * MINUTE, had_conversation=minutes % 5 == 0) for minutes in sorted(ago)
    )


@st.composite
def calls(draw):
    """Calls and messages with this and that against them, and now and then something not known."""
    at = draw(instants)
    purpose = draw(purposes)
    made = facts_for(
        draw(numbers),
        at,
        purpose=purpose or "marketing",
        location=draw(locations),
        attempts=draw(st.one_of(st.none(), histories(at))),
        in_flight=draw(st.integers(0, 1)),
        queue_wait_s=draw(st.sampled_from([0.0, 45.0, 4000.0])),
        usage=Usage(
            tuple(
                at - timedelta(milliseconds=ms)
                for ms in draw(st.lists(st.integers(0, 3000), max_size=3))
            )
        ),
        spend=Spend(draw(st.integers(0, 6_000_000)), draw(st.integers(0, 60_000_000)), 0),
    )
    return replace(
        made,
        purpose=purpose,
        phase=draw(st.sampled_from(["accept", "dial", "answer", "check"])),
        direction=draw(st.sampled_from(["outbound"] * 4 + ["inbound", "transfer"])),
        channel=draw(st.sampled_from(["voice"] * 3 + ["sms"])),
        sms=draw(st.sampled_from([None, Sms("a2p_10dlc", False, False)])),
        revocations=draw(st.sampled_from([(), None, (Revocation(at - 9 * MINUTE, "sms"),)])),
        opt_out=draw(st.sampled_from([None, None, OptOut("+12125550123", at, "api")])),
        store_readable=draw(st.sampled_from([True, True, True, False])),
        tenant=replace(
            made.tenant,
            hours=draw(st.sampled_from([None, (Hours(frozenset(range(5)), 600, 990),)])),
        ),
    )


def chosen(names):
    """Some built-in rules with those that they need beside them."""
    wanted = set(names)
    while more := {need for name in wanted for need in BUILT_IN[name].needs} - wanted:
        wanted |= more
    ordered = [name for name in BUILT_IN if name in wanted]
    return load_rules(ordered, {k: v for k, v in TEST_SETTINGS.items() if k in wanted}, nowhere)


def allows(rules, facts, at):
    """Every rule by itself, without the engine: may it start at that instant, on what is known now?"""
    moved = replace(facts, at=at, read_at=facts.known_at)
    answers = [rule(moved) for rule in rules]
    flat = [
        one for answer in answers for one in (answer if isinstance(answer, tuple) else (answer,))
    ]
    return all(one.outcome == "allow" for one in flat)


@SLOW
@given(
    calls(),
    st.lists(st.sampled_from(sorted(BUILT_IN)), max_size=12),
    st.sampled_from(sorted(BUILT_IN)),
)
def test_adding_a_built_in_rule_never_makes_a_decision_milder(facts, names, more):
    """Of all rules the strictest wins, whichever they are."""
    before, after = evaluate(chosen(names), facts), evaluate(chosen([*names, more]), facts)
    assert STRICTNESS[after.outcome] >= STRICTNESS[before.outcome]
    if before.retry_at is not None and after.retry_at is not None:
        assert after.retry_at >= before.retry_at


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(calls())
def test_retry_at_allows_then_and_at_no_whole_minute_before(facts):
    """Against a search through every minute, rule by rule and without the engine."""
    rules = chosen(
        [name for name in BUILT_IN if name.startswith(("time_", "freq_", "frd_", "health"))]
    )
    facts = replace(facts, direction="outbound", phase="dial", attempts=facts.attempts or ())
    decision = evaluate(rules, facts)
    if decision.outcome != "defer":
        return
    assert allows(rules, facts, decision.retry_at)
    at = facts.at
    while at < decision.retry_at:
        assert not allows(rules, facts, at), at
        at += MINUTE


@SLOW
@given(calls())
def test_every_call_gets_a_decision_of_rules_that_did_not_fail(facts):
    """No fact, however odd, makes a rule of ours raise or answer improperly."""
    decision = evaluate(ALL, facts)
    assert not [
        one for one in decision.rules if one.reason.startswith(("rule_error", "rule_invalid"))
    ]
    json.dumps(decision.to_dict(), allow_nan=False)
    assert decision.sentence
    assert (decision.retry_at is not None) == (decision.outcome == "defer")


@SLOW
@given(calls())
def test_no_record_shows_a_whole_number(facts):
    """Neither with its plus sign nor without."""
    shown = json.dumps(evaluate(ALL, facts).to_dict(), ensure_ascii=False)
    for number in (facts.to_number, facts.from_number):
        if len(number) > 6:
            assert number.lstrip("+") not in shown


@SLOW
@given(calls())
def test_taking_a_consent_away_or_adding_a_stop_never_makes_a_decision_milder(facts):
    """What a person took back cannot let a call through."""
    before = STRICTNESS[evaluate(ALL, facts).outcome]
    stop = OptOut(facts.customer_number, facts.at, "spoken")
    revoked = (*(facts.revocations or ()), Revocation(facts.at, "spoken"))
    for worse in (
        replace(facts, consents=()),
        replace(facts, opt_out=stop),
        replace(facts, revocations=revoked),
    ):
        assert STRICTNESS[evaluate(ALL, worse).outcome] >= before


@SLOW
@given(
    calls(),
    st.sampled_from(["consents", "attempts", "spend", "usage", "tenant", "agent", "dnc_national"]),
)
def test_not_knowing_never_makes_a_decision_milder(facts, name):
    """Absence of data denies."""
    before = evaluate(ALL, facts)
    after = evaluate(ALL, replace(facts, **{name: None}))
    assert STRICTNESS[after.outcome] >= STRICTNESS[before.outcome]


@SLOW
@given(
    instants,
    st.sampled_from(["850", "928", "208", "907", "423"]),
    st.sampled_from(["FL", "ID", "TX"]),
)
def test_more_candidate_zones_never_permit_more(at, area, state):
    """The address adds zones to those of the number; none of them can open a window."""
    rules = chosen(["time_fed"])
    facts = facts_for(f"+1{area}5550123", at)
    wider = replace(facts, location=Location(state=state))
    assert STRICTNESS[evaluate(rules, wider).outcome] >= STRICTNESS[evaluate(rules, facts).outcome]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 5000), max_size=15),
    st.integers(0, 5000),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 2000)), min_size=1, max_size=3),
)
def test_first_free_minute_of_rolling_caps_is_the_one_found_by_looking_at_each(ago, now, caps):
    """Several caps at once, over elapsed time."""
    times = [START + minute * MINUTE for minute in ago]
    limits = [(most, window * MINUTE) for most, window in caps]
    at = START + now * MINUTE

    def is_free(when):
        return all(sum(when - window < time for time in times) < most for most, window in limits)

    found = first_free(times, at, limits)
    while not is_free(at):
        at += MINUTE
    assert found == at


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_built_in_rule_says_what_it_lacks_when_nothing_is_known(name):
    """With bare facts a rule allows because it needs none of them, or denies and names what is missing."""
    at = datetime(2027, 1, 13, 18, tzinfo=UTC)
    full = facts_for("+12125550123", at, purpose="marketing")
    bare = type(full)("outbound", "dial", "t", "a", "+12065550199", "+12125550123", at)
    rules = chosen([name])
    for result in evaluate(rules, bare).rules:
        if result.outcome == "deny" and result.reason not in ("fictitious", "unregistered"):
            assert result.reason == "not_known"
            field = result.inputs["missing"].replace(",", " ").split()[0].split(".")[0].rstrip(":")
            assert field in type(full).__slots__
