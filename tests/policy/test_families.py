"""Rules that the cases do not reach, one sentence of a rule a test: consents, lists, traffic, and what is allowed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from policy import evaluate
from policy.facts import (
    Clock,
    Hours,
    Inbound,
    ListEntry,
    OptOut,
    PrefixRisk,
    ProviderPermission,
    ReassignedAnswer,
    Revocation,
    Traffic,
    Usage,
)
from policy.switches import EMERGENCY_CALLS, REGISTRATION_WARNS
from tests.policy.families_rig import DAY, MINUTE, NOON, NY, fires, retry, with_tenant
from tests.policy.worlds import at, express, facts_for, rules, standard, written

SALE = facts_for("+12125550123", NOON, purpose="marketing")
GOOD = {"marketing": SALE, "information": NY}


@pytest.mark.parametrize("facts", GOOD.values(), ids=GOOD)
def test_call_with_everything_in_order_is_allowed(facts):
    """Otherwise none of the other tests would say anything."""
    decision = evaluate(standard(), facts)
    assert decision.allowed, decision.sentence
    assert decision.sentence == "All rules allow it."


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"clock": None}, "SYS-CLOCK"),
        ({"clock": Clock(False)}, "SYS-CLOCK"),
        ({"clock": Clock(True, -2001)}, "SYS-CLOCK"),
        ({"agent": replace(NY.agent, state="degraded")}, "TEN-STATE"),
        ({"to_number_is_ours": True}, "NUM-OWN"),
        ({"from_number_owned": False}, "CID-OWN"),
        ({"platform_block": ListEntry("platform", True)}, "DNC-PLAT"),
        ({"prefix_risk": PrefixRisk("+1212", NOON)}, "FRD-PREFIX"),
        ({"prefix_risk": PrefixRisk(None, NOON - 15 * DAY)}, "FRD-PREFIX"),
        ({"provider_permission": None}, "FRD-TWGEO"),
        ({"provider_permission": ProviderPermission(False, False, False, NOON)}, "FRD-TWGEO"),
        ({"provider_permission": ProviderPermission(True, True, False, NOON)}, "FRD-TWGEO"),
        ({"provider_permission": ProviderPermission(True, False, True, NOON)}, "FRD-TWGEO"),
        ({"provider_permission": ProviderPermission(True, False, False, NOON - 3 * DAY)}, "FRD-TWGEO"),
        ({"tenant": replace(NY.tenant, is_stopped=True)}, "FRD-KILL"),
        ({"tenant": replace(NY.tenant, usage_trigger_fired=True)}, "FRD-TRIG"),
        ({"agent": replace(NY.agent, script=replace(NY.agent.script, recording_notice=False))}, "REC-NOTICE"),
        ({"agent": replace(NY.agent, script=replace(NY.agent.script, ai_disclosure=False))}, "DISC-SCRIPT"),
        ({"consents": (express(NOON - DAY, evidence_ref=None),)}, "CON-EVID"),
    ],
)  # fmt: skip
def test_one_thing_wrong_refuses_by_its_rule_alone(changes, rule):
    """Everything else is in order, so nobody else speaks."""
    assert fires(replace(NY, **changes)) == (rule,)


def test_expired_and_withdrawn_consents_are_none():
    """Also when the store still shows them."""
    for one in (
        express(NOON - DAY, expires_at=NOON),
        express(NOON - DAY, revoked_at=NOON - MINUTE),
        express(NOON + MINUTE),
    ):
        assert "CON-NONE" in fires(replace(NY, consents=(one,)))
    assert fires(replace(NY, consents=(express(NOON - DAY, expires_at=NOON + MINUTE),))) == ()


def test_stop_at_the_same_instant_as_the_grant_wins():
    """Ties go to the revocation; a grant after it counts again."""
    stop = (Revocation(NOON - DAY, "spoken"),)
    same = replace(NY, revocations=stop, consents=(express(NOON - DAY),))
    assert fires(same) == ("CON-NONE", "CON-REVOKED")
    later = replace(same, consents=(express(NOON - DAY + timedelta(microseconds=1)),))
    assert fires(later) == ()


def test_stop_that_landed_while_it_rang_is_named_so_at_the_answer():
    """The reason is the message that the agent's end is told."""
    facts = replace(NY, phase="answer", revocations=(Revocation(NOON - MINUTE, "sms"),))
    said = {one.id: one.reason for one in evaluate(standard(), facts).rules}
    assert said["CON-REVOKED"] == "revoked_in_flight"


