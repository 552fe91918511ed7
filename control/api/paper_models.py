"""Papers as the API takes and shows them: addresses, regulatory bundles, Trust Hub."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from control.api.answers import Answer
from control.api.number_models import NumberKind
from control.api.reading import Body, Query
from control.numbers.trust import CNAM_MAX_CHARS
from control.store.filings import FilingRecord
from control.twilio.regulatory import Regulation as RegulationKnown
from control.twilio.regulatory import Requirement as RequirementKnown

EndUserType = Literal["business", "individual"]
_EMAIL = Field(
    min_length=3,
    max_length=254,
    pattern=r"^[^@\s]+@[^@\s]+$",
    description="Where Twilio writes what became of it.",
)
_ATTRIBUTES = Field(
    max_length=40, description="What Twilio wants to know, by its names of the fields."
)
_COUNTRY = Field(min_length=2, max_length=2, description="ISO 3166-1 alpha-2, such as `DE`.")
_LABEL = Field(None, max_length=60, description="For people; a part of its name at Twilio.")


class RegulationsQuery(Query):
    """For which numbers."""

    country: str = _COUNTRY
    type: NumberKind = "local"
    end_user_type: EndUserType | None = None


class RequiredField(Answer):
    """One thing to be told."""

    name: str
    label: str
    description: str


class AcceptedDocument(Answer):
    """A paper that will do."""

    type: str
    label: str
    fields: list[RequiredField]


class Requirement(Answer):
    """Who it is about, or what has to be proved."""

    name: str
    label: str
    description: str
    type: str
    fields: list[RequiredField]
    documents: list[AcceptedDocument] = Field(description="Any one of them will do.")


class Regulation(Answer):
    """What a country wants to see."""

    sid: str
    label: str
    country: str
    number_type: str
    end_user_type: str
    end_user: list[Requirement]
    proofs: list[Requirement]


class AddressCreate(Body):
    """A postal address."""

    customer_name: str = Field(min_length=1, max_length=200)
    street: str = Field(min_length=1, max_length=200)
    street_secondary: str | None = Field(None, max_length=200)
    city: str = Field(min_length=1, max_length=100)
    region: str = Field(min_length=1, max_length=100, description="State, province or county.")
    postal_code: str = Field(min_length=1, max_length=20)
    country: str = _COUNTRY

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "customer_name": "Acme GmbH",
                    "street": "Hauptstr. 1",
                    "city": "Berlin",
                    "region": "BE",
                    "postal_code": "10115",
                    "country": "DE",
                }
            ]
        }
    )


class Address(Answer):
    """An address at Twilio. It is not kept here."""

    sid: str
    customer_name: str
    street: str
    street_secondary: str | None
    city: str
    region: str
    postal_code: str
    country: str


class PaperItem(Body):
    """An end user or a document."""

    type: str = Field(min_length=1, max_length=80, description="As the regulation names it.")
    attributes: dict[str, Any] = _ATTRIBUTES


class BundleCreate(Body):
    """A regulatory bundle. What it has to hold is in the regulations of the country."""

    country: str = _COUNTRY
    type: NumberKind = "local"
    end_user_type: EndUserType = "business"
    email: str = _EMAIL
    end_user: dict[str, Any] = _ATTRIBUTES
    documents: list[PaperItem] = Field(default_factory=list, max_length=20)
    label: str | None = _LABEL

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "country": "DE",
                    "email": "papers@example.com",
                    "end_user": {"business_name": "Acme GmbH"},
                    "documents": [
                        {"type": "address", "attributes": {"address_sids": "AD" + "0" * 32}}
                    ],
                }
            ]
        }
    )


class TrustCreate(Body):
    """A customer profile, or what stands on it. A product waits until the profile is approved."""

    kind: Literal["customer_profile", "shaken_stir", "cnam"]
    email: str = _EMAIL
    business: dict[str, Any] | None = Field(
        None, max_length=40, description="Of a profile: `business_name`, `business_type`, …"
    )
    representatives: list[dict[str, Any]] = Field(
        default_factory=list,
        max_length=2,
        description="Of a profile: one or two people, `first_name`, `last_name`, `email`, …",
    )
    address_sid: str | None = Field(None, pattern="^AD[0-9a-fA-F]{32}$")
    primary_profile_sid: str | None = Field(
        None,
        pattern="^BU[0-9a-fA-F]{32}$",
        description="The approved profile that vouches for it; by default the main account's.",
    )
    display_name: str | None = Field(
        None, min_length=1, max_length=CNAM_MAX_CHARS, description="Of CNAM: what is displayed."
    )
    label: str | None = _LABEL

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "shaken_stir", "email": "papers@example.com"}]}
    )


class TrustNumber(Body):
    """A number to stand for."""

    number: str = Field(min_length=2, max_length=64, description="By id or E.164.")

    model_config = ConfigDict(json_schema_extra={"examples": [{"number": "+18435550100"}]})


class FilingQuery(Query):
    """How fresh the answer shall be."""

    refresh: bool = Field(False, description="Ask Twilio first.")


class FilingItem(Answer):
    """What was put into it."""

    sid: str
    type: str


class Finding(Answer):
    """What Twilio's evaluation misses."""

    requirement: str
    field: str | None
    reason: str


class Filing(Answer):
    """Something filed at Twilio for review. A `draft` was not submitted: see `findings`, `reason`."""

    id: str
    tenant_id: str
    kind: str
    status: str = Field(
        description="`draft`, `pending-review`, `in-review`, `twilio-approved`, `provisionally-approved`, "
        "`twilio-rejected`, `gone`."
    )
    sid: str | None
    country: str | None
    number_type: str | None
    end_user_type: str | None
    items: list[FilingItem]
    findings: list[Finding]
    reason: str | None
    valid_until: datetime | None
    submitted_at: datetime | None
    checked_at: datetime | None
    created_at: datetime
    updated_at: datetime


def shown(record: FilingRecord) -> Filing:
    """A record as it is answered."""
    return Filing(
        id=record.id,
        tenant_id=record.tenant_id,
        kind=record.kind,
        status=record.status,
        sid=record.sid,
        country=record.country,
        number_type=record.number_type,
        end_user_type=record.end_user_type,
        items=[FilingItem(**item) for item in record.items],
        findings=[Finding(**finding) for finding in record.findings],
        reason=record.reason,
        valid_until=record.valid_until,
        submitted_at=record.submitted_at,
        checked_at=record.checked_at,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def regulation(known: RegulationKnown) -> Regulation:
    """A regulation as it is answered."""
    return Regulation(
        sid=known.sid,
        label=known.label,
        country=known.country,
        number_type=known.number_type,
        end_user_type=known.end_user_type,
        end_user=[_requirement(one) for one in known.end_user],
        proofs=[_requirement(one) for one in known.proofs],
    )


def _requirement(known: RequirementKnown) -> Requirement:
    return Requirement.model_validate(asdict(known))
