"""`/v2/opt-outs`: numbers that must not be called."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field
from quart import Blueprint, Response

from control import failpoints
from control.api.answers import Answer, PageQuery, answer, page
from control.api.auth import own_tenant, tenant_for_new
from control.api.dependencies import dependencies
from control.api.idempotency import idempotent
from control.api.openapi import NoContent, listing, operation
from control.api.problem import not_found
from control.api.reading import E164, Body, Query, check_e164, read_body, read_query
from control.compliance.suppression import suppress
from control.store import opt_outs
from control.store.records import OptOutRecord

blueprint = Blueprint("lists", __name__)


class OptOutCreate(Body):
    """A number to be left alone."""

    e164: E164
    reason: str | None = Field(None, max_length=1000)
    source: str = Field(
        "api", min_length=1, max_length=32, description="Where it came from: yours to name."
    )
    tenant_id: str | None = None

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"e164": "+15550100456", "reason": "asked by letter"}]}
    )


class OptOutsQuery(PageQuery):
    """Filters of the list."""

    tenant_id: str | None = None


class OptOutQuery(Query):
    """Whose list; without it the key's own tenant, for the admin key the default one."""

    tenant_id: str | None = None


class OptOut(Answer):
    """An entry of the opt-out list."""

    e164: str
    tenant_id: str
    source: str
    reason: str | None
    scope: str | None = Field(
        description="Without one every channel; `voice`: the person asked for messages again."
    )
    created_at: datetime
    call_id: str | None = Field(description="The call in which it was asked for.")
    evidence: dict[str, Any] | None = Field(description="The words or the key, and when.")


@blueprint.get("/v2/opt-outs")
@operation(
    name="listOptOuts",
    about="Opt-outs",
    query=OptOutsQuery,
    answers={200: listing(OptOut)},
    problems=["not-found"],
)
async def list_opt_outs() -> Response:
    """List the numbers that must not be called, in order of number"""
    query = read_query(OptOutsQuery)
    records, cursor = await dependencies().store.read(
        opt_outs.list_opt_outs,
        tenant_id=own_tenant(query.tenant_id),
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([_shown(record) for record in records], cursor)


@blueprint.post("/v2/opt-outs")
@operation(
    name="addOptOut",
    about="Opt-outs",
    body=OptOutCreate,
    answers={201: OptOut, 200: OptOut},
    problems=["not-found", "conflict"],
    creates=True,
)
@idempotent
async def add_opt_out() -> Response:
    """Put a number on the list

    In force from the answer on. 200 when it was on the list already: the first entry stays, its date is
    evidence.
    """
    given = await read_body(OptOutCreate)
    known = dependencies()
    record = OptOutRecord(
        e164=given.e164,
        source=given.source,
        created_at=known.clock.now(),
        tenant_id=await tenant_for_new(given.tenant_id),
        reason=given.reason,
    )
    standing = await known.store.write(suppress, record, record.created_at)
    failpoints.reach("opt_out.committed")
    return answer(_shown(standing), 201 if standing is record else 200)


@blueprint.delete("/v2/opt-outs/<e164>")
@operation(
    name="removeOptOut",
    about="Opt-outs",
    query=OptOutQuery,
    answers={204: NoContent},
    problems=["not-found", "invalid"],
)
async def remove_opt_out(e164: str) -> Response:
    """Take a number off the list"""
    number = check_e164(e164, "e164")
    tenant_id = own_tenant(read_query(OptOutQuery).tenant_id)
    if not await dependencies().store.write(opt_outs.remove, tenant_id, number):
        raise not_found(f"{number} is not on the list")
    return Response(b"", status=204)


def _shown(record: OptOutRecord) -> OptOut:
    return OptOut(
        e164=record.e164,
        tenant_id=record.tenant_id,
        source=record.source,
        reason=record.reason,
        scope=record.scope,
        created_at=record.created_at,
        call_id=record.call_id,
        evidence=record.evidence,
    )
