"""`/v2/numbers`: searched, bought, adopted, shown, released."""

from __future__ import annotations

import hashlib

from quart import Blueprint, Response, request

from control import ids
from control.api.answers import answer, page
from control.api.auth import existing_tenant, principal, tenant_for_new, visible_tenant
from control.api.dependencies import dependencies
from control.api.idempotency import HEADER, idempotent
from control.api.number_models import (
    AvailableQuery,
    ForSale,
    Number,
    NumberCreate,
    NumberQuery,
    NumbersQuery,
    ReleaseQuery,
    for_sale,
    shown,
)
from control.api.number_problems import OF_PROVIDER, as_problems, own_numbers
from control.api.openapi import listing, operation
from control.api.problem import invalid
from control.api.reading import read_body, read_query
from control.numbers import NumberRecord, NumberWish
from control.store import numbers as stored

blueprint = Blueprint("numbers", __name__)


@blueprint.get("/v2/numbers/available")
@operation(
    name="searchNumbers",
    about="Numbers",
    query=AvailableQuery,
    answers={200: listing(ForSale)},
    problems=["not-found", "no-such-numbers", *OF_PROVIDER],
)
async def search_numbers() -> Response:
    """Search numbers to buy

    What Twilio has to sell now. One page; an empty one when nothing matches. Somebody else may be faster.
    """
    query = read_query(AvailableQuery)
    wish = NumberWish(
        type=query.type,
        country=query.country,
        area_code=query.area_code,
        contains=query.contains,
        locality=query.locality,
        region=query.region,
        sms=query.sms,
    )
    tenant_id = await existing_tenant(query.tenant_id)
    async with as_problems():
        found = await own_numbers().search(tenant_id, wish, limit=query.limit)
    return page([for_sale(candidate) for candidate in found])


@blueprint.get("/v2/numbers")
@operation(
    name="listNumbers",
    about="Numbers",
    query=NumbersQuery,
    answers={200: listing(Number)},
    problems=["not-found"],
)
async def list_numbers() -> Response:
    """List numbers, the newest first"""
    query = read_query(NumbersQuery)
    records, cursor = await dependencies().store.read(
        stored.list_numbers,
        tenant_id=visible_tenant(query.tenant_id),
        status=query.status,
        agent_id=query.agent_id,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([shown(record) for record in records], cursor)


@blueprint.post("/v2/numbers")
@operation(
    name="createNumber",
    about="Numbers",
    body=NumberCreate,
    answers={201: Number},
    problems=[
        "not-found",
        "conflict",
        "no-such-numbers",
        "requirements-missing",
        *OF_PROVIDER,
    ],
    creates=True,
)
@idempotent
async def create_number() -> Response:
    """Buy a number, or adopt one that the account owns

    Its calls and messages lead to us from its first moment. Where a country asks for an address or a
    regulatory bundle, the answer lists what is `missing`. Repeat a request that had no answer with the same
    `Idempotency-Key`: nothing is bought twice.
    """
    given = await read_body(NumberCreate)
    tenant_id = await tenant_for_new(given.tenant_id)
    async with as_problems():
        record = await (
            _adopt(tenant_id, given) if given.e164 and not given.buy else _buy(tenant_id, given)
        )
    return answer(shown(record), 201, {"Location": f"/v2/numbers/{record.id}"})


@blueprint.get("/v2/numbers/<number>")
@operation(
    name="getNumber",
    about="Numbers",
    query=NumberQuery,
    answers={200: Number},
    problems=["not-found", *OF_PROVIDER],
)
async def get_number(number: str) -> Response:
    """Show a number, by id or E.164"""
    query = read_query(NumberQuery)
    async with as_problems():
        record = await _visible(number)
        if query.refresh:
            record = (await own_numbers().check(record.tenant_id, record.id)).record
    return answer(shown(record))


@blueprint.delete("/v2/numbers/<number>")
@operation(
    name="releaseNumber",
    about="Numbers",
    query=ReleaseQuery,
    answers={200: Number},
    problems=["not-found", "conflict", *OF_PROVIDER],
)
async def release_number(number: str) -> Response:
    """Release a number, by id or E.164

    Twilio takes it back at once, and for good. Refused while an agent uses it, unless `force` is given.
    """
    query = read_query(ReleaseQuery)
    async with as_problems():
        record = await _visible(number)
        record = await own_numbers().release(record.tenant_id, record.id, force=query.force)
    return answer(shown(record))


async def _adopt(tenant_id: str, given: NumberCreate) -> NumberRecord:
    if given.may_move and not principal().is_admin:
        raise invalid("may_move", "with the admin key only")
    assert given.e164 is not None
    return await own_numbers().adopt(tenant_id, given.e164, may_move=given.may_move)


async def _buy(tenant_id: str, given: NumberCreate) -> NumberRecord:
    if given.may_move:
        raise invalid("may_move", "goes with `e164` of a number that is to be adopted")
    # Without a key every request is an intent of its own.
    key = request.headers.get(HEADER) or ids.new_id("once", dependencies().clock.now())
    digest = hashlib.sha256(key.encode()).hexdigest()
    return await own_numbers().buy(
        tenant_id, given.wish(), intent_key=f"api/{digest}", label=given.label
    )


async def _visible(number: str) -> NumberRecord:
    """By id or E.164; another tenant's is not there. An unescaped `+` of a path stays one."""
    return await own_numbers().get(principal().tenant_id, number)