SIGNED_FOR_OTHERS = [
    {"purposes": frozenset({"informational"})},
    {"channels": frozenset({"sms"})},
    {"seller": "Somebody Else LLC"},
]


@pytest.mark.parametrize("other", SIGNED_FOR_OTHERS, ids=["purpose", "channel", "seller"])
def test_signed_consent_for_something_else_and_a_spoken_one_are_no_signed_one(other):
    """Each lacks what the other has: no writing of theirs permits this call, nor lifts the national registry."""
    spoken = express(NOON - 2 * DAY, disclosure_id="disc_8")
    signed = written(NOON - DAY, **other)
    listed = ListEntry("us", True, NOON - 5 * DAY, "2027-01")
    assert fires(replace(SALE, consents=(spoken, signed))) == ("CON-WRITTEN",)
    both = replace(SALE, consents=(spoken, signed), dnc_national=listed)
    assert fires(both) == ("CON-WRITTEN", "DNC-NAT")
    good = replace(SALE, consents=(spoken, signed, written(NOON - DAY)), dnc_national=listed)
    assert fires(good) == ()


def test_evidence_is_that_of_the_writing_that_a_sale_relies_on():
    """A spoken consent with good evidence does not stand for a signed one without any."""
    bare = written(NOON - DAY, evidence_ref=None)
    spoken = express(NOON - 2 * DAY)
    assert fires(replace(SALE, consents=(bare, spoken))) == ("CON-EVID",)
    assert fires(replace(SALE, consents=(bare, written(NOON - 3 * DAY)))) == ()


def test_dates_that_lie_ahead_are_no_fresh_ones():
    """A list, an answer or a contact of next year would never grow old."""
    ahead = ListEntry("us", False, NOON + 2 * DAY, "2027-01")
    assert fires(replace(SALE, dnc_national=ahead)) == ("DNC-STALE",)
    assert fires(replace(SALE, dnc_national=replace(ahead, as_of=NOON + DAY / 2))) == ()
    old = (written(NOON - 400 * DAY, last_verified_at=NOON + 400 * DAY),)
    assert fires(replace(SALE, consents=old, reassigned=None)) == ("RND-STALE",)
    answered = ReassignedAnswer("no", NOON + 400 * DAY)
    assert fires(replace(SALE, consents=old, reassigned=answered)) == ("RND-STALE",)
    assert (
        fires(replace(SALE, consents=old, reassigned=replace(answered, asked_at=NOON - DAY))) == ()
    )


def test_emergency_needs_no_consent_and_no_hour_where_an_operator_vouched_for_it():
    """Whoever may only say so gets the rules of marketing: the word opens no night and lends no consent."""
    facts = replace(NY, purpose="emergency", at=at("2027-01-13T07:00:00Z"), consents=())
    assert {"CON-NONE", "TIME-FED"} <= set(fires(facts))
    assert "DNC-STALE" in fires(replace(facts, dnc_national=None))
    vouched = with_tenant(facts, switches=frozenset({EMERGENCY_CALLS}))
    assert fires(vouched) == ()
    used = {
        one.id: one.inputs.get("switch")
        for one in evaluate(standard(), vouched).rules
        if one.reason == "emergency"
    }
    assert used.keys() >= {"CON-NONE", "TIME-FED"}
    assert set(used.values()) == {EMERGENCY_CALLS}
    stopped = replace(vouched, opt_out=OptOut("+12125550123", NOON, "spoken"))
    assert "DNC-INT" in fires(stopped)


