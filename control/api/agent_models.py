"""What requests about agents look like."""

from __future__ import annotations

import zoneinfo
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, field_validator

from control.api.answers import PageQuery
from control.api.machine_models import MachineDetection
from control.api.reading import Body, Query
from control.api.script_models import Script
from control.routing.model import ROUTES_MAX, Hours, Route
from control.telephone_number import TelephoneNumber
from control.transfer.fallback import Fallback
from policy.facts import Purpose

MAX_CALL_S = 4 * 3600
"""Twilio's own limit of a call."""
NUMBERS_MAX = 100
TEXT_MAX_CHARS = 50_000


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | bool | int | float):
        raise ValueError("a text, a number, true or false")
    return value


Scalar = Annotated[
    Any, AfterValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})
]


def _free_name(name: str) -> str:
    if name.startswith("system__"):
        raise ValueError("names that begin with system__ are ElevenLabs' own")
    return name


VariableName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_free_name)]
Variables = dict[VariableName, Scalar]
"""Dynamic variables of a conversation. One error for a wrong one, where a union would give four."""
AgentStatus = Literal["provisioning", "live", "degraded", "failed", "closed"]
Location = str | dict[str, Any]


def _zone(name: str | None) -> str | None:
    if name is not None and not _is_zone(name):
        raise ValueError("not an IANA time zone")
    return name


Timezone = Annotated[str | None, AfterValidator(_zone)]


class NumberIn(Body):
    """A number: `e164` adopts one that the Twilio account owns; otherwise one is bought."""

    e164: TelephoneNumber | None = None
    type: Literal["local", "toll_free", "mobile"] | None = Field(
        None, description="Kind of number to buy; `local` when only the country is given."
    )
    country: str | None = Field(None, description="ISO 3166-1 alpha-2, such as `US`.")
    area_code: str | None = None
    contains: str | None = Field(None, description="Digits, letters, and `*` for any digit.")
    locality: str | None = None
    region: str | None = None
    bundle_sid: str | None = Field(None, description="A regulatory bundle, where one is required.")
    address_sid: str | None = Field(None, description="An address, where one is required.")


class FurtherNumberIn(NumberIn):
    """Another number of the same agent, perhaps at another place."""

    location: Location | None = Field(
        None, description="What calls of this number are told; the agent's own otherwise."
    )
    timezone: Timezone = None


class AgentSettings(Body):
    """What may be given at the start and changed later."""

    business_url: str | None = Field(
        None,
        max_length=2000,
        pattern=r"^https?://[^\s]+$",
        description="Read into the agent's knowledge base, by ElevenLabs: a public address.",
    )
    vertical: str | None = Field(
        None, max_length=100, description="A name of `GET /v2/verticals`; `generic` without one."
    )
    timezone: Timezone = Field(None, description="An IANA name, such as `Europe/Paris`.")
    hours: Hours | None = None
    routes: list[Route] | None = Field(
        None,
        max_length=ROUTES_MAX,
        description="Who takes calls when: the first that matches, else this agent. See "
        "`PUT /v2/numbers/{e164}/routes`.",
    )
    transfer_numbers: list[TelephoneNumber] | None = Field(
        None,
        max_length=100,
        description="The only numbers that the agent itself may transfer callers to; without a list, "
        "numbers of its own country.",
    )
    fallback: Fallback | None = Field(
        None,
        description="Where callers go when the agent is lost and cannot be had again: a `number` or `sip` address "
        "that is dialled, or a `message`. Without one they hear that we are sorry.",
    )
    extractions: list[Any] | dict[str, Any] | None = Field(
        None,
        description="What to find out: `{name, type, description?, required?, enum?}` each, as a list or by "
        "name. Types: string, integer, number, boolean. The vertical's own when absent.",
    )
    sms: dict[str, Any] | None = None
    location: Location | None = None
    machine_detection: MachineDetection | None = Field(
        None, description="Of its outbound calls; a call's own goes before it."
    )
    opt_out_digit: str | None = Field(
        None,
        pattern=r"^[0-9*#]?$",
        description="The key with which a called party opts out; 9 when left out, empty: none.",
    )
    purpose: Purpose | None = Field(
        None,
        description="Of its outbound calls, where a call does not say; unknown is judged as `marketing`.",
    )
    script: Script | None = Field(
        None,
        description="Which of the lines that policy demands an adopted agent says by itself. Not needed where "
        "the gateway puts them before its first message.",
    )
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=TEXT_MAX_CHARS,
        description="In place of the vertical's. `{business}`, `{hours}`, `{language}` are filled in; "
        "`{{name}}` is a dynamic variable.",
    )
    first_message: str | None = Field(
        None, max_length=2000, description="What the agent says first; empty: it waits."
    )
    language: str | None = Field(None, pattern=r"^[a-z]{2}(-[a-z]{2})?$")
    voice_id: str | None = Field(None, min_length=1, max_length=100)


