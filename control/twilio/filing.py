"""Regulatory bundles and Trust Hub objects: one form, two products.

A container is made, items are made and assigned to it, it is evaluated, submitted, and people at Twilio
review it. Every function raises TwilioRefused, TwilioUnreachable and TwilioUncertain.
Source: Twilio docs, "Regulatory compliance", "Trust Hub REST API".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

from control.twilio.rest import TwilioRefused, TwilioRest

Family = Literal["bundle", "customer_profile", "trust_product"]
ASSIGNED_ALREADY = 409


@dataclass(frozen=True, slots=True)
class Container:
    """A container as Twilio shows it."""

    sid: str
    status: str
    valid_until: datetime | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something without which a review would fail."""

    requirement: str
    field: str | None
    reason: str


async def create(
    rest: TwilioRest, family: Family, *, friendly_name: str, email: str, **rule: str
) -> Container:
    """A draft. `rule` is `regulation_sid`, or `policy_sid`. Not sent again when uncertain: use `by_name`."""
    make = partial(_list(rest, family).create, friendly_name=friendly_name, email=email, **rule)
    return _container(await rest.ask(f"{family}.create", make, repeatable=False))


async def by_name(rest: TwilioRest, family: Family, friendly_name: str) -> Container | None:
    """The container of exactly this name."""
    listed = partial(_list(rest, family).list, friendly_name=friendly_name, limit=20)
    found = await rest.ask(f"{family}.list", listed)
    named = (one for one in found if one.friendly_name == friendly_name)
    return next((_container(one) for one in named), None)


async def approved(rest: TwilioRest, family: Family, policy_sid: str) -> Container | None:
    """An approved container of this policy, the first that Twilio lists."""
    listed = partial(
        _list(rest, family).list, status="twilio-approved", policy_sid=policy_sid, limit=1
    )
    found = await rest.ask(f"{family}.list", listed)
    return _container(found[0]) if found else None


async def fetch(rest: TwilioRest, family: Family, sid: str) -> Container | None:
    """As it is now; None when the account has none."""
    try:
        return _container(await rest.ask(f"{family}.fetch", _one(rest, family, sid).fetch))
    except TwilioRefused as refusal:
        if refusal.status == 404:
            return None
        raise


async def add_end_user(
    rest: TwilioRest, family: Family, type: str, attributes: dict[str, Any], friendly_name: str
) -> str:
    """Whom it is about. Returns its SID."""
    make = partial(
        _product(rest, family).end_users.create,
        friendly_name=friendly_name,
        type=type,
        attributes=attributes,
    )
    return str((await rest.ask("end_users.create", make, repeatable=False)).sid)


async def add_document(
    rest: TwilioRest, family: Family, type: str, attributes: dict[str, Any], friendly_name: str
) -> str:
    """What proves it. Returns its SID."""
    make = partial(
        _product(rest, family).supporting_documents.create,
        friendly_name=friendly_name,
        type=type,
        attributes=attributes,
    )
    return str((await rest.ask("documents.create", make, repeatable=False)).sid)


async def why_rejected(rest: TwilioRest, family: Family, document_sid: str) -> str | None:
    """What the reviewers wrote about a document."""
    document = _product(rest, family).supporting_documents(document_sid)
    found = await rest.ask("documents.fetch", document.fetch)
    return getattr(found, "failure_reason", None) or None


async def assign(rest: TwilioRest, family: Family, sid: str, object_sid: str) -> None:
    """Put an item, or an approved container, into it. Twice is as good as once."""
    one = _one(rest, family, sid)
    children = (
        one.item_assignments
        if family == "bundle"
        else one.customer_profiles_entity_assignments
        if family == "customer_profile"
        else one.trust_products_entity_assignments
    )
    await _once(rest, f"{family}.assign", partial(children.create, object_sid=object_sid))


async def connect_number(rest: TwilioRest, family: Family, sid: str, number_sid: str) -> None:
    """Let an approved profile or product stand for a number. Twice is as good as once."""
    one = _one(rest, family, sid)
    children = (
        one.customer_profiles_channel_endpoint_assignment
        if family == "customer_profile"
        else one.trust_products_channel_endpoint_assignment
    )
    make = partial(
        children.create,
        channel_endpoint_type="phone-number",
        channel_endpoint_sid=number_sid,
    )
    await _once(rest, f"{family}.connect", make)


async def evaluate(
    rest: TwilioRest, family: Family, sid: str, policy_sid: str | None = None
) -> list[Finding]:
    """What is missing; empty when it can be submitted."""
    one = _one(rest, family, sid)
    children = (
        one.evaluations
        if family == "bundle"
        else one.customer_profiles_evaluations
        if family == "customer_profile"
        else one.trust_products_evaluations
    )
    given = {} if family == "bundle" else {"policy_sid": policy_sid}
    done = await rest.ask(f"{family}.evaluate", partial(children.create, **given))
    if str(done.status) == "compliant":
        return []
    found = [finding for result in done.results or () for finding in _findings(result)]
    return found or [Finding("", None, "Twilio calls it not compliant and does not say why")]


async def submit(rest: TwilioRest, family: Family, sid: str) -> Container:
    """Hand it in for review."""
    change = partial(_one(rest, family, sid).update, status="pending-review")
    return _container(await rest.ask(f"{family}.submit", change))


async def _once(rest: TwilioRest, endpoint: str, request: Any) -> None:
    try:
        await rest.ask(endpoint, request)
    except TwilioRefused as refusal:
        if refusal.status != ASSIGNED_ALREADY:
            raise


def _product(rest: TwilioRest, family: Family) -> Any:
    if family == "bundle":
        return rest.client.numbers.v2.regulatory_compliance
    return rest.client.trusthub.v1


def _list(rest: TwilioRest, family: Family) -> Any:
    return getattr(_product(rest, family), f"{family}s")


def _one(rest: TwilioRest, family: Family, sid: str) -> Any:
    return _list(rest, family)(sid)


def _container(item: Any) -> Container:
    errors = getattr(item, "errors", None) or ()
    return Container(
        sid=item.sid,
        status=str(item.status),
        valid_until=item.valid_until if isinstance(item.valid_until, datetime) else None,
        reasons=tuple(_words(error) for error in errors),
    )


def _words(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or error.get("failure_reason") or error.get("code") or error)


def _findings(result: dict[str, Any]) -> list[Finding]:
    if result.get("passed"):
        return []
    requirement = result.get("requirement_friendly_name") or result.get("friendly_name") or ""
    invalid = result.get("invalid") or ()
    if not invalid:
        return [Finding(requirement, None, result.get("failure_reason") or "")]
    return [
        Finding(requirement, one.get("object_field"), one.get("failure_reason") or "")
        for one in invalid
    ]