def test_unregistered_seller_is_refused_or_warned():
    """The switch is the operator's, and the record has it."""
    facts = with_tenant(
        facts_for("+12145550123", NOON, purpose="marketing"), registrations=frozenset()
    )
    assert fires(facts) == ("TEN-REG",)
    warned = with_tenant(facts, switches=frozenset({REGISTRATION_WARNS}))
    assert fires(warned) == ()


def test_state_list_that_the_tenant_lacks_is_not_known():
    """Florida keeps its own; New York's caller needs none."""
    florida = facts_for("+13055550123", NOON, purpose="marketing", dnc_states=())
    result = next(one for one in evaluate(standard(), florida).rules if one.id == "DNC-STATE")
    assert (result.outcome, result.inputs) == ("deny", {"missing": "dnc_states: FL"})
    assert fires(replace(SALE, dnc_states=())) == ()
    assert fires(replace(SALE, dnc_states=(ListEntry("TX", True),))) == ("DNC-STATE",)


def test_old_consent_needs_a_fresh_answer_about_the_number():
    """For marketing; for information a note is enough."""
    old = (written(NOON - 40 * DAY),)
    assert fires(replace(SALE, consents=old, reassigned=None)) == ("RND-STALE",)
    for answer, expected in (
        (ReassignedAnswer("no", NOON - DAY), ()),
        (ReassignedAnswer("no_data", NOON - DAY), ("RND-STALE",)),
        (ReassignedAnswer("error", NOON - DAY), ("RND-STALE",)),
        (ReassignedAnswer("no", NOON - 31 * DAY), ("RND-STALE",)),
        (ReassignedAnswer("no", NOON - DAY, (NOON - 2 * DAY).date()), ("RND-STALE",)),
        (ReassignedAnswer("yes", NOON - DAY), ("RND-YES",)),
    ):
        assert fires(replace(SALE, consents=old, reassigned=answer)) == expected
    assert fires(replace(NY, consents=(express(NOON - 400 * DAY),), reassigned=None)) == ()
    maine = facts_for("+12075550123", NOON, purpose="marketing", reassigned=None)
    assert "RND-STALE" in fires(maine)


def test_velocity_rate_and_concurrency_defer():
    """Counted over elapsed time; what nobody can foresee is looked at again."""
    many = tuple(NOON - timedelta(seconds=n * 50) for n in range(60))
    assert retry(replace(NY, usage=Usage(destinations=many))) == (
        ("FRD-VEL",),
        NOON - timedelta(seconds=59 * 50) + timedelta(hours=1),
    )
    fast = Usage(starts=(NOON - timedelta(milliseconds=300),))
    assert retry(replace(NY, usage=fast)) == (("FRD-CPS",), NOON + timedelta(milliseconds=700))
    busy = replace(NY, usage=Usage(concurrent=5))
    assert fires(busy) == ("FRD-CONC",)
    assert fires(with_tenant(busy, clean_days=30)) == ()


def test_new_and_dangerous_regions_need_an_operator():
    """Being on the tenant's list is not enough for those that fraud likes."""
    jamaica = with_tenant(facts_for("+18762220123", NOON), regions=frozenset({"US", "JM"}))
    assert "FRD-NEW" in fires(jamaica)
    britain = facts_for(
        "+447400123456", at("2027-01-13T12:00:00Z"), usage=Usage(region_is_new=True)
    )
    assert fires(britain) == ()
    assert fires(with_tenant(britain, approved_regions=frozenset({"US"}))) == ("FRD-NEW",)
    assert fires(with_tenant(britain, approved_regions=frozenset({"GB"}))) == ()


