"""NUM-*: what the dialled string is; CID-OWN: from whose number it is dialled."""

from __future__ import annotations

from typing import Any

from policy.masking import mask_number
from policy.numbering import Destination
from policy.rules.base import DIALLED, Answer, Ask, Define, Flag
from policy.rules.consent_kinds import fitting
from policy.switches import TOLL_FREE_DESTINATIONS


def _inputs(ask: Ask, destination: Destination) -> dict[str, Any]:
    return {"number": mask_number(ask.facts.customer_number), "kind": destination.kind}


def _invalid(ask: Ask) -> Answer:
    destination = ask.law.destination(ask.facts)
    inputs = _inputs(ask, destination)
    if not destination.is_valid:
        return ask.say.deny("invalid", **inputs)
    if destination.is_fictitious and not ask.set["permit_fictitious"]:
        return ask.say.deny("fictitious", **inputs)
    return ask.say.allow("valid", region=destination.region, **inputs)


def _emergency(ask: Ask) -> Answer:
    destination = ask.law.destination(ask.facts)
    if destination.kind == "emergency":
        return ask.say.deny("emergency_or_service", **_inputs(ask, destination))
    return ask.say.allow("no_service_number")


def _premium(ask: Ask) -> Answer:
    destination = ask.law.destination(ask.facts)
    if destination.kind == "premium":
        return ask.say.deny("premium", prefix=_cut(destination), **_inputs(ask, destination))
    return ask.say.allow("not_premium")


def _toll_free(ask: Ask) -> Answer:
    destination = ask.law.destination(ask.facts)
    if destination.kind != "toll_free":
        return ask.say.allow("not_toll_free")
    inputs = _inputs(ask, destination)
    if not ask.has_switch(TOLL_FREE_DESTINATIONS):
        return ask.say.deny("toll_free", **inputs)
    if not any(consent.names_toll_free for consent in fitting(ask.facts)):
        return ask.say.deny("consent_does_not_name_it", **inputs)
    return ask.say.allow("toll_free_permitted", switch=TOLL_FREE_DESTINATIONS, **inputs)


def _non_geographic(ask: Ask) -> Answer:
    destination = ask.law.destination(ask.facts)
    if destination.kind in ("non_geographic", "satellite"):
        return ask.say.deny("no_place", prefix=_cut(destination), **_inputs(ask, destination))
    return ask.say.allow("has_place")


def _own(ask: Ask) -> Answer:
    ours = ask.facts.to_number_is_ours
    if ours is None:
        return ask.say.missing("to_number_is_ours")
    return ask.say.deny("own_number") if ours else ask.say.allow("not_ours")


def _caller_id(ask: Ask) -> Answer:
    owned = ask.facts.from_number_owned
    if owned is None:
        return ask.say.missing("from_number_owned")
    inputs = {"from": mask_number(ask.facts.from_number)}
    return ask.say.allow("owned", **inputs) if owned else ask.say.deny("not_owned", **inputs)


def _cut(destination: Destination) -> str | None:
    """The prefix, or the area code, that made it so."""
    return destination.prefix or destination.area_code


RULES = (
    Define(
        "NUM-INVALID",
        1,
        _invalid,
        {"permit_fictitious": Flag(False)},
        directions=DIALLED,
        replies=True,
    ),
    Define("NUM-EMERG", 1, _emergency, directions=DIALLED, replies=True),
    Define("NUM-PREMIUM", 1, _premium, directions=DIALLED, replies=True),
    Define("NUM-TOLLFREE", 1, _toll_free, directions=DIALLED),
    Define("NUM-NONGEO", 1, _non_geographic, directions=DIALLED, replies=True),
    Define("NUM-OWN", 1, _own, directions=DIALLED, replies=True),
    Define("CID-OWN", 1, _caller_id, directions=DIALLED, replies=True),
)
