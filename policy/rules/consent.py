"""CON-*: may this seller contact this person in this way, for this purpose, by an artificial voice?

An emergency needs no consent (47 CFR 64.1200(a)(1)), for tenants whose operator turned that on; it is in the decision.
"""

from __future__ import annotations

from policy.facts import Consent
from policy.pack import states_of
from policy.rules.base import Answer, Ask, Define, Flag
from policy.rules.consent_kinds import (
    channel_of,
    fitting,
    for_channel,
    is_same_seller,
    is_signed_writing,
    last_stop,
    mismatch,
    usable,
)
from policy.switches import EMERGENCY_CALLS, EXEMPT_LANDLINES, ORAL_CONSENT_FIFTH_CIRCUIT

_EXEMPT_PURPOSES = frozenset(
    {"informational", "healthcare_hipaa", "survey", "nonprofit", "political"}
)
_MISMATCHES = ("no_automated_voice", "other_purpose", "other_channel", "other_seller")
"""From the nearest miss to the farthest."""


def _unknown(ask: Ask) -> str | None:
    """The first fact about consents that is not known."""
    if ask.facts.consents is None:
        return "consents"
    if ask.facts.revocations is None:
        return "revocations"
    return None if ask.facts.seller is not None else "tenant.seller"


def is_exempt(ask: Ask) -> bool:
    """An exempt call to a landline, where the operator turned that on."""
    return (
        ask.facts.line_type == "landline"
        and ask.facts.channel == "voice"
        and ask.facts.judged_purpose in _EXEMPT_PURPOSES
        and ask.has_switch(EXEMPT_LANDLINES)
    )


def _none(ask: Ask) -> Answer:
    if ask.facts.judged_purpose == "emergency":
        return ask.say.allow("emergency", switch=EMERGENCY_CALLS)
    unknown = _unknown(ask)
    if unknown:
        return ask.say.missing(unknown)
    found = for_channel(ask.facts)
    if found:
        return ask.say.allow("consented", consents=[one.id for one in found])
    if is_exempt(ask):
        return ask.say.allow("exempt_landline", switch=EXEMPT_LANDLINES)
    return ask.say.deny(
        "no_consent", channel=channel_of(ask.facts), read=len(ask.facts.consents or ())
    )


def _scope(ask: Ask) -> Answer:
    """What CON-NONE leaves open: there is a consent, but does it cover this?"""
    if ask.facts.judged_purpose == "emergency":
        return ask.say.allow("emergency", switch=EMERGENCY_CALLS)
    unknown = _unknown(ask)
    if unknown:
        return ask.say.missing(unknown)
    misses = {mismatch(one, ask.facts): one.id for one in usable(ask.facts)}
    if None in misses:
        return ask.say.allow("in_scope", consent=misses[None])
    nearest = next((miss for miss in _MISMATCHES if miss in misses), None)
    if nearest is None or (is_exempt(ask) and not for_channel(ask.facts)):
        return ask.say.allow("left_to_con_none")
    return ask.say.deny(nearest, consent=misses[nearest], purpose=ask.facts.judged_purpose)


def _written(ask: Ask) -> Answer:
    unknown = _unknown(ask)
    if unknown:
        return ask.say.missing(unknown)
    # One consent has to be both: signed for something else and spoken for this are not a signed one for this.
    found = fitting(ask.facts) or for_channel(ask.facts)
    if not found:
        return ask.say.allow("left_to_con_none")
    signed = next((one for one in found if is_signed_writing(one)), None)
    if signed is not None:
        return ask.say.allow("signed_writing", consent=signed.id)
    levels = sorted({one.level for one in found})
    is_permitted = ask.set["permit_oral_fifth_circuit"] or ask.has_switch(
        ORAL_CONSENT_FIFTH_CIRCUIT
    )
    states = ask.law.place(ask.facts).states
    pack = ask.law.pack_at(ask.facts.at)
    oral_states = states_of(pack.oral_consent, ask.facts.at.date())
    if is_permitted and states and oral_states.issuperset(states):
        return ask.say.allow(
            "oral_consent_fifth_circuit",
            states=list(states),
            levels=levels,
            switch=ORAL_CONSENT_FIFTH_CIRCUIT,
        )
    return ask.say.deny("not_a_signed_writing", levels=levels)


def _evidence(ask: Ask) -> Answer:
    if ask.facts.judged_purpose == "emergency":
        return ask.say.allow("emergency", switch=EMERGENCY_CALLS)
    unknown = _unknown(ask)
    if unknown:
        return ask.say.missing(unknown)
    found = fitting(ask.facts)
    if not found:
        return ask.say.allow("left_to_con_scope")
    if ask.is_marketing:  # the evidence of the one that the call relies on
        found = [one for one in found if is_signed_writing(one)] or found
    lacking = min((_lacking(one) for one in found), key=len)
    if not lacking:
        return ask.say.allow("evidence_complete")
    reason = "evidence_incomplete" if ask.is_marketing else "review: evidence_incomplete"
    return ask.say.deny(reason, lacking=lacking)


def _lacking(consent: Consent) -> list[str]:
    """Fields of the evidence that are empty (16 CFR 310.5(a)(8))."""
    needed = {"method": consent.method, "evidence_ref": consent.evidence_ref}
    if consent.level == "written_signed":
        needed |= {"disclosure_id": consent.disclosure_id, "signature": consent.signature}
    return [name for name, value in needed.items() if not value]


def _revoked(ask: Ask) -> Answer:
    unknown = _unknown(ask)
    if unknown:
        return ask.say.missing(unknown)
    stop = last_stop(ask.facts)
    if stop is None:
        return ask.say.allow("never_revoked")
    grants = [
        one.occurred_at
        for one in ask.facts.consents or ()
        if is_same_seller(one, ask.facts) and one.occurred_at <= ask.facts.at
    ]
    inputs = {"revoked_at": stop, "granted_at": max(grants, default=None)}
    if grants and max(grants) > stop:
        return ask.say.allow("granted_again", **inputs)
    reason = "revoked_in_flight" if ask.facts.phase == "answer" else "revoked"
    return ask.say.deny(reason, **inputs)


RULES = (
    Define("CON-NONE", 1, _none),
    Define(
        "CON-WRITTEN",
        2,
        _written,
        {"permit_oral_fifth_circuit": Flag(False)},
        marketing=True,
        needs=("con_none",),
    ),
    Define("CON-SCOPE", 1, _scope, needs=("con_none",)),
    Define("CON-EVID", 2, _evidence, needs=("con_scope",)),
    Define("CON-REVOKED", 1, _revoked),
)
