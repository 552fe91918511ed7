"""Rules that the cases do not reach, one sentence of a rule a test: hours, caps, and when to try again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from policy import evaluate
from policy.facts import Attempt, Hours, ListEntry, PrefixRisk
from policy.preview import firing
from policy.switches import EXEMPT_LANDLINES, STATE_HOURS_FOR_ALL
from tests.policy.families_rig import DAY, MINUTE, NOON, NY, fires, retry, with_tenant
from tests.policy.worlds import at, attempt, express, facts_for, standard


def test_margin_grows_with_the_queue():
    """A call that waits an hour in our own queue may not be taken on half an hour before the end."""
    facts = facts_for("+12125550123", at("2027-01-14T01:30:00Z"))
    assert fires(facts) == ()
    assert retry(replace(facts, queue_wait_s=1800)) == (
        ("TIME-MARGIN",),
        at("2027-01-14T13:00:00Z"),
    )
    exactly = facts_for("+12125550123", at("2027-01-14T01:58:00Z"))
    assert fires(exactly) == ()
    assert fires(replace(exactly, at=exactly.at + timedelta(seconds=1))) == ("TIME-MARGIN",)
    assert fires(replace(exactly, at=exactly.at + MINUTE, phase="answer")) == ()


def test_margin_sees_a_closing_between_two_open_hours():
    """France closes from one to two; a long wait has to look at what lies between."""
    facts = facts_for("+33612345678", at("2027-01-13T11:50:00Z"), queue_wait_s=4200.0)
    assert retry(facts) == (("TIME-MARGIN",), at("2027-01-13T13:00:00Z"))


def test_tenants_hours_and_closed_dates_narrow():
    """In the called party's time."""
    hours = (Hours(frozenset({2}), 14 * 60, 15 * 60),)
    facts = with_tenant(NY, hours=hours)
    assert retry(facts) == (("TIME-TEN",), at("2027-01-13T19:00:00Z"))
    closed = with_tenant(facts, closed_dates=frozenset({NOON.date()}))
    assert retry(closed) == (("TIME-TEN",), at("2027-01-20T19:00:00Z"))
    never = evaluate(standard(), with_tenant(NY, hours=()))
    assert never.reason == "TIME-TEN: never_open"


def test_state_hours_bind_information_too_where_the_tenant_wants_it():
    """Kentucky at half past nine."""
    facts = facts_for("+15025550123", at("2027-01-13T14:30:00Z"))
    assert fires(facts) == ()
    assert fires(with_tenant(facts, switches=frozenset({STATE_HOURS_FOR_ALL}))) == ("TIME-ST-KY",)


def test_unknown_state_has_the_strictest_hours_and_caps():
    """An American number whose area code is not in the table: none today, so an invented one."""
    facts = facts_for("+12125550123", at("2027-01-13T15:30:00Z"), purpose="marketing")
    from policy import packaged

    law = packaged()
    known = law.plan.state_of_area.pop("212")
    law.plan.destination.cache_clear()
    law._place.cache_clear()
    try:
        assert fires(replace(facts, at=at("2027-01-13T14:30:00Z"))) == ("TIME-ST-STRICTEST",)
        twice = (attempt("2027-01-13T15:00:00Z"),)
        assert fires(replace(facts, attempts=twice)) == ("FREQ-ST-STRICTEST",)
    finally:
        law.plan.state_of_area["212"] = known
        law.plan.destination.cache_clear()
        law._place.cache_clear()


def test_caps_of_states_count_the_same_seller_and_subject_alone():
    """Three in twenty-four hours, whoever's number they came from."""
    facts = facts_for(
        "+13055550123", at("2027-01-13T20:00:00Z"), purpose="marketing", subject="solar"
    )
    raised = {"freq_ten": {"per_day": 10, "per_week": 40}}
    three = [attempt(f"2027-01-13T{hour}:00:00Z", subject="solar") for hour in (14, 15, 16)]
    assert fires(replace(facts, attempts=tuple(three)), **raised) == ("FREQ-ST-FL",)
    other = (*three[:2], replace(three[2], subject="heating"))
    assert fires(replace(facts, attempts=other), **raised) == ()
    seller = (*three[:2], replace(three[2], seller="Other Inc."))
    assert fires(replace(facts, attempts=seller), **raised) == ()
    informed = (*three[:2], replace(three[2], purpose="informational"))
    assert fires(replace(facts, attempts=informed), **raised) == ()


