"""`/v2/consents`: who agreed to be called, and the evidence. Nothing is deleted: a withdrawal is kept."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import ConfigDict, Field
from quart import Blueprint, Response

from control import ids
from control.api.answers import Answer, PageQuery, answer, page
from control.api.auth import principal, require_visible, tenant_for_new, visible_tenant
from control.api.dependencies import dependencies
from control.api.idempotency import idempotent
from control.api.openapi import NoContent, listing, operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import E164, Body, read_body, read_query
from control.instant import Instant
from control.store import consents
from control.store.consents import ConsentRecord
from policy.facts import Purpose
from policy.facts_parts import ConsentLevel

blueprint = Blueprint("consents", __name__)

CLOCK_MARGIN = timedelta(minutes=5)
Channel = Literal["voice_ai", "voice_live", "sms"]


class PlaceSaid(Body):
    """Where the person said they are."""

    zone: str | None = Field(None, max_length=64, examples=["America/New_York"])
    postcode: str | None = Field(None, max_length=16)
    state: str | None = Field(None, pattern="^[A-Z]{2}$")
    country: str | None = Field(None, pattern="^[A-Z]{2}$")


class ConsentCreate(Body):
    """A grant and its evidence. Marketing by an AI voice needs `written_signed`, its text and its signature."""

    e164: E164
    seller: str = Field(min_length=1, max_length=200, description="Legal name shown to the person.")
    channels: list[Channel] = Field(min_length=1)
    purposes: list[Purpose] = Field(min_length=1)
    level: ConsentLevel
    occurred_at: Instant
    expires_at: Instant | None = None
    method: str | None = Field(None, max_length=32, examples=["web_form"])
    names_automated_voice: bool = False
    says_not_a_condition: bool = False
    names_toll_free: bool = False
    disclosure_id: str | None = Field(None, max_length=200)
    disclosure_text: str | None = Field(
        None, max_length=20_000, description="The wording as shown."
    )
    signature: str | None = Field(None, max_length=32, examples=["checkbox"])
    evidence_ref: str | None = Field(None, max_length=1000)
    evidence_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    last_verified_at: Instant | None = None
    location: PlaceSaid | None = None
    details: dict[str, Any] | None = Field(None, description="Address, page, contract: yours.")
    tenant_id: str | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "e164": "+15550100456",
                    "seller": "Acme Roofing LLC",
                    "channels": ["voice_ai"],
                    "purposes": ["informational"],
                    "level": "express",
                    "occurred_at": "2026-11-01T15:00:00Z",
                    "method": "web_form",
                    "evidence_ref": "form/4711",
                }
            ]
        }
    )


class ConsentsQuery(PageQuery):
    """Filters of the list."""

    tenant_id: str | None = None
    e164: E164 | None = None


class Consent(Answer):
    """A grant, withdrawn or not."""

    id: str
    tenant_id: str
    e164: str
    seller: str
    channels: list[str]
    purposes: list[str]
    level: str
    method: str | None
    occurred_at: datetime
    recorded_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_reason: str | None
    names_automated_voice: bool
    says_not_a_condition: bool
    names_toll_free: bool
    disclosure_id: str | None
    disclosure_text: str | None
    disclosure_sha256: str | None
    signature: str | None
    evidence_ref: str | None
    evidence_sha256: str | None
    last_verified_at: datetime | None
    last_used_at: datetime | None
    location: dict[str, Any] | None
    details: dict[str, Any] | None
    actor: str


@blueprint.get("/v2/consents")
@operation(
    name="listConsents",
    about="Consents",
    query=ConsentsQuery,
    answers={200: listing(Consent)},
    problems=["not-found"],
)
async def list_consents() -> Response:
    """List consents, the newest first, withdrawn ones included"""
    query = read_query(ConsentsQuery)
    records, cursor = await dependencies().store.read(
        consents.list_consents,
        tenant_id=visible_tenant(query.tenant_id),
        e164=query.e164,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([_shown(record) for record in records], cursor)


@blueprint.post("/v2/consents")
@operation(
    name="addConsent",
    about="Consents",
    body=ConsentCreate,
    answers={201: Consent},
    problems=["not-found", "conflict"],
    creates=True,
)
@idempotent
async def add_consent() -> Response:
    """Record a consent and its evidence

    It is never changed afterwards. A written, signed consent needs its text or the id of it.
    """
    given = await read_body(ConsentCreate)
    known = dependencies()
    now = known.clock.now()
    if given.occurred_at > now + CLOCK_MARGIN:
        raise invalid("occurred_at", "is in the future")
    if given.last_verified_at is not None and given.last_verified_at > now + CLOCK_MARGIN:
        raise invalid("last_verified_at", "is in the future")
    if given.expires_at is not None and given.expires_at <= given.occurred_at:
        raise invalid("expires_at", "is not after occurred_at")
    text = given.disclosure_text
    if given.level == "written_signed" and not (text or given.disclosure_id):
        raise invalid(
            "disclosure_text", "a written, signed consent needs its text, or disclosure_id"
        )
    place = given.location.model_dump(exclude_none=True) if given.location else None
    record = ConsentRecord(
        id=ids.new_id("cns", now),
        recorded_at=now,
        actor=principal().key_id or "admin",
        disclosure_sha256=hashlib.sha256(text.encode()).hexdigest() if text else None,
        **given.model_dump(exclude={"tenant_id", "location"}),
        location=place or None,
        tenant_id=await tenant_for_new(given.tenant_id),
    )
    kept = await known.store.write(consents.insert_consent, record)
    return answer(_shown(kept), 201)


@blueprint.delete("/v2/consents/<consent_id>")
@operation(
    name="revokeConsent",
    about="Consents",
    answers={204: NoContent},
    problems=["not-found"],
)
async def revoke_consent(consent_id: str) -> Response:
    """Withdraw a consent; it is kept, with the time of the withdrawal"""
    known = dependencies()
    record = await known.store.read(consents.get, consent_id)
    if record is None:
        raise _missing(consent_id)
    require_visible(record.tenant_id, lambda: _missing(consent_id))
    reason = f"by {principal().key_id or 'admin'}"
    await known.store.write(consents.revoke, consent_id, known.clock.now(), reason)
    return Response(b"", status=204)


def _missing(consent_id: str) -> Problem:
    return not_found(f"there is no consent {consent_id}")


def _shown(record: ConsentRecord) -> Consent:
    return Consent(**{name: getattr(record, name) for name in Consent.model_fields})
