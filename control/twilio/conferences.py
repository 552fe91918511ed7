"""Ringing the person of a warm transfer: a call of its own, whose document ends in a conference.

Source: Twilio docs, "Call resource" (`Twiml` holds at most 4,000 characters), "TwiML Voice: <Conference>".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from control.twilio.calls import STATUS_EVENTS
from control.twilio.errors import TwilioUncertain

TWIML_MAX_CHARS = 4000


class Asking(Protocol):
    """What is used of `control.twilio.rest.TwilioRest`."""

    @property
    def client(self) -> Any: ...
    async def ask(
        self, endpoint: str, request: Callable[[], Any], *, repeatable: bool = True
    ) -> Any: ...


async def ring_person(
    twilio: Asking, *, to: str, from_: str, twiml: str, status_callback: str, ring_timeout_s: int
) -> str:
    """Call `to` with an inline document, once. Returns the call SID.

    Raises TwilioRefused, TwilioUnreachable, TwilioUncertain (never sent again); ValueError for a document
    that Twilio would not take.
    """
    if len(twiml) > TWIML_MAX_CHARS:
        raise ValueError(f"an inline document holds at most {TWIML_MAX_CHARS} characters")
    call = await twilio.ask(
        "calls.create",
        partial(
            twilio.client.calls.create,
            to=to,
            from_=from_,
            twiml=twiml,
            status_callback=status_callback,
            status_callback_method="POST",
            status_callback_event=STATUS_EVENTS,
            timeout=ring_timeout_s,
        ),
        repeatable=False,
    )
    if not isinstance(call.sid, str) or not call.sid:
        raise TwilioUncertain("the answer to a dial request named no call")
    return call.sid