class AgentCreate(AgentSettings):
    """A new agent."""

    name: str = Field(min_length=1, max_length=200, pattern=r"\S")
    number: NumberIn
    numbers: list[FurtherNumberIn] = Field(
        [], max_length=NUMBERS_MAX, description="Further numbers of the same agent."
    )
    elevenlabs_agent_id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Adopts an agent that the ElevenLabs account has; without it one is made.",
    )
    manage: bool | None = Field(
        None,
        description="Whether the whole configuration at ElevenLabs is the gateway's: prompt, audio formats, "
        "events, tools. True for an agent that it makes. An adopted one keeps its own, and only what this "
        "request gives is written into it, unless this is true.",
    )
    self_test: bool = Field(
        True, description="Open a conversation without a caller before the agent goes live."
    )
    tenant_id: str | None = None
    variables: Variables = Field(
        {}, description="Dynamic variables that every conversation starts with."
    )
    record: bool = Field(False, description="Record calls in stereo: caller left, agent right.")
    max_call_s: int | None = Field(None, ge=1, le=MAX_CALL_S)

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Coastal Heating & Air",
                    "business_url": "https://coastal.example.com",
                    "vertical": "hvac",
                    "number": {"type": "local", "country": "US", "area_code": "843"},
                    "timezone": "America/New_York",
                    "location": "12 King Street, Charleston, SC",
                    "hours": {"mon": ["08:00-17:00"], "tue": ["08:00-17:00"]},
                }
            ]
        }
    )

    @field_validator("numbers", mode="before")
    @classmethod
    def _absent(cls, given: Any) -> Any:
        return [] if given is None else given


class AgentPatch(AgentSettings):
    """Changes: a field that is given replaces the old value whole; null takes it away."""

    name: str = Field("", min_length=1, max_length=200, pattern=r"\S")
    number: NumberIn = Field(
        default_factory=lambda: NumberIn.model_validate({}),
        description="In place of the number that was asked for, while there is none yet and the agent has "
        "`failed` or is `degraded`; then `POST /v2/agents/{id}/retry`.",
    )
    variables: Variables = Field(default_factory=dict)
    record: bool = False
    max_call_s: int | None = Field(None, ge=1, le=MAX_CALL_S)

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Night desk", "record": False}]}
    )


class AgentsQuery(PageQuery):
    """Filters of the list."""

    tenant_id: str | None = None
    status: AgentStatus | None = None


class AgentQuery(Query):
    """How one agent is shown."""

    refresh: bool = Field(
        False, description="Look at both providers first, and mend what was changed by hand."
    )


class ReleaseQuery(Query):
    """What is given back when an agent is closed."""

    release: str | None = Field(
        None,
        pattern=r"^(number|elevenlabs)(,(number|elevenlabs))*$",
        description="`number`, `elevenlabs`, or both with a comma: gives back for good what was bought or made "
        "for this agent. What was adopted stays.",
    )


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        # A machine without zone data knows none: then there is nothing to check against.
        return not zoneinfo.available_timezones()
    return True
