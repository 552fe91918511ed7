"""DNC-*: lists of numbers that are not called; RND-*: numbers that belong to somebody else by now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from policy.masking import mask_number
from policy.pack import states_of
from policy.rules.base import DIALLED, Answer, Ask, Define, Number
from policy.rules.consent_kinds import fitting, is_signed_writing, verified_at

_REASSIGNED_ALWAYS_ASKED = frozenset({"ME"})
"""10 M.R.S. 1499-B makes the check mandatory, however young the consent."""


_AHEAD_MAX = timedelta(days=1)
"""A date that is given as a day may lie ahead of ours by a time zone; one further ahead would never grow old."""


def _internal(ask: Ask) -> Answer:
    """A request to stop reaches every channel and campaign; a START brings back messages alone."""
    facts = ask.facts
    inputs: dict[str, Any] = {
        "number": mask_number(facts.customer_number),
        "direction": facts.direction,
        "phase": facts.phase,
        "store_readable": facts.store_readable,
    }
    if facts.opt_out is not None:
        inputs["opted_out_since"] = facts.opt_out.since
        inputs["opt_out_source"] = facts.opt_out.source
        inputs["opt_out_scope"] = facts.opt_out.scope
    if facts.direction == "inbound":
        return ask.say.allow("inbound", **inputs)
    if facts.opt_out is not None and facts.opt_out.scope == "voice" and facts.channel == "sms":
        return ask.say.allow("messages_restored", **inputs)
    if facts.opt_out is not None:
        reason = "revoked_in_flight" if facts.phase == "answer" else "opted_out"
        return ask.say.deny(reason, **inputs)
    if not facts.store_readable:
        return ask.say.deny("list_unreadable", **inputs)
    return ask.say.allow("not_listed", **inputs)


def _platform(ask: Ask) -> Answer:
    entry = ask.facts.platform_block
    if entry is None:
        return ask.say.missing("platform_block")
    if entry.is_listed:
        return ask.say.deny("blocked", list=entry.list_id)
    return ask.say.allow("not_blocked")


def _is_federal(ask: Ask) -> bool:
    pack = ask.law.pack_at(ask.facts.at)
    return pack.is_federal(ask.law.destination(ask.facts).region)


def _national(ask: Ask) -> Answer:
    if not _is_federal(ask):
        return ask.say.allow("not_in_the_us")
    entry = ask.facts.dnc_national
    if entry is None:
        return ask.say.missing("dnc_national")
    inputs = {"snapshot": entry.snapshot, "as_of": entry.as_of}
    if not entry.is_listed:
        return ask.say.allow("not_listed", **inputs)
    permissions = [one.id for one in fitting(ask.facts) if is_signed_writing(one)]
    if permissions:
        return ask.say.allow("signed_permission", consents=permissions, **inputs)
    return ask.say.deny("listed", **inputs)


def _stale(ask: Ask) -> Answer:
    if not _is_federal(ask):
        return ask.say.allow("not_in_the_us")
    entry = ask.facts.dnc_national
    if entry is None:
        return ask.say.missing("dnc_national")
    if entry.as_of is None:
        return ask.say.missing("dnc_national.as_of")
    # As of when the lists were read: looking ahead over a night, the next copy is not there yet.
    age = ask.facts.known_at - entry.as_of
    if age < -_AHEAD_MAX:
        return ask.say.deny("registry_copy_of_the_future", as_of=entry.as_of)
    inputs = {"as_of": entry.as_of, "age_days": age.days, "max_days": ask.set["max_age_days"]}
    if age > timedelta(days=ask.set["max_age_days"]):
        return ask.say.deny("registry_copy_too_old", **inputs)
    return ask.say.allow("registry_copy_fresh", **inputs)


def _states(ask: Ask) -> Answer:
    pack = ask.law.pack_at(ask.facts.at)
    if not _is_federal(ask):
        return ask.say.allow("not_in_the_us")
    of_place = set(ask.law.place(ask.facts).states)
    needed = states_of(pack.state_lists, ask.facts.at.date()) & of_place
    entries = ask.facts.dnc_states
    if entries is None:
        return ask.say.missing("dnc_states") if needed else ask.say.allow("no_state_list")
    listed = sorted(one.list_id for one in entries if one.is_listed)
    if listed:
        return ask.say.deny("listed", states=listed)
    lacking = sorted(needed - {one.list_id for one in entries})
    if lacking:
        return ask.say.missing(f"dnc_states: {', '.join(lacking)}")
    return ask.say.allow("not_listed", states=sorted(needed))


def _reassigned(ask: Ask) -> Answer:
    """A consent given after the answer is a new person's, or the same one's again."""
    answer = ask.facts.reassigned
    if answer is None or answer.answer != "yes":
        return ask.say.allow("not_reassigned", answer=answer.answer if answer else None)
    if any(one.occurred_at > answer.asked_at for one in fitting(ask.facts)):
        return ask.say.allow("consented_afterwards", asked_at=answer.asked_at)
    return ask.say.deny("reassigned", asked_at=answer.asked_at, for_date=answer.for_date)


def _reassigned_stale(ask: Ask) -> Answer:
    """Marketing needs a fresh answer once the consent is old; others pass with a note."""
    if not _is_federal(ask):
        return ask.say.allow("not_in_the_us")
    if not ask.is_marketing:
        return ask.say.allow("not_marketing")
    found = fitting(ask.facts)
    if not found:
        return ask.say.allow("left_to_con_scope")
    known = max(verified_at(one, ask.facts) for one in found)
    states = set(ask.law.place(ask.facts).states)
    limit = timedelta(days=ask.set["max_age_days"])
    answer = ask.facts.reassigned
    inputs = {"verified_at": known, "answer": answer.answer if answer else None}
    if ask.facts.at - known <= limit and not states & _REASSIGNED_ALWAYS_ASKED:
        return ask.say.allow("consent_is_young", **inputs)
    if answer is None:
        return ask.say.deny("never_asked", **inputs)
    if answer.answer not in ("yes", "no"):
        return ask.say.deny("no_usable_answer", **inputs)
    if answer.asked_at - ask.facts.known_at > _AHEAD_MAX:
        return ask.say.deny("asked_in_the_future", asked_at=answer.asked_at, **inputs)
    if ask.facts.at - answer.asked_at > limit:
        return ask.say.deny("answer_too_old", asked_at=answer.asked_at, **inputs)
    if answer.for_date is not None and answer.for_date > known.date():
        return ask.say.deny("asked_for_a_later_date", for_date=answer.for_date, **inputs)
    return ask.say.allow("asked_lately", **inputs)


RULES = (
    Define("DNC-INT", 2, _internal, directions=frozenset({"outbound", "transfer", "inbound"})),
    Define("DNC-PLAT", 1, _platform, directions=DIALLED),
    Define("DNC-NAT", 2, _national, marketing=True),
    Define("DNC-STALE", 3, _stale, {"max_age_days": Number(31, 1, 31)}, marketing=True),
    Define("DNC-STATE", 1, _states, marketing=True),
    Define("RND-YES", 1, _reassigned),
    Define("RND-STALE", 2, _reassigned_stale, {"max_age_days": Number(30, 1, 30)}),
)
