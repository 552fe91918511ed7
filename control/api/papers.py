"""What countries and carriers want to see of a tenant: regulations, addresses, bundles, Trust Hub."""

from __future__ import annotations

from quart import Blueprint, Response

from control.api import paper_models
from control.api.answers import PageQuery, answer, page
from control.api.auth import own_tenant, tenant_for_new
from control.api.dependencies import dependencies
from control.api.idempotency import idempotent
from control.api.number_problems import OF_PROVIDER, as_problems, own_numbers
from control.api.openapi import listing, operation
from control.api.paper_models import (
    Address,
    AddressCreate,
    BundleCreate,
    Filing,
    FilingQuery,
    Regulation,
    RegulationsQuery,
    TrustCreate,
    TrustNumber,
    shown,
)
from control.api.problem import invalid, not_found
from control.api.reading import read_body, read_query
from control.numbers import plan, refusals
from control.numbers.papers import Contents, Item
from control.numbers.values import NumberWish
from control.store import filings, tenants
from control.store.filings import BUNDLE, CNAM, PROFILE, SHAKEN_STIR, TRUST, FilingRecord
from control.twilio import addresses
from control.twilio.rest import TwilioError

blueprint = Blueprint("papers", __name__)

ADDRESSES_MAX = 200
_TAG = "Regulatory"


@blueprint.get("/v2/tenants/<tenant_id>/regulations")
@operation(
    name="listRegulations",
    about=_TAG,
    query=RegulationsQuery,
    answers={200: listing(Regulation)},
    problems=["not-found", *OF_PROVIDER],
)
async def list_regulations(tenant_id: str) -> Response:
    """Show what a country wants to see before it lets a tenant have a number

    An empty list: nothing.
    """
    query = read_query(RegulationsQuery)
    async with as_problems():
        found = await own_numbers().papers.regulations(
            await _tenant(tenant_id), query.country, query.type, query.end_user_type
        )
    return page([paper_models.regulation(one) for one in found])


@blueprint.post("/v2/tenants/<tenant_id>/addresses")
@operation(
    name="createAddress",
    about=_TAG,
    body=AddressCreate,
    answers={201: Address},
    problems=["not-found", "conflict", *OF_PROVIDER],
    creates=True,
)
@idempotent
async def create_address(tenant_id: str) -> Response:
    """Make an address in the tenant's Twilio account

    Its `sid` is what numbers and papers ask for as `address_sid`.
    """
    given = await read_body(AddressCreate)
    mine = await _tenant_for_new(tenant_id)
    async with as_problems():
        country = plan.checked(NumberWish(country=given.country)).country
        rest = await own_numbers().papers.rest(mine)
        try:
            made = await addresses.create(
                rest,
                addresses.Address(
                    customer_name=given.customer_name,
                    street=given.street,
                    city=given.city,
                    region=given.region,
                    postal_code=given.postal_code,
                    iso_country=country,
                    street_secondary=given.street_secondary,
                ),
            )
        except TwilioError as error:
            raise refusals.of(error) from error
    return answer(_address(made), 201)


@blueprint.get("/v2/tenants/<tenant_id>/addresses")
@operation(
    name="listAddresses",
    about=_TAG,
    answers={200: listing(Address)},
    problems=["not-found", *OF_PROVIDER],
)
async def list_addresses(tenant_id: str) -> Response:
    """List the addresses of the tenant's Twilio account, at most 200"""
    async with as_problems():
        rest = await own_numbers().papers.rest(await _tenant(tenant_id))
        try:
            found = await addresses.listed(rest, ADDRESSES_MAX)
        except TwilioError as error:
            raise refusals.of(error) from error
    return page([_address(one) for one in found])


@blueprint.post("/v2/tenants/<tenant_id>/bundles")
@operation(
    name="createBundle",
    about=_TAG,
    body=BundleCreate,
    answers={201: Filing},
    problems=["not-found", "conflict", "requirements-missing", *OF_PROVIDER],
    creates=True,
)
@idempotent
async def create_bundle(tenant_id: str) -> Response:
    """File a regulatory bundle

    Handed in for review when Twilio's evaluation finds nothing missing; otherwise it stays a `draft` whose
    `findings` name each field. Names and papers go to Twilio and are not kept here.
    """
    given = await read_body(BundleCreate)
    mine = await _tenant_for_new(tenant_id)
    contents = Contents(
        email=given.email,
        end_users=[Item(given.end_user_type, given.end_user)],
        documents=[Item(one.type, one.attributes) for one in given.documents],
        label=given.label,
    )
    async with as_problems():
        record = await own_numbers().papers.file_bundle(
            mine, given.country, given.type, given.end_user_type, contents
        )
    return _made(record, "bundles")


@blueprint.get("/v2/tenants/<tenant_id>/bundles")
@operation(
    name="listBundles",
    about=_TAG,
    query=PageQuery,
    answers={200: listing(Filing)},
    problems=["not-found"],
)
async def list_bundles(tenant_id: str) -> Response:
    """List a tenant's regulatory bundles, the newest first"""
    return await _listed(tenant_id, (BUNDLE,))