def test_french_cap_is_four_in_thirty_days():
    """Solicitations by the same seller."""
    facts = facts_for("+33612345678", at("2027-01-13T10:00:00Z"), purpose="marketing")
    four = tuple(attempt(f"2026-12-{day}T10:00:00Z") for day in (18, 21, 22, 23))
    found, until = retry(replace(facts, attempts=four))
    assert (found, until) == (("FREQ-CC-FR",), at("2027-01-18T09:00:00Z"))


def test_debt_collection_counts_attempts_and_waits_after_a_conversation():
    """Seven in seven days for each debt, and a week of silence after a talk."""
    facts = facts_for("+12125550123", NOON, purpose="debt_collection", debt_id="D1")
    facts = replace(
        facts,
        consents=(express(NOON - DAY, purposes=frozenset({"debt_collection"})),),
    )
    raised = {"freq_ten": {"per_day": 10, "per_week": 40}}
    seven = tuple(
        Attempt(NOON - n * DAY + MINUTE, purpose="debt_collection", debt_id="D1")
        for n in range(7, 0, -1)
    )
    assert retry(replace(facts, attempts=seven), **raised) == (("FREQ-DEBT",), NOON + MINUTE)
    assert fires(replace(facts, attempts=seven, debt_id="D2"), **raised) == ()
    talk = (
        Attempt(NOON - 2 * DAY, purpose="debt_collection", debt_id="D1", had_conversation=True),
    )
    assert retry(replace(facts, attempts=talk), **raised) == (("FREQ-DEBT",), NOON + 5 * DAY)


def test_exempt_calls_to_landlines_are_three_in_thirty_days():
    """Without consent, where the operator turned that on, and never for marketing."""
    facts = with_tenant(
        replace(NY, consents=(), line_type="landline"), switches=frozenset({EXEMPT_LANDLINES})
    )
    assert fires(facts) == ()
    assert "CON-NONE" in fires(replace(facts, line_type="mobile"))
    assert "CON-NONE" in fires(replace(facts, purpose="marketing"))
    three = tuple(Attempt(NOON - n * DAY) for n in (20, 12, 10))
    assert retry(replace(facts, attempts=three)) == (("FREQ-EXEMPT",), NOON + 10 * DAY)


def test_in_flight_call_defers_until_somebody_should_look_again():
    """And not at the answer, when the call in flight is this one."""
    facts = replace(NY, in_flight=1)
    assert retry(facts) == (("FREQ-INFLIGHT",), NOON + MINUTE)
    assert fires(replace(facts, phase="answer")) == ()


def test_lists_that_grow_old_over_night_defer_the_call_and_deny_it_in_the_morning():
    """Looking ahead, the copies are as old as they are now: the next ones are not there yet."""
    evening, morning = at("2027-01-14T02:30:00Z"), at("2027-01-14T14:30:00Z")
    lists = {
        "dnc_national": ListEntry("us", False, evening - timedelta(days=30, hours=20)),
        "prefix_risk": PrefixRisk(None, evening - timedelta(days=13, hours=20)),
    }
    night = facts_for("+12125550123", evening, purpose="marketing", **lists)
    decision = evaluate(standard(), night)
    assert decision.outcome == "defer"
    assert {rule.partition("-")[0] for rule in firing(decision)} == {"TIME"}
    day = facts_for("+12125550123", morning, purpose="marketing", **lists)
    assert {"DNC-STALE", "FRD-PREFIX"} <= set(firing(evaluate(standard(), day)))
