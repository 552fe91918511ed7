"""`/v2/tenants/{id}/geo-permissions`: which countries a tenant's Twilio account may call at all."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import ConfigDict, Field
from quart import Blueprint, Response

from control import log
from control.api.answers import Answer, answer
from control.api.auth import own_tenant
from control.api.dependencies import dependencies
from control.api.number_problems import OF_PROVIDER, as_problems, own_numbers
from control.api.openapi import operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import Body, read_body
from control.compliance.permissions import PermissionsReader
from control.ids import DEFAULT_TENANT_ID
from control.numbers import plan, refusals
from control.numbers.values import NumberProblem, NumberWish
from control.store import tenants
from control.tenants import keys
from control.twilio import geo
from control.twilio.geo import Permission
from control.twilio.rest import TwilioError, TwilioRest

blueprint = Blueprint("geo", __name__)


class CountryPermission(Body):
    """What may be called in one country. High risk is what fraudsters earn from."""

    country: str = Field(min_length=2, max_length=2, description="ISO 3166-1 alpha-2.")
    low_risk: bool = True
    high_risk_special: bool = False
    high_risk_tollfraud: bool = False


class GeoChange(Body):
    """Countries to open or close; others stay as they are."""

    countries: list[CountryPermission] = Field(default_factory=list, max_length=300)
    inherit: bool | None = Field(
        None,
        description="Of a subaccount: have the main account's permissions instead of its own. Naming "
        "countries ends it.",
    )
    allow_high_risk: bool = Field(
        False, description="Has to be true when numbers of high risk are opened."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [{"countries": [{"country": "GB"}]}]})


class CountryPermitted(Answer):
    """What may be called in one country now."""

    country: str
    name: str
    low_risk: bool
    high_risk_special: bool
    high_risk_tollfraud: bool


class GeoPermissions(Answer):
    """What Twilio lets the tenant's account call. Our own policy stands above it."""

    inherits: bool = Field(description="The main account's permissions are in force.")
    countries: list[CountryPermitted]


@blueprint.get("/v2/tenants/<tenant_id>/geo-permissions")
@operation(
    name="getGeoPermissions",
    about="Regulatory",
    answers={200: GeoPermissions},
    problems=["not-found", *OF_PROVIDER],
)
async def get_geo_permissions(tenant_id: str) -> Response:
    """Show which countries Twilio lets a tenant's account call"""
    return answer(await _permissions(await _rest(tenant_id)))


@blueprint.put("/v2/tenants/<tenant_id>/geo-permissions")
@operation(
    name="setGeoPermissions",
    about="Regulatory",
    body=GeoChange,
    answers={200: GeoPermissions},
    problems=["not-found", *OF_PROVIDER],
    scope=keys.ADMIN,
)
async def set_geo_permissions(tenant_id: str) -> Response:
    """Open or close countries at Twilio

    For the admin key: a tenant does not widen what it may call. Low risk only, unless `allow_high_risk` says
    that more is meant.
    """
    given = await read_body(GeoChange)
    wanted = _wanted(given)
    rest = await _rest(tenant_id)
    if given.inherit is not None and tenant_id == DEFAULT_TENANT_ID:
        raise invalid("inherit", "the main account has nobody to inherit from")
    async with as_problems():
        try:
            if wanted and tenant_id != DEFAULT_TENANT_ID and await geo.inherits(rest):
                # Else Twilio would take the permissions and go on with the main account's.
                await geo.set_inheritance(rest, False)
            if wanted and await geo.set_permissions(rest, wanted) != len(wanted):
                raise Problem("outcome-unknown", "Twilio has not taken every country: look again")
            if given.inherit is not None:
                await geo.set_inheritance(rest, given.inherit)
        except TwilioError as error:
            raise refusals.of(error) from error
    reader = PermissionsReader(
        dependencies().store, own_numbers().papers.access, dependencies().clock
    )
    async with as_problems():
        try:
            await reader.read(own_tenant(tenant_id))  # the rules know it from now on
        except TwilioError as error:
            raise refusals.of(error) from error
    log.event("geo_permissions_set", tenant_id=tenant_id, countries=len(wanted))
    return answer(await _permissions(rest))


def _wanted(given: GeoChange) -> list[Permission]:
    wanted = []
    for place, one in enumerate(given.countries):
        if (one.high_risk_special or one.high_risk_tollfraud) and not given.allow_high_risk:
            raise invalid(
                f"countries.{place}", "opens numbers of high risk: give `allow_high_risk` too"
            )
        wanted.append(
            Permission(
                _country(one.country, place),
                "",
                one.low_risk,
                one.high_risk_special,
                one.high_risk_tollfraud,
            )
        )
    if given.inherit and wanted:
        raise invalid("inherit", "either the main account's permissions or countries of its own")
    if not wanted and given.inherit is None:
        raise invalid("countries", "name at least one, or give `inherit`")
    return wanted


def _country(text: str, place: int) -> str:
    try:
        return plan.checked(NumberWish(country=text)).country
    except NumberProblem as problem:
        raise invalid(f"countries.{place}.country", str(problem)) from problem


async def _permissions(rest: TwilioRest) -> GeoPermissions:
    async with as_problems():
        try:
            found = await geo.permissions(rest)
            inherits = await geo.inherits(rest)
        except TwilioError as error:
            raise refusals.of(error) from error
    countries = [CountryPermitted(**asdict(one)) for one in found]
    return GeoPermissions(inherits=inherits, countries=countries)


async def _rest(tenant_id: str) -> TwilioRest:
    mine = own_tenant(tenant_id)
    if await dependencies().store.read(tenants.get, mine) is None:
        raise not_found(f"there is no tenant {tenant_id}")
    async with as_problems():
        return await own_numbers().papers.rest(mine)
