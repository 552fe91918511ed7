"""Whole decisions, case by case: number, instant and what is known; the outcome, the time and the rules.

`fires` is the exact set of rules that do not allow, unless the case says that others may speak too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from policy import evaluate, packaged
from policy.facts import ListEntry, Location, OptOut, ReassignedAnswer, Revocation, Spend
from policy.law import Law
from policy.preview import firing
from tests.policy.worlds import (
    SCRIPT,
    at,
    attempt,
    express,
    facts_for,
    standard,
    written,
)

NY, FL_MIAMI, TX_DALLAS = "+12125550123", "+13055550123", "+12145550123"
NOON = "2027-01-13T18:00:00Z"


@dataclass(frozen=True)
class Case:
    """One row. `until`: when a deferral ends."""

    number: int
    to: str
    when: str
    outcome: str
    fires: str = ""
    until: str | None = None
    marketing: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    others: bool = False

    def __str__(self):
        return f"{self.number}-{self.to.strip('+')}"

    def made(self):
        purpose = "marketing" if self.marketing else "informational"
        return facts_for(self.to, self.when, purpose=purpose, **self.facts)


NO_MARGIN = {"time_margin": {"base_s": 0}}
THREE_A_DAY = {"freq_ten": {"per_day": 5, "per_week": 10}}
WHEN = at(NOON)


def tenant(**changes):
    return replace(facts_for(NY, NOON).tenant, **changes)


def agent(**lines):
    return replace(facts_for(NY, NOON).agent, script=replace(SCRIPT, **lines))


CASES = [
    # hours of federal law, to the second, with and without the margin
    Case(1, NY, "2027-01-13T13:00:00Z", "allow"),
    Case(2, NY, "2027-01-13T12:59:59Z", "defer", "TIME-FED", "2027-01-13T13:00:00Z"),
    Case(3, NY, "2027-01-14T01:59:59Z", "allow", settings=NO_MARGIN),
    Case(4, NY, "2027-01-14T02:00:00Z", "defer", "TIME-FED", "2027-01-14T13:00:00Z"),
    Case(5, NY, "2027-01-14T01:59:00Z", "defer", "TIME-MARGIN", "2027-01-14T13:00:00Z"),
    Case(6, "+14155550123", "2027-01-13T15:30:00Z", "defer", "TIME-FED", "2027-01-13T16:00:00Z"),
    Case(7, "+13125550123", "2027-03-13T13:30:00Z", "defer", "TIME-FED", "2027-03-13T14:00:00Z"),
    Case(8, "+13125550123", "2027-03-14T13:30:00Z", "allow"),
    Case(9, NY, "2027-11-06T12:30:00Z", "allow"),
    Case(10, NY, "2027-11-07T12:30:00Z", "defer", "TIME-FED", "2027-11-07T13:00:00Z"),
    Case(11, "+16025550123", "2027-07-15T03:30:00Z", "allow"),
    # area codes that hide a second time zone
    Case(12, "+19282130123", "2027-07-14T14:30:00Z", "defer", "TIME-FED", "2027-07-14T15:00:00Z"),
    Case(13, "+18502220123", "2027-01-13T13:30:00Z", "defer", "TIME-FED", "2027-01-13T14:00:00Z"),
    Case(
        14,
        "+18502220123",
        "2027-01-13T13:30:00Z",
        "allow",
        marketing=True,
        facts={
            "location": Location(postcode="32301", state="FL", as_of=at("2027-01-10T13:30:00Z"))
        },
    ),
    Case(
        15,
        "+13645550123",
        "2027-01-13T15:30:00Z",
        "defer",
        "TIME-ST-KY",
        "2027-01-13T16:00:00Z",
        marketing=True,
    ),
    Case(16, "+14235550123", "2027-01-13T02:30:00Z", "defer", "TIME-FED", "2027-01-13T14:00:00Z"),
    Case(17, "+19075550123", "2027-01-13T17:30:00Z", "defer", "TIME-FED", "2027-01-13T18:00:00Z"),
    Case(18, "+12085550123", "2027-01-13T15:30:00Z", "defer", "TIME-FED", "2027-01-13T16:00:00Z"),
    # states: narrower hours, caps, closed days, dated rows
    Case(
        19,
        FL_MIAMI,
        "2027-01-14T01:15:00Z",
        "defer",
        "TIME-ST-FL",
        "2027-01-14T13:00:00Z",
        marketing=True,
    ),
    Case(
        20,
        FL_MIAMI,
        "2027-01-13T20:00:00Z",
        "defer",
        "FREQ-ST-FL",
        "2027-01-13T21:10:00Z",
        marketing=True,
        facts={
            "attempts": (
                attempt("2027-01-12T21:10:00Z", from_number="+12065550199"),
                attempt("2027-01-13T14:00:00Z", from_number="+12065550198"),
                attempt("2027-01-13T17:00:00Z", from_number="+12065550199"),
            )
        },
        settings=THREE_A_DAY,
    ),
    Case(
        21,
        TX_DALLAS,
        "2027-01-17T17:30:00Z",
        "defer",
        "TIME-ST-TX",
        "2027-01-17T18:00:00Z",
        marketing=True,
    ),
    Case(
        22,
        "+14015550123",
        "2027-01-16T22:30:00Z",
        "defer",
        "TIME-ST-RI then TIME-HOL-RI",
        "2027-01-19T14:00:00Z",
        marketing=True,
    ),
    Case(
        23,
        "+12055550123",
        "2027-01-17T18:00:00Z",
        "defer",
        "TIME-HOL-AL",
        "2027-01-19T14:00:00Z",
        marketing=True,
    ),
    Case(
        24,
        "+12155550123",
        "2027-01-14T00:30:00Z",
        "defer",
        "TIME-ST-PA",
        "2027-01-14T14:00:00Z",
        marketing=True,
    ),
    Case(25, "+12155550123", "2026-10-14T23:30:00Z", "allow", marketing=True),
    # consent
    Case(
        26,
        NY,
        NOON,
        "deny",
        "CON-WRITTEN",
        marketing=True,
        facts={"consents": (express(WHEN - timedelta(days=3), level="express_oral"),)},
    ),
    Case(
        27,
        TX_DALLAS,
        NOON,
        "allow",
        marketing=True,
        facts={"consents": (express(WHEN - timedelta(days=3), level="express_oral"),)},
        settings={"con_written": {"permit_oral_fifth_circuit": True}},
    ),
    Case(28, NY, NOON, "deny", "CON-NONE", facts={"consents": ()}),
    Case(
        29,
        NY,
        NOON,
        "deny",
        "CON-NONE CON-SCOPE",
        facts={"consents": (express(WHEN - timedelta(days=3), seller="Other Power Inc."),)},
    ),
    Case(
        30,
        NY,
        NOON,
        "deny",
        "CON-NONE CON-SCOPE",
        marketing=True,
        facts={"consents": (written(WHEN - timedelta(days=3), channels=frozenset({"sms"})),)},
    ),
    Case(
        31,
        NY,
        NOON,
        "deny",
        "CON-NONE CON-REVOKED DNC-INT",
        facts={
            "revocations": (Revocation(WHEN - timedelta(seconds=1), "sms"),),
            "opt_out": OptOut(NY, WHEN - timedelta(seconds=1), "sms"),
        },
    ),
    Case(
        32,
        NY,
        NOON,
        "deny",
        "DNC-INT",
        facts={"opt_out": OptOut(NY, WHEN - timedelta(days=7), "spoken")},
    ),
    Case(
        33,
        NY,
        NOON,
        "deny",
        "CON-WRITTEN DNC-NAT",
        marketing=True,
        facts={
            "consents": (express(WHEN - timedelta(days=3)),),
            "dnc_national": ListEntry("us", True, WHEN - timedelta(days=2)),
        },
    ),
    Case(
        34,
        NY,
        NOON,
        "deny",
        "DNC-STALE",
        marketing=True,
        facts={"dnc_national": ListEntry("us", False, WHEN - timedelta(days=32))},
    ),
    Case(
        35,
        NY,
        NOON,
        "deny",
        "RND-YES",
        marketing=True,
        facts={
            "consents": (written(at("2025-02-01T12:00:00Z")),),
            "reassigned": ReassignedAnswer("yes", WHEN - timedelta(days=1)),
        },
    ),
    # what is never dialled
    Case(36, "+18005550123", NOON, "deny", "NUM-TOLLFREE", others=True),
    *[
        Case(37, raw, NOON, "deny", "NUM-EMERG", others=True)
        for raw in ("911", "+1911", "988", "411", "112", "+44999", "+1988", "211")
    ],
    Case(38, "+19005550123", NOON, "deny", "NUM-PREMIUM", others=True, marketing=True),
    Case(
        39,
        "+18765550123",
        NOON,
        "deny",
        "FRD-GEO",
        others=True,
        facts={"tenant": tenant(regions=frozenset({"US"}))},
    ),
    Case(40, "+15005550123", NOON, "deny", "NUM-NONGEO", others=True),
    # other countries
    Case(
        41,
        "+447400123456",
        "2027-01-13T12:00:00Z",
        "deny",
        "CON-WRITTEN CON-SCOPE",
        marketing=True,
        facts={"consents": (written(WHEN - timedelta(days=3), names_automated_voice=False),)},
    ),
    Case(
        42,
        "+14165550123",
        "2027-01-16T23:15:00Z",
        "defer",
        "TIME-CC-CA",
        "2027-01-17T15:00:00Z",
        marketing=True,
    ),
    Case(
        43,
        "+16045550123",
        "2026-12-16T05:15:00Z",
        "defer",
        "TIME-CC-CA",
        "2026-12-16T16:00:00Z",
        marketing=True,
    ),
    Case(
        44,
        "+17095550123",
        "2027-01-13T12:45:00Z",
        "defer",
        "TIME-CC-CA",
        "2027-01-13T13:00:00Z",
        marketing=True,
    ),
    Case(
        45,
        "+61412345678",
        "2027-01-15T23:00:00Z",
        "defer",
        "TIME-CC-AU",
        "2027-01-16T02:30:00Z",
        marketing=True,
    ),
    Case(46, "+16715550123", "2027-01-13T23:00:00Z", "allow"),
    # state of the system and of the tenant
    Case(
        47,
        NY,
        NOON,
        "deny",
        "SYS-STORE",
        others=True,
        facts={"store_readable": False, "consents": None, "attempts": None},
    ),
    Case(48, NY, NOON, "deny", "TEN-STATE", facts={"tenant": tenant(state="suspended")}),
    Case(
        49,
        NY,
        NOON,
        "defer",
        "FRD-SPEND",
        "2027-01-14T00:00:00Z",
        facts={"spend": Spend(100_000, 50_000_000, 60_000_000)},
    ),
    Case(
        50,
        NY,
        NOON,
        "deny",
        "DISC-SCRIPT",
        marketing=True,
        facts={"agent": agent(opt_out_line=False)},
    ),
    Case(51, NY, NOON, "allow"),
    Case(52, "+12065550123", NOON, "deny", "TIME-ST-WA", marketing=True),
]


def test_every_case_of_the_table_is_there():
    """Fifty-two, and none by accident twice but the ones with several numbers."""
    assert sorted({case.number for case in CASES}) == list(range(1, 53))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case_is_decided_as_written(case):
    """The outcome, the first instant at which all rules allow, and exactly the rules that spoke."""
    decision = evaluate(standard(**case.settings), case.made())
    first, _, then = case.fires.partition(" then ")
    fired = set(firing(decision))
    assert decision.outcome == case.outcome, (decision.reason, fired)
    if case.others:
        assert set(first.split()) <= fired
    else:
        assert fired == set(first.split())
    assert decision.retry_at == (at(case.until) if case.until else None)
    assert set(then.split()) <= {rule for _, rules in decision.retry_path for rule in rules}
    if decision.outcome == "defer":
        again = evaluate(
            standard(**case.settings),
            replace(case.made(), at=at(case.until), read_at=at(case.when)),
        )
        assert again.allowed


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case_decided_again_is_the_same_decision(case):
    """Stored inputs under the same pack give the identical record (a request sent twice is one)."""
    once = evaluate(standard(**case.settings), case.made()).to_dict()
    assert evaluate(standard(**case.settings), case.made()).to_dict() == once
    assert once["versions"].keys() >= {"pack", "pack_sha256", "tzdata", "phonenumbers"}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case_shows_no_whole_number_in_its_record(case):
    """Neither the customer's nor ours, whatever the outcome."""
    shown = str(evaluate(standard(**case.settings), case.made()).to_dict())
    for number in (case.to, case.made().from_number):
        if len(number) > 6:
            assert number not in shown
            assert number.lstrip("+") not in shown