@pytest.mark.parametrize(
    ("figures", "rule"),
    [
        ({"mean_connected_s": 29.9}, "HEALTH-ACD"),
        ({"short_share": 0.11}, "HEALTH-SHORT"),
        ({"answer_share": 0.69}, "HEALTH-ASR"),
        ({"caller_id_calls_hour": 101}, "HEALTH-CID"),
        ({"opt_out_share": 0.05}, "HEALTH-OPTOUT"),
    ],
)
def test_unhealthy_traffic_defers_marketing_alone_and_from_fifty_calls_on(figures, rule):
    """One figure is enough, and the decision says which."""
    bad = replace(SALE, traffic=Traffic(50, **figures))
    assert retry(bad) == ((rule,), NOON + timedelta(hours=1))
    assert fires(replace(bad, traffic=Traffic(49, **figures))) == ()
    assert fires(replace(NY, traffic=Traffic(50, **figures))) == ()


def test_abandoned_calls_of_the_campaign_have_a_count_of_their_own():
    """A campaign of last week weighs, however few calls there were today; and one of today's first calls does not."""
    bad = Traffic(3, abandoned_share=0.031, campaign_calls=50)
    assert retry(replace(SALE, traffic=bad)) == (("HEALTH-ABANDON",), NOON + timedelta(hours=1))
    assert fires(replace(SALE, traffic=replace(bad, campaign_calls=49))) == ()
    assert fires(replace(SALE, traffic=replace(bad, abandoned_share=0.03))) == ()
    assert fires(replace(SALE, traffic=replace(bad, calls=100, campaign_calls=49))) == ()
    young = Traffic(49, short_share=0.9, campaign_calls=50, abandoned_share=0.0)
    assert fires(replace(SALE, traffic=young)) == ()
    assert fires(replace(NY, traffic=bad)) == ()


def test_transfer_is_judged_by_number_and_fraud_and_by_no_consent():
    """Its target is called, though nobody asked for a consent of one's own colleague."""
    facts = replace(NY, direction="transfer", consents=None, transfer_target_listed=True)
    assert fires(facts) == ()
    assert fires(replace(facts, transfer_target_listed=False)) == ("FRD-XFER",)
    assert "FRD-GEO" in fires(replace(facts, to_number="+18762220123"))
    assert "NUM-PREMIUM" in fires(replace(facts, to_number="+19002220123"))


def test_inbound_is_routed_and_never_asked_for_consent():
    """Block list, hours, disclosure and recording; nothing else."""
    facts = replace(
        NY,
        direction="inbound",
        phase="answer",
        consents=None,
        spend=None,
        usage=None,
        inbound=Inbound(False, (Hours(frozenset({2}), 540, 600),), "America/New_York"),
    )
    decision = evaluate(standard(), facts)
    assert decision.allowed, decision.reason
    assert {"kind": "route", "branch": "after_hours"} in decision.to_dict()["obligations"]
    opened = replace(facts, inbound=replace(facts.inbound, hours=None))
    kinds = [one.kind for one in evaluate(standard(), opened).obligations]
    assert kinds == ["disclose_ai", "recording_notice"]
    blocked = replace(facts, inbound=Inbound(True))
    assert fires(blocked) == ("INB-BLOCK",)


def test_allowed_marketing_carries_its_duties():
    """In the order in which they have to be heard."""
    shown = evaluate(standard(), SALE).to_dict()["obligations"]
    assert [one["kind"] for one in shown] == [
        "time_limit",
        "end_on_silence",
        "identify",
        "disclose_ai",
        "offer_opt_out",
        "voicemail",
        "recording_notice",
    ]
    assert shown[0] == {"kind": "time_limit", "seconds": 1800}


def test_missing_fact_is_named_in_the_sentence():
    """For whoever reads the refusal."""
    only = rules("con_none")
    decision = evaluate(only, replace(NY, consents=None))
    assert (
        decision.sentence
        == "Something that the rule has to know is not known: consents (CON-NONE)."
    )
