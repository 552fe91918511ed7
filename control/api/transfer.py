"""`POST /v2/calls/{id}/transfer`: the caller of a live call is put through to somebody."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from quart import Blueprint, Response

from control.api import call_models
from control.api.answers import answer
from control.api.auth import require_visible
from control.api.call_models import CallBrief
from control.api.dependencies import dependencies
from control.api.openapi import operation
from control.api.problem import Problem, not_found
from control.api.reading import Body, read_body
from control.api.refusals import as_problems
from control.routing.model import check_sip
from control.store import calls
from control.telephone_number import TelephoneNumber
from control.transfer.order import AWAY, KINDS, SUMMARY_MAX_CHARS, Kind, Order, status_of

blueprint = Blueprint("transfer", __name__)

TEXT_MAX_CHARS = 1000


class Destination(Body):
    """Where to: exactly one of them."""

    number: TelephoneNumber | None = None
    client: str | None = Field(None, pattern=r"^[A-Za-z0-9_.\-]{1,121}$")
    sip: Annotated[str, AfterValidator(check_sip)] | None = Field(
        None, description="`sip:user@host`."
    )
    conference: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.\-]{1,100}$", description="A room of the account."
    )

    @model_validator(mode="after")
    def _one(self) -> Destination:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        return self

    @property
    def kind(self) -> Kind:
        """Which of them it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


class Transfer(Body):
    """A transfer that is wanted."""

    to: Destination
    announce: str | None = Field(
        None, min_length=1, max_length=TEXT_MAX_CHARS, description="Said to the caller first."
    )
    mode: Literal["blind", "warm"] = Field(
        "blind",
        description="`warm`: the person is rung first and told the `summary`; the caller stays with the agent "
        "until they answer.",
    )
    summary: str | None = Field(None, min_length=1, max_length=SUMMARY_MAX_CHARS)
    then: Literal["hangup", "return"] = Field(
        "hangup", description="When the person has hung up: the end, or back to the agent."
    )
    otherwise: str = Field(
        "agent",
        min_length=1,
        max_length=TEXT_MAX_CHARS,
        description="When nobody answers: back to the `agent`, `hangup`, or a text that is said first.",
    )
    timeout_s: int = Field(25, ge=5, le=120, description="How long it rings.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"to": {"number": "+15550100456"}, "announce": "One moment, please."}]
        }
    )

    @model_validator(mode="after")
    def _fits(self) -> Transfer:
        if self.mode == "warm" and self.to.kind == "conference":
            raise ValueError("mode: a warm transfer needs somebody to ring, not a conference")
        if self.summary is not None and self.mode != "warm":
            raise ValueError("summary: only with a warm transfer")
        return self


@blueprint.post("/v2/calls/<call_id>/transfer")
@operation(
    name="transferCall",
    about="Calls",
    body=Transfer,
    answers={200: CallBrief, 202: CallBrief},
    problems=["not-found", "conflict", "policy-refused", "dial-refused"],
)
async def transfer_call(call_id: str) -> Response:
    """Put the caller through to somebody

    Policy is asked first, and a refusal is 403 with the decision. The agent finishes its sentence, then Twilio
    dials: 200. 202 when that is still under way (a warm transfer: the person is being rung). What becomes of it
    is in the record, as `legs.transfer`. When nobody answers the caller is back with the agent, unless
    `otherwise` says something else.
    """
    given = await read_body(Transfer)
    known = dependencies()
    record = await known.store.read(calls.get, call_id)
    if record is None:
        raise _no_call(call_id)
    require_visible(record.tenant_id, lambda: _no_call(call_id))
    kind = given.to.kind
    order = Order(
        kind,
        getattr(given.to, kind),
        announce=given.announce or "",
        then=given.then,
        otherwise=given.otherwise,
        timeout_s=given.timeout_s,
        is_warm=given.mode == "warm",
        summary=given.summary or "",
    )
    with as_problems():
        record = await known.switchboard.transfer(call_id, order)
    return answer(call_models.brief(record), 200 if status_of(record.legs) in AWAY else 202)


def _no_call(call_id: str) -> Problem:
    return not_found(f"there is no call {call_id}")