@blueprint.get("/v2/tenants/<tenant_id>/bundles/<filing_id>")
@operation(
    name="getBundle",
    about=_TAG,
    query=FilingQuery,
    answers={200: Filing},
    problems=["not-found", *OF_PROVIDER],
)
async def get_bundle(tenant_id: str, filing_id: str) -> Response:
    """Show a regulatory bundle, and what became of its review"""
    return await _one(tenant_id, filing_id, (BUNDLE,))


@blueprint.post("/v2/tenants/<tenant_id>/trust")
@operation(
    name="createTrust",
    about=_TAG,
    body=TrustCreate,
    answers={201: Filing},
    problems=["not-found", "conflict", "requirements-missing", *OF_PROVIDER],
    creates=True,
)
@idempotent
async def create_trust(tenant_id: str) -> Response:
    """File a customer profile, or SHAKEN/STIR or CNAM on an approved one"""
    given = await read_body(TrustCreate)
    _check(given)
    mine = await _tenant_for_new(tenant_id)
    trust = own_numbers().trust
    async with as_problems():
        if given.kind == PROFILE:
            record = await trust.file_profile(
                mine,
                email=given.email,
                business=given.business or {},
                representatives=given.representatives,
                address_sid=given.address_sid or "",
                primary_profile_sid=given.primary_profile_sid,
                label=given.label,
            )
        elif given.kind == SHAKEN_STIR:
            record = await trust.file_shaken_stir(mine, email=given.email, label=given.label)
        else:
            record = await trust.file_cnam(
                mine,
                email=given.email,
                display_name=given.display_name or "",
                label=given.label,
            )
    return _made(record, "trust")


@blueprint.get("/v2/tenants/<tenant_id>/trust")
@operation(
    name="listTrust",
    about=_TAG,
    query=PageQuery,
    answers={200: listing(Filing)},
    problems=["not-found"],
)
async def list_trust(tenant_id: str) -> Response:
    """List a tenant's customer profiles and trust products, the newest first"""
    return await _listed(tenant_id, TRUST)


@blueprint.get("/v2/tenants/<tenant_id>/trust/<filing_id>")
@operation(
    name="getTrust",
    about=_TAG,
    query=FilingQuery,
    answers={200: Filing},
    problems=["not-found", *OF_PROVIDER],
)
async def get_trust(tenant_id: str, filing_id: str) -> Response:
    """Show a customer profile or a trust product, and what became of its review"""
    return await _one(tenant_id, filing_id, TRUST)


@blueprint.post("/v2/tenants/<tenant_id>/trust/<filing_id>/numbers")
@operation(
    name="connectTrustNumber",
    about=_TAG,
    body=TrustNumber,
    answers={200: Filing},
    problems=["not-found", "conflict", "requirements-missing", *OF_PROVIDER],
)
async def connect_trust_number(tenant_id: str, filing_id: str) -> Response:
    """Let an approved profile or product stand for a number of the tenant"""
    given = await read_body(TrustNumber)
    mine = await _tenant(tenant_id)
    async with as_problems():
        record = await own_numbers().trust.connect(mine, filing_id, given.number)
    return answer(shown(record))


def _check(given: TrustCreate) -> None:
    """What each kind needs."""
    needed: dict[str, object] = {}
    if given.kind == PROFILE:
        needed = {
            "business": given.business,
            "representatives": given.representatives,
            "address_sid": given.address_sid,
        }
    if given.kind == CNAM:
        needed = {"display_name": given.display_name}
    for field, value in needed.items():
        if not value:
            raise invalid(field, f"required for {given.kind}")


async def _listed(tenant_id: str, kinds: tuple[str, ...]) -> Response:
    query = read_query(PageQuery)
    records, cursor = await dependencies().store.read(
        filings.list_filings,
        await _tenant(tenant_id),
        kinds,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([shown(record) for record in records], cursor)


async def _one(tenant_id: str, filing_id: str, kinds: tuple[str, ...]) -> Response:
    query = read_query(FilingQuery)
    papers = own_numbers().papers
    async with as_problems():
        record = await papers.get(await _tenant(tenant_id), filing_id, kinds)
        if query.refresh:
            record = await papers.refresh(record)
    return answer(shown(record))


def _made(record: FilingRecord, where: str) -> Response:
    location = f"/v2/tenants/{record.tenant_id}/{where}/{record.id}"
    return answer(shown(record), 201, {"Location": location})


async def _tenant(tenant_id: str) -> str:
    """The tenant of the path. Raises Problem (404)."""
    mine = own_tenant(tenant_id)
    if await dependencies().store.read(tenants.get, mine) is None:
        raise not_found(f"there is no tenant {tenant_id}")
    return mine


async def _tenant_for_new(tenant_id: str) -> str:
    """The tenant of the path, which must be active. Raises Problem (404, 409)."""
    return await tenant_for_new(await _tenant(tenant_id))


def _address(known: addresses.Address) -> Address:
    return Address(
        sid=known.sid or "",
        customer_name=known.customer_name,
        street=known.street,
        street_secondary=known.street_secondary,
        city=known.city,
        region=known.region,
        postal_code=known.postal_code,
        country=known.iso_country,
    )
