"""What the tools do. Each returns words for the model or raises ToolFailed with words for it."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from functools import partial
from typing import Any, Protocol, cast

import phonenumbers

from control.calls import LiveCall
from control.compliance.suppression import suppress
from control.office import Office
from control.refusals import DialRefused, DialUncertain, PolicyRefused, Refusal
from control.routing.callers import clean
from control.store import routes
from control.store.records import CallRecord, OptOutRecord
from control.tools.definitions import OptOut, Parameters, ScheduleCallback, TransferToNumber
from control.tools.desk import Action, ToolFailed
from control.transfer.order import Order
from control.transfer.service import Transferring, our_number

REASON_MAX_CHARS = 500
SOURCE = "spoken"
"""As the opt-out list names where an entry came from."""


class Initiate(Protocol):
    """`control.switchboard.Switchboard.initiate`."""

    def __call__(
        self,
        *,
        agent_id: str,
        to: str,
        variables: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        tenant_id: str | None = None,
        not_before: datetime | None = None,
        may_be_put_off: bool = False,
    ) -> Awaitable[CallRecord]: ...


def actions(office: Office, transfers: Transferring, initiate: Initiate) -> dict[str, Action]:
    """The tools' actions by name."""
    return {
        "transfer_to_number": partial(_transfer, transfers),
        "opt_out": partial(_opt_out, office),
        "schedule_callback": partial(_call_back, office, initiate),
        "lookup_caller": partial(_look_up, office),
    }


async def _transfer(transfers: Transferring, call: LiveCall, parameters: Parameters) -> str:
    asked = cast("TransferToNumber", parameters)
    why = may_transfer(call, asked.number)
    if why:
        raise ToolFailed(why)
    reason = clean(asked.reason, REASON_MAX_CHARS)
    order = Order(
        "number",
        asked.number,
        by="agent",
        is_warm=asked.warm,
        summary=f"A call from the assistant. {reason}".strip(),
    )
    try:
        await transfers.start(call, order)
    except PolicyRefused as refused:
        raise ToolFailed(f"not allowed: {_why(refused.decision)}") from refused
    except DialRefused as refused:
        raise ToolFailed(f"the number cannot be called: {refused.message}") from refused
    except Refusal as refusal:
        raise ToolFailed(f"not possible: {refusal}") from refusal
    if asked.warm:
        return "The person is being rung. Stay with the caller; you will be told if nobody answers."
    return "The caller is being put through."


def may_transfer(call: LiveCall, number: str) -> str:
    """Why a model may not have `number` dialled; empty when it may.

    A caller can talk a model into anything, and somebody pays for it: only listed numbers (the agent's
    `transfer_numbers`), and without a list only numbers of the country that our own number is in.
    """
    listed = call.agent.settings.get("transfer_numbers") if call.agent else None
    if listed is not None:
        return "" if number in listed else "this number is not on the list of people to transfer to"
    try:
        theirs = phonenumbers.parse(number).country_code
        ours = phonenumbers.parse(our_number(call)).country_code
    except phonenumbers.NumberParseException:
        return "this is no telephone number that can be called"
    return "" if theirs == ours else "numbers of another country are not transferred to"


async def _opt_out(office: Office, call: LiveCall, parameters: Parameters) -> str:
    reason = clean(cast("OptOut", parameters).reason, REASON_MAX_CHARS)
    number = _customer(call)
    if not number.startswith("+"):
        raise ToolFailed("the caller's number is not known, so it cannot be put on the list")
    entry = OptOutRecord(
        number,
        SOURCE,
        office.clock.now(),
        tenant_id=call.tenant_id,
        reason=reason or None,
        call_id=call.id,
        evidence={"tool": "opt_out", "words": reason},
    )
    await office.store.write(suppress, entry, entry.created_at)
    office.note(call, "opted_out", source=SOURCE)
    return "Done: this number will not be called again."


async def _call_back(
    office: Office, initiate: Initiate, call: LiveCall, parameters: Parameters
) -> str:
    asked = cast("ScheduleCallback", parameters)
    if asked.at <= office.clock.now():
        raise ToolFailed(f"at: this is in the past; it is {office.clock.now().isoformat()} now")
    number = _customer(call)
    if not number.startswith("+") or call.agent_id is None:
        raise ToolFailed("the caller's number is not known, so nobody can call back")
    reason = clean(asked.reason, REASON_MAX_CHARS)
    try:
        record = await initiate(
            agent_id=call.agent_id,
            to=number,
            variables={"callback_reason": reason},
            metadata={"callback_of": call.id},
            tenant_id=call.tenant_id,
            not_before=asked.at,
            may_be_put_off=True,
        )
    except PolicyRefused as refused:
        raise ToolFailed(f"not allowed: {_why(refused.decision)}") from refused
    except DialUncertain as uncertain:
        record = uncertain.record
    except Refusal as refusal:
        raise ToolFailed(f"not possible: {refusal}") from refusal
    office.note(call, "callback_scheduled", call=record.id)
    return f"Done: the caller will be called back at {asked.at.isoformat()}, or as soon after as allowed."


async def _look_up(office: Office, call: LiveCall, parameters: Parameters) -> str:
    number = _customer(call)
    known = await office.store.read(routes.acquaintance, call.tenant_id, number)
    if not known.calls or known.last_at is None:
        return "Nothing is known of this caller: it is the first call."
    about = clean(known.last_summary or "", 1000)
    return (
        f"Earlier calls: {known.calls}. The last one was on {known.last_at.date().isoformat()}. "
        f"{f'It was about: {about}' if about else 'What it was about is not known.'}"
    )


def _customer(call: LiveCall) -> str:
    return call.from_number if call.direction == "inbound" else call.to_number


def _why(decision: dict[str, Any]) -> str:
    """The reasons of the rules that said no; they are written for people."""
    said_no = [rule for rule in decision.get("rules", ()) if rule.get("outcome") != "allow"]
    return "; ".join(str(rule.get("reason", "")) for rule in said_no)[:300] or "a rule forbids it"
