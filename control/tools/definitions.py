"""The tools as data: parameters as models, and from these what ElevenLabs is told.

Source: ElevenLabs, "Client tools" (`tool_config` of type `client`): every property has exactly one of
`description`, `dynamic_variable`, `constant_value`; a response is waited for `response_timeout_secs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from control.instant import Instant
from control.telephone_number import E164_PATTERN, check_number


class Parameters(BaseModel):
    """Base of what a tool takes: nothing unknown; a text that is no date is an error, not a guess."""

    model_config = ConfigDict(extra="forbid")


class TransferToNumber(Parameters):
    number: Annotated[str, AfterValidator(check_number)] = Field(
        pattern=E164_PATTERN,
        description="The person's telephone number in E.164, for example +14155550123.",
    )
    reason: str = Field(
        "", max_length=500, description="In one sentence: who the caller is and what it is about."
    )
    warm: bool = Field(
        False,
        description="true: ring the person first and tell them the reason; the caller stays with you "
        "until they answer.",
    )


class OptOut(Parameters):
    reason: str = Field("", max_length=500, description="The caller's own words.")


class ScheduleCallback(Parameters):
    at: Instant = Field(
        description="When to call back: date and time with the zone's offset, for example "
        "2026-03-02T15:30:00-05:00."
    )
    reason: str = Field("", max_length=500, description="What the call back is about.")


class LookupCaller(Parameters):
    pass


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its name, its parameters, how long it may take, and the words for the model."""

    name: str
    parameters: type[Parameters]
    deadline_s: float
    description: str
    speech: Literal["auto", "force", "off"] = "auto"


ANSWER_MARGIN_S = 5.0
"""ElevenLabs waits so much longer than the tool may take: our own error says more than its time-out."""

TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "transfer_to_number",
            TransferToNumber,
            75.0,
            "Put the caller through to a person. Use it when the caller asks for a person, and only with a "
            "number that you were given. On an error stay with the caller and offer something else.",
            speech="force",
        ),
        Tool(
            "opt_out",
            OptOut,
            10.0,
            "Take the caller's number off all call lists, at once. Use it whenever the caller asks not to "
            "be called again, in whatever words. Confirm it and say goodbye.",
        ),
        Tool(
            "schedule_callback",
            ScheduleCallback,
            15.0,
            "Have the caller called back at a later time. Agree on the date, the time and the time zone "
            "first. On an error say why and agree on another time.",
        ),
        Tool(
            "lookup_caller",
            LookupCaller,
            10.0,
            "What is known of the caller: earlier calls, when the last one was and what it was about.",
        ),
    )
}


def tool_configs() -> list[dict[str, Any]]:
    """`tool_config` objects for ElevenLabs, in a stable order."""
    return [
        {
            "type": "client",
            "name": tool.name,
            "description": tool.description,
            "expects_response": True,
            "response_timeout_secs": int(tool.deadline_s + ANSWER_MARGIN_S),
            "pre_tool_speech": tool.speech,
            "parameters": _schema(tool.parameters),
        }
        for tool in TOOLS.values()
    ]


_TYPES: dict[Any, str] = {str: "string", bool: "boolean"}


def _schema(parameters: type[Parameters]) -> dict[str, Any]:
    """The subset of JSON Schema that ElevenLabs takes: a type and a description for each property."""
    fields = parameters.model_fields
    return {
        "type": "object",
        "required": [name for name, field in fields.items() if field.is_required()],
        "properties": {
            name: {
                "type": _TYPES.get(field.annotation or str, "string"),
                "description": field.description or name,
            }
            for name, field in fields.items()
        },
    }
