"""What a transfer is, as values. Pure.

The state of a transfer lives in the call's record, as `legs.transfer`, so that a restarted daemon answers
Twilio's next question as the former one would have:

    asked       the agent is finishing its sentence
    ringing     warm: the person is rung, the caller still talks to the agent
    dialling    the caller leg is at Twilio's <Dial>
    connected   somebody answered
    completed, no-answer, busy, failed, canceled    Twilio's words for the end
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

RING_DEFAULT_S = 25
TRANSFERS_MAX = 10
"""Of one call: an agent that asks on and on shall not ring people for ever."""
SUMMARY_MAX_CHARS = 500

AWAY = frozenset({"dialling", "connected"})
"""The caller leg is with somebody else: the end of the agent leg is not the end of the call."""
OPEN = AWAY | {"asked", "ringing"}
GOOD_ENDS = frozenset({"completed", "answered"})

TRANSFER = "transfer"
"""With a callback about a leg to a person: which of the call's transfers it belongs to. Twilio's own names begin with a capital."""

Kind = Literal["number", "client", "sip", "conference"]
KINDS: tuple[Kind, ...] = ("number", "client", "sip", "conference")


@dataclass(frozen=True, slots=True)
class Order:
    """A transfer that is wanted."""

    kind: Kind
    address: str
    by: str = "api"
    """`api`, `agent` or `route`."""
    announce: str = ""
    """Said to the caller before the dialling."""
    then: str = "hangup"
    """When the person has hung up: `hangup`, or `return` to the agent."""
    otherwise: str = "agent"
    """When nobody answers: back to the `agent`, `hangup`, or a text that is said before the end."""
    timeout_s: int = RING_DEFAULT_S
    is_warm: bool = False
    summary: str = ""
    """Warm: said to the person before the caller is joined."""
    caller_id: str | None = None

    def as_leg(self, legs: Mapping[str, Any]) -> dict[str, Any]:
        """The beginning of `legs.transfer` of a call with these legs; `number` counts the call's transfers.

        The telephone calls of former transfers stay in `earlier_call_sids`: they are paid for, too.
        """
        former = legs.get("transfer") or {}
        earlier = [*former.get("earlier_call_sids", ())]
        if former.get("call_sid"):
            earlier.append(former["call_sid"])
        return {
            "number": times(legs) + 1,
            **({"earlier_call_sids": earlier} if earlier else {}),
            "to": {self.kind: self.address},
            "by": self.by,
            "mode": "warm" if self.is_warm else "blind",
            "then": self.then,
            "otherwise": self.otherwise,
            "status": "asked",
        }


def as_form(order: Order) -> dict[str, str]:
    """The order as another node is told it."""
    return {"order": json.dumps(asdict(order))}


def from_form(form: Mapping[str, str]) -> Order:
    """What `as_form` has made."""
    return Order(**json.loads(form["order"]))


def status_of(legs: Mapping[str, Any]) -> str | None:
    """How the call's latest transfer stands; None without one."""
    leg = legs.get("transfer")
    status = leg.get("status") if isinstance(leg, Mapping) else None
    return status if isinstance(status, str) else None


def times(legs: Mapping[str, Any]) -> int:
    """How often the call was transferred, or was to be."""
    return int((legs.get("transfer") or {}).get("number", 0))


def call_sids(legs: Mapping[str, Any]) -> list[str]:
    """The telephone calls to people, of all transfers that have one, the oldest first."""
    leg = legs.get("transfer") or {}
    own = [leg["call_sid"]] if leg.get("call_sid") else []
    return [*leg.get("earlier_call_sids", ()), *own]


WORDS = {
    "no-answer": "nobody answered",
    "busy": "the line was busy",
    "failed": "the call could not be put through",
    "canceled": "the call was called off",
}


def in_words(status: str) -> str:
    """Why it came to nothing, for the agent and for people."""
    return WORDS.get(status, f"it ended as {status}")


def left_open(legs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The transfer as it stands when the call itself has ended under it; None when none was open."""
    status = status_of(legs)
    if status not in OPEN:
        return None
    return dict(legs["transfer"]) | {"status": "completed" if status == "connected" else "canceled"}
