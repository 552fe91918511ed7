"""Twilio's Messages, on the shared transport.

Every function raises TwilioRefused, TwilioUnreachable and TwilioUncertain; sending is never repeated here.
Source: Twilio docs, "Messages resource".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from control.strangers import whole_number
from control.twilio.rest import TwilioRest, TwilioUncertain

LOOK_BACK = timedelta(seconds=30)
"""Two clocks, and Twilio's dates are whole seconds."""


@dataclass(frozen=True, slots=True)
class MessageSeen:
    """A message as Twilio knows it."""

    sid: str
    status: str
    body: str
    created_at: datetime | None
    error_code: int | None


async def send(
    twilio: TwilioRest, *, to: str, from_: str, body: str, status_callback: str
) -> MessageSeen:
    """Send, once."""
    message = await twilio.ask(
        "messages.create",
        partial(
            twilio.client.messages.create,
            to=to,
            from_=from_,
            body=body,
            status_callback=status_callback,
        ),
        repeatable=False,
    )
    if not isinstance(message.sid, str) or not message.sid:
        raise TwilioUncertain("the answer to a message named no message")
    return _seen(message)


async def find(
    twilio: TwilioRest, *, to: str, from_: str, body: str, since: datetime
) -> list[MessageSeen]:
    """Messages with exactly these words, made at `since` or later, the newest first.

    Filtered here by the time of creation: Twilio filters by that of sending, which a queued one has not.
    """
    found = await twilio.ask(
        "messages.list", partial(twilio.client.messages.list, to=to, from_=from_, limit=50)
    )
    earliest = since - LOOK_BACK
    return [
        message
        for message in map(_seen, found)
        if message.body == body and (message.created_at is None or message.created_at >= earliest)
    ]


def _seen(message: Any) -> MessageSeen:
    made = message.date_created
    return MessageSeen(
        sid=str(message.sid or ""),
        status=str(message.status or ""),
        body=str(message.body or ""),
        created_at=made if isinstance(made, datetime) else None,
        error_code=whole_number(str(message.error_code or "")),
    )
