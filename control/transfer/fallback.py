"""Where a caller goes when no agent is left for them: the agent's `fallback`, a person or a sentence.

    {"number": "+15550100456", "timeout_s": 20}     or {"sip": "sip:desk@example.com"}, or {"message": "Please …"}

A number is asked about like every other transfer. What the call came to without it stays in `legs.fallback.cause`,
so that also a restarted daemon knows what to write down when the person is reached, and when not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from control.routing.model import RING_DEFAULT_S, RING_MAX_S, Text, check_sip
from control.telephone_number import TelephoneNumber
from control.transfer.order import Kind, Order, status_of

BY = "fallback"
RESULT = "fallback"
"""Of a call whose caller was put through, or told."""
_REACHED = frozenset({"connected", "completed"})


class Fallback(BaseModel):
    """Exactly one of `number`, `sip`, `message`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    number: TelephoneNumber | None = Field(
        None, description="A person's telephone number; policy is asked when the time comes."
    )
    sip: Annotated[str, AfterValidator(check_sip)] | None = None
    message: Text | None = Field(None, description="Said before the call ends.")
    timeout_s: int = Field(
        RING_DEFAULT_S, ge=5, le=RING_MAX_S, description="How long the person's telephone rings."
    )

    @model_validator(mode="after")
    def _one_target(self) -> Fallback:
        if sum(each is not None for each in (self.number, self.sip, self.message)) != 1:
            raise ValueError("give exactly one of number, sip, message")
        return self

    def order(self, regret: str) -> Order:
        """The transfer to the person; `regret` is said when nobody answers."""
        kind: Kind = "number" if self.number is not None else "sip"
        return Order(
            kind,
            self.number or self.sip or "",
            by=BY,
            otherwise=regret,
            timeout_s=self.timeout_s,
        )


def outcome_of(legs: Mapping[str, Any]) -> tuple[str, str | None, str] | None:
    """`(result, blame, reason)` of a call that has come to its fallback; None for any other."""
    leg = legs.get("fallback")
    if not isinstance(leg, Mapping):
        return None
    cause = leg["cause"]
    blame, reason = cause["blame"], cause["reason"]
    if "message" in leg["to"]:
        return RESULT, blame, f"{reason}; the caller heard the fallback's message"
    status = status_of(legs)
    if status in _REACHED:
        return RESULT, blame, f"{reason}; the caller was put through"
    return cause["result"], blame, f"{reason}; fallback: {status}"
