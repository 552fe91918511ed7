"""Twilio's RegulatoryCompliance: what a country wants to see before it lets somebody have a number.

Every function raises TwilioRefused, TwilioUnreachable and TwilioUncertain.
Source: Twilio docs, "Regulatory compliance: regulations, bundles"; the numbers v2 OpenAPI document.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from control.twilio.rest import TwilioRest

NUMBER_TYPES = {"local": "local", "mobile": "mobile", "toll_free": "toll-free"}
"""Our words and this product's."""


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to be told: `name` is Twilio's, `label` is for people."""

    name: str
    label: str
    description: str


@dataclass(frozen=True, slots=True)
class Document:
    """A paper that proves something; any one of a requirement's papers will do."""

    type: str
    label: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """Who the number is for (`documents` empty), or what has to be proved."""

    name: str
    label: str
    description: str
    type: str
    fields: tuple[Field, ...] = ()
    documents: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True)
class Regulation:
    """What one country wants for one type of number, of persons or of businesses."""

    sid: str
    label: str
    country: str
    number_type: str
    end_user_type: str
    end_user: tuple[Requirement, ...]
    proofs: tuple[Requirement, ...]


async def regulations(
    rest: TwilioRest, *, country: str, number_type: str, end_user_type: str | None = None
) -> list[Regulation]:
    """What a country wants; empty when it wants nothing. `number_type` in our words."""
    given = {"end_user_type": end_user_type} if end_user_type else {}
    listed = partial(
        rest.client.numbers.v2.regulatory_compliance.regulations.list,
        iso_country=country,
        number_type=NUMBER_TYPES[number_type],
        include_constraints=True,
        limit=20,
        **given,
    )
    return [_regulation(item) for item in await rest.ask("regulations.list", listed)]


def _regulation(item: Any) -> Regulation:
    wanted = item.requirements or {}
    ours = {theirs: name for name, theirs in NUMBER_TYPES.items()}
    return Regulation(
        sid=item.sid,
        label=item.friendly_name or "",
        country=item.iso_country or "",
        number_type=ours.get(item.number_type, item.number_type or ""),
        end_user_type=str(item.end_user_type or ""),
        end_user=tuple(_end_user(one) for one in wanted.get("end_user") or ()),
        proofs=tuple(
            _proof(one) for group in wanted.get("supporting_document") or () for one in group
        ),
    )


def _end_user(given: dict[str, Any]) -> Requirement:
    return Requirement(
        name=given.get("requirement_name") or given.get("type") or "",
        label=given.get("name") or "",
        description=given.get("description") or "",
        type=given.get("type") or "",
        fields=_fields(given),
    )


def _proof(given: dict[str, Any]) -> Requirement:
    papers = tuple(
        Document(paper.get("type") or "", paper.get("name") or "", _fields(paper))
        for paper in given.get("accepted_documents") or ()
    )
    return Requirement(
        name=given.get("requirement_name") or "",
        label=given.get("name") or "",
        description=given.get("description") or "",
        type=given.get("type") or "document",
        documents=papers,
    )


def _fields(given: dict[str, Any]) -> tuple[Field, ...]:
    """With labels where Twilio gives them (`detailed_fields`), else by their names alone."""
    detailed = given.get("detailed_fields")
    if detailed:
        return tuple(
            Field(
                one.get("machine_name") or "",
                one.get("friendly_name") or one.get("machine_name") or "",
                one.get("description") or "",
            )
            for one in detailed
        )
    return tuple(Field(name, name.replace("_", " "), "") for name in given.get("fields") or ())
