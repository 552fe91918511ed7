"""INB-*: who is let in, and where. No consent is needed: the consumer called us."""

from __future__ import annotations

from policy.decision import Obligation
from policy.masking import mask_number
from policy.rules.base import INBOUND, VOICE, Answer, Ask, Define


def _block(ask: Ask) -> Answer:
    inbound = ask.facts.inbound
    if inbound is None or inbound.is_blocked is None:
        return ask.say.missing("inbound.is_blocked")
    if inbound.is_blocked:
        return ask.say.deny("blocked", number=mask_number(ask.facts.from_number))
    return ask.say.allow("not_blocked")


def _hours(ask: Ask) -> Answer:
    """Outside of the hours the call is taken, and led to the branch for that."""
    inbound = ask.facts.inbound
    if inbound is None:
        return ask.say.missing("inbound")
    if inbound.hours is None and not inbound.closed_dates:
        return ask.say.allow("always_open")
    zone = ask.law.zone(inbound.zone) if inbound.zone else None
    if zone is None:
        return ask.say.missing("inbound.zone")
    local = ask.facts.at.astimezone(zone)
    minute = local.hour * 60 + local.minute
    is_open = local.date() not in inbound.closed_dates and (
        inbound.hours is None
        or any(
            local.weekday() in one.weekdays and one.start_min <= minute < one.end_min
            for one in inbound.hours
        )
    )
    inputs = {"local": local.isoformat(timespec="seconds")}
    if is_open:
        return ask.say.allow("open", **inputs)
    return ask.say.allow("after_hours", Obligation("route", {"branch": "after_hours"}), **inputs)


RULES = (
    Define("INB-BLOCK", 1, _block, directions=INBOUND, channels=VOICE),
    Define("INB-HOURS", 1, _hours, directions=INBOUND, channels=VOICE),
)
