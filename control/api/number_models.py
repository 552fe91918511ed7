"""Numbers as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from control.api.answers import Answer, PageQuery
from control.api.reading import Body, Query
from control.numbers import Candidate, NumberRecord, NumberWish
from control.telephone_number import TelephoneNumber

NumberKind = Literal["local", "toll_free", "mobile"]
_COUNTRY = Field("US", min_length=2, max_length=2, description="ISO 3166-1 alpha-2, such as `US`.")
_AREA_CODE = Field(None, max_length=3, description="Three digits; in the US and Canada only.")
_CONTAINS = Field(
    None,
    max_length=16,
    description="2 to 16 of digits, letters (as on a keypad) and `*` for any digit.",
)
_LOCALITY = Field(None, max_length=64, description="A town, as Twilio spells it.")
_REGION = Field(None, max_length=2, description="A state or province of the US or Canada: `SC`.")
_STATUSES = Literal["buying", "active", "released", "gone", "failed"]


class AvailableQuery(Query):
    """What to look for."""

    country: str = _COUNTRY
    type: NumberKind = "local"
    area_code: str | None = _AREA_CODE
    contains: str | None = _CONTAINS
    locality: str | None = _LOCALITY
    region: str | None = _REGION
    sms: bool = Field(False, description="Only numbers that can send messages.")
    limit: int = Field(20, ge=1, le=100)
    tenant_id: str | None = Field(None, max_length=64, description="In whose account to search.")


class NumberCreate(Body):
    """A number to buy, or with `e164` alone one to adopt."""

    e164: TelephoneNumber | None = Field(
        None, description="Adopt this number, which the account owns."
    )
    buy: bool = Field(False, description="With `e164`: buy this very number instead.")
    type: NumberKind = "local"
    country: str = _COUNTRY
    area_code: str | None = _AREA_CODE
    contains: str | None = _CONTAINS
    locality: str | None = _LOCALITY
    region: str | None = _REGION
    sms: bool = Field(False, description="It has to be able to send messages.")
    bundle_sid: str | None = Field(None, description="An approved regulatory bundle: `BU…`.")
    address_sid: str | None = Field(None, description="An address of the account: `AD…`.")
    label: str | None = Field(
        None, max_length=60, description="For people; a part of the number's name at Twilio."
    )
    may_move: bool = Field(
        False,
        description="With `e164`: move it here when the main account owns it. With the admin key only.",
    )
    tenant_id: str | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "local", "country": "US", "area_code": "843"},
                {"e164": "+18435550100"},
            ]
        }
    )

    def wish(self) -> NumberWish:
        """What is to be bought."""
        return NumberWish(
            type=self.type,
            country=self.country,
            area_code=self.area_code,
            contains=self.contains,
            locality=self.locality,
            region=self.region,
            sms=self.sms,
            bundle_sid=self.bundle_sid,
            address_sid=self.address_sid,
            e164=self.e164,
        )


class NumbersQuery(PageQuery):
    """Filters of the list."""

    tenant_id: str | None = Field(None, max_length=64)
    status: _STATUSES | None = None
    agent_id: str | None = Field(None, max_length=64)


class NumberQuery(Query):
    """How fresh the answer shall be."""

    refresh: bool = Field(
        False, description="Look at Twilio first, and put back what was changed by hand."
    )


class ReleaseQuery(Query):
    """What may be lost."""

    force: bool = Field(
        False,
        description="Release it although an agent uses it: its callers reach nobody any more.",
    )


class ForSale(Answer):
    """A number that Twilio has to sell."""

    e164: str
    type: NumberKind
    country: str
    region: str | None
    locality: str | None
    postal_code: str | None
    address_requirements: str = Field(
        description="Where the address has to be that a buyer names: `none`, `any`, `local`, `foreign`."
    )
    beta: bool
    capabilities: dict[str, bool]


class NumberTrouble(Answer):
    """Why it could not be bought."""

    code: str
    message: str


class Number(Answer):
    """A telephone number of a tenant, or one that is being bought."""

    id: str
    tenant_id: str
    status: str = Field(
        description="`buying`, `active`, `released`, `gone` (not in the account any more), `failed`."
    )
    e164: str | None
    sid: str | None
    type: str | None
    country: str | None
    region: str | None
    locality: str | None
    capabilities: dict[str, bool]
    agent_id: str | None
    origin: str = Field(description="`bought` or `adopted`.")
    friendly_name: str | None
    bundle_sid: str | None
    address_sid: str | None
    problem: NumberTrouble | None
    checked_at: datetime | None = Field(description="When Twilio was last looked at.")
    mended: list[str] = Field(description="The settings that were last found changed and put back.")
    mended_at: datetime | None
    created_at: datetime
    updated_at: datetime
    released_at: datetime | None


def shown(record: NumberRecord) -> Number:
    """A record as it is answered."""
    trouble = record.problem
    return Number(
        id=record.id,
        tenant_id=record.tenant_id,
        status=record.status,
        e164=record.e164,
        sid=record.sid,
        type=record.type,
        country=record.country,
        region=record.region,
        locality=record.locality,
        capabilities=record.capabilities,
        agent_id=record.agent_id,
        origin=record.origin,
        friendly_name=record.friendly_name,
        bundle_sid=record.bundle_sid,
        address_sid=record.address_sid,
        problem=NumberTrouble(code=trouble["code"], message=trouble["message"])
        if trouble
        else None,
        checked_at=record.checked_at,
        mended=record.mended,
        mended_at=record.mended_at,
        created_at=record.created_at,
        updated_at=record.updated_at,
        released_at=record.released_at,
    )


def for_sale(candidate: Candidate) -> ForSale:
    """A candidate as it is answered."""
    return ForSale(
        e164=candidate.e164,
        type=candidate.type,
        country=candidate.country,
        region=candidate.region,
        locality=candidate.locality,
        postal_code=candidate.postal_code,
        address_requirements=candidate.address_requirements,
        beta=candidate.is_beta,
        capabilities=candidate.capabilities,
    )
