"""A tenant in good standing and people who consented: what the tests of the policy start from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from policy import Facts, load_rules
from policy.facts import (
    AgentFacts,
    Attempt,
    Clock,
    Consent,
    ListEntry,
    ProviderPermission,
    ReassignedAnswer,
    Script,
    Spend,
    TenantFacts,
    Traffic,
    Usage,
)

SELLER = "Acme Energy LLC"
EVERY_STATE_LIST = ("FL", "IN", "LA", "PA", "TX")
REGISTERED = frozenset(
    {"TX", "FL", "WA", "MS", "UT", "RI", "NJ", "OH", "VT", "AZ", "AK", "ID", "DC", "CO"}
)
REGIONS = frozenset({"US", "CA", "PR", "GU", "GB", "AU", "FR", "DE"})
SCRIPT = Script(True, True, True, True, True, True)
TEST_SETTINGS = {
    "num_invalid": {"permit_fictitious": True},  # the numbers of these tests are 555-01xx
    "sys_tzdata": {"checked_on": datetime(2027, 6, 15, tzinfo=UTC).date()},
}


def nowhere(name):
    raise ImportError(name)


def standard(**settings):
    """All rules; `settings` are tables by rule."""
    return load_rules(["standard"], {**TEST_SETTINGS, **settings}, nowhere)


def rules(*names, **settings):
    """Some rules by name."""
    return load_rules(names, settings, nowhere)


def at(text):
    """An instant from RFC 3339."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def written(when, **changes):
    """Signed for marketing by an AI voice, by telephone and text."""
    made = Consent(
        id="con_written",
        seller=SELLER,
        channels=frozenset({"voice_ai", "sms"}),
        purposes=frozenset({"marketing", "informational"}),
        level="written_signed",
        occurred_at=when,
        method="web_form",
        names_automated_voice=True,
        says_not_a_condition=True,
        disclosure_id="disc_7",
        signature="checkbox",
        evidence_ref="form_123",
    )
    return replace(made, **changes)


def express(when, **changes):
    """Agreed to, but signed nothing."""
    made = written(when, id="con_express", level="express", signature=None, disclosure_id=None)
    return replace(made, **changes)


def facts_for(to, when, *, purpose="informational", consents=None, **changes):
    """A call that nothing stands against but what the test puts there."""
    when = at(when) if isinstance(when, str) else when
    if consents is None:
        make = written if purpose == "marketing" else express
        consents = (make(when - timedelta(days=3)),)
    made = Facts(
        direction="outbound",
        phase="dial",
        tenant_id="tnt_1",
        agent_id="agt_1",
        from_number="+12065550199",
        to_number=to,
        at=when,
        purpose=purpose,
        clock=Clock(is_synchronised=True),
        tenant=TenantFacts("active", SELLER, REGIONS, None, REGISTERED, clean_days=5),
        agent=AgentFacts("live", SCRIPT, records_audio=True, transcribes=True),
        from_number_owned=True,
        to_number_is_ours=False,
        consents=consents,
        revocations=(),
        platform_block=ListEntry("platform", False),
        dnc_national=ListEntry("us", False, when - timedelta(days=5), "2027-01"),
        dnc_states=tuple(ListEntry(state, False) for state in EVERY_STATE_LIST),
        reassigned=ReassignedAnswer("no", when - timedelta(days=2)),
        attempts=(),
        in_flight=0,
        usage=Usage(),
        spend=Spend(100_000, 0, 0),
        traffic=Traffic(0),
        provider_permission=ProviderPermission(True, False, False, when - timedelta(hours=3)),
    )
    return replace(made, **changes)


def attempt(when, **changes):
    """One that rang."""
    return replace(Attempt(at(when), purpose="marketing", seller=SELLER), **changes)