def test_case_27_says_which_switch_it_used():
    """An exception from the rule is in the record, or it did not happen."""
    case = next(case for case in CASES if case.number == 27)
    decision = evaluate(standard(**case.settings), case.made())
    said = next(result for result in decision.rules if result.id == "CON-WRITTEN")
    assert said.reason == "oral_consent_fifth_circuit"
    assert said.inputs["switch"] == "oral_consent_fifth_circuit"
    elsewhere = replace(case.made(), to_number=NY)
    assert "CON-WRITTEN" in firing(evaluate(standard(**case.settings), elsewhere))


def test_case_43_under_old_time_zone_data_is_refused_whatever_it_would_say():
    """With last year's file it is an hour earlier in Vancouver, and the call would be let through."""
    law = packaged()
    old = Law(law.packs, law.plan, law.zone, "2025b", law.phonenumbers_version)
    rules = [define.make({}, old) for define in _tz_rules()]
    case = next(case for case in CASES if case.number == 43)
    assert firing(evaluate(rules, case.made())) == ("SYS-TZDATA",)


def _tz_rules():
    from policy import BUILT_IN

    return [BUILT_IN["sys_tzdata"]]


def test_case_36_with_the_switch_needs_a_consent_that_names_the_number():
    """Turned on for the tenant, and the person gave that number."""
    named = (express(WHEN - timedelta(days=3), names_toll_free=True),)
    permitted = tenant(switches=frozenset({"toll_free_destinations"}))
    for consents, fires in ((named, False), (None, True)):
        facts = facts_for("+18005550123", NOON, tenant=permitted, consents=consents)
        assert ("NUM-TOLLFREE" in firing(evaluate(standard(), facts))) is fires
