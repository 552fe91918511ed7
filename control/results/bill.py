"""What a call costs at Twilio: its own leg, the legs that were dialled from it, the messages that it led to.

    {"amount": 0.0249, "currency": "USD", "status": "settled",
     "parts": [{"kind": "call", "sid": "CA…", "amount": 0.0085}, {"kind": "leg", …}, {"kind": "message", …}]}

`status` is `pending` while a part has no price or a message may still follow; after a day it is `partial` when some
part has one, else `unknown`. Telephone numbers are no part of it: whoever erases a call need not look here.

Source: Twilio docs, "Call resource" (filter `ParentCallSid`), "Messages resource": `price` is null until later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from control.store import calls, messages, outbox
from control.store.records import CallRecord
from control.transfer.order import call_sids
from control.twilio.prices import (
    GONE,
    Charge,
    charge_of_call,
    charge_of_message,
    charges_of_legs,
)
from control.twilio.rest import TwilioRest

CALL, LEG, MESSAGE = "call", "leg", "message"
SETTLED, WAITING, PARTIAL, UNKNOWN = "settled", "pending", "partial", "unknown"
FREE = frozenset({"busy", "no-answer", "canceled", "failed", "undelivered", GONE})
"""Ends for which Twilio may never name a price: none is waited for."""
_DIALS = ("transfer", "route", "fallback")
"""Legs of the record that a <Dial> belongs to; without one Twilio is not asked for legs."""
DIGITS = 5
"""Of an amount, after the point: as many as Twilio's prices have."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a call's bill is made of, as far as the store knows."""

    record: CallRecord
    message_sids: tuple[str, ...]
    is_open: bool
    """A message may still follow: the analysis is not there, or the message waits."""


def account_of(conn: Connection, call_id: str, message_kind: str) -> Account | None:
    """None when there is no such call. `message_kind` is the outbox's name for a message after a call."""
    record = calls.get(conn, call_id)
    if record is None:
        return None
    sids = [one.twilio_sid for one in messages.of_call(conn, call_id) if one.twilio_sid]
    item = outbox.get(conn, message_kind, call_id)
    is_waiting = item is not None and item.status == outbox.PENDING
    is_open = is_waiting or (record.analysis or {}).get("status") == "pending"
    return Account(record, tuple(sids), is_open)


async def charges(twilio: TwilioRest, account: Account) -> list[tuple[str, Charge]]:
    """`(kind, charge)` of every part that Twilio knows. Raises TwilioError."""
    sid = account.record.twilio_call_sid
    if sid is None:
        return []
    found = [(CALL, await charge_of_call(twilio, sid))]
    legs = account.record.legs
    if any(name in legs for name in _DIALS):
        found += [(LEG, charge) for charge in await charges_of_legs(twilio, sid)]
    # The person of a warm transfer is rung by a call of its own, which Twilio does not know as a leg of this one.
    known = {charge.sid for _, charge in found}
    for person in dict.fromkeys(call_sids(legs)):
        if person not in known:
            found.append((LEG, await charge_of_call(twilio, person)))
    found += [(MESSAGE, await charge_of_message(twilio, one)) for one in account.message_sids]
    return found


def shown(found: Sequence[tuple[str, Charge]], *, is_open: bool, is_late: bool) -> dict[str, Any]:
    """The bill as it is kept. `is_late`: nothing more is waited for."""
    parts, currency, waits = [], None, is_open or not found
    for kind, charge in found:
        price = charge.price
        waits |= price is None and charge.status not in FREE
        if price is not None:
            currency = currency or price.currency
        parts.append({"kind": kind, "sid": charge.sid, "amount": price.amount if price else None})
    amounts = [
        charge.price.amount
        for _, charge in found
        if charge.price and charge.price.currency == currency
    ]
    if waits and not is_late:
        status = WAITING
    elif not amounts:
        status = UNKNOWN
    else:
        status = PARTIAL if waits else SETTLED
    return {
        "amount": round(sum(amounts), DIGITS) if amounts else None,
        "currency": currency,
        "status": status,
        "parts": parts,
    }
