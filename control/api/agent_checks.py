"""What of an agent can be known to be wrong before anything is bought or made: 422 with the field's name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from control import extractions, verticals
from control.api.agent_models import NumberIn
from control.api.dependencies import dependencies
from control.api.problem import invalid
from control.numbers import plan
from control.numbers.values import NumberProblem, NumberWish
from control.provisioning.page import check_page
from control.sms import settings as sms_settings
from control.sms import template
from control.store.records import AgentRecord
from control.verticals import Vertical

_WISHES = (
    "type",
    "country",
    "area_code",
    "contains",
    "locality",
    "region",
    "bundle_sid",
    "address_sid",
)


def check_vertical(name: str | None, known: Collection[str]) -> None:
    """Raises Problem for one that is not there."""
    if name is not None and name not in known:
        raise invalid("vertical", f"there is no vertical {name!r}: {', '.join(known)}")


def wish_of(given: NumberIn, field: str, *, may_move: bool) -> dict[str, Any]:
    """The number that is wanted, as it is kept. Raises Problem.

    `may_move`: a number of the main account may be moved into the tenant's (the operator asks for it).
    """
    asked = {name: getattr(given, name) for name in _WISHES if getattr(given, name) is not None}
    if given.e164 is not None:
        if asked:
            name = next(iter(asked))
            raise invalid(
                f"{field}.{name}", "not together with e164, which adopts that very number"
            )
        _plausible(lambda: plan.parsed(given.e164 or "", field=f"{field}.e164"), field)
        return {"e164": given.e164} | ({"may_move": True} if may_move else {})
    if not asked:
        raise invalid(
            field,
            "give e164 of a number that the Twilio account owns, or type and country to buy one",
        )
    if "country" not in asked:
        raise invalid(f"{field}.country", "required to buy a number")
    _plausible(lambda: plan.checked(NumberWish(**asked), prefix=f"{field}."), field)
    return asked


def _plausible(check: Any, field: str) -> None:
    try:
        check()
    except NumberProblem as problem:
        raise invalid(problem.field or field, _after(str(problem), problem.field)) from problem


def _after(text: str, field: str | None) -> str:
    return text.removeprefix(f"{field}: ") if field else text


def check_business_url(url: str | None) -> None:
    """Raises Problem. Of what is given, not of what is stored: what is allowed may have changed since."""
    if url is None:
        return
    try:
        check_page(url, allow_private=dependencies().settings.control.webhook_allow_private)
    except ValueError as error:
        raise invalid("business_url", str(error)) from error


def check_fields(record: AgentRecord, known: Mapping[str, Vertical]) -> None:
    """Extractions, the fields that a text message's template names, the fallback. Raises Problem."""
    fallback = record.settings.get("fallback") or {}
    if fallback.get("number") is not None and fallback["number"] == record.number_e164:
        raise invalid("fallback.number", "is the agent's own: callers would come back to it")
    try:
        fields = extractions.parse(record.extractions)
    except extractions.ExtractionProblem as problem:
        raise invalid(problem.field, str(problem)) from problem
    if record.extractions is None:
        vertical = known.get(record.vertical or verticals.DEFAULT)
        fields = extractions.parse(vertical.extractions if vertical else None)
    if record.sms is None:
        return
    known_fields = {field.name for field in fields} | set(record.variables) | template.BUILT_IN
    try:
        sms_settings.parse(record.sms, known_fields)
    except sms_settings.SmsProblem as problem:
        raise invalid(problem.field, str(problem)) from problem
