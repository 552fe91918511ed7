"""Twilio's calls: created once, ended, looked up, given another document.

Source: Twilio docs, "Call resource", "Answering machine detection", "Calls per second".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from control.strangers import whole_number
from control.twilio.errors import TwilioRefused, TwilioUncertain

STATUS_EVENTS = ["initiated", "ringing", "answered", "completed"]
ALREADY_OVER = frozenset({20404, 21220})
DIALLED = "outbound-dial"
LIST_MAX = 50
ENDED_MAX = 10_000
"""Of an account, in one look back."""
PAGE_CALLS = 1_000


class Created(NamedTuple):
    """A call that Twilio took. `queue_ms`: how long it expects to keep it in its own queue."""

    sid: str
    queue_ms: int = 0


@dataclass(frozen=True, slots=True)
class CallSeen:
    """A call as Twilio knows it."""

    sid: str
    status: str
    to: str
    from_: str
    created_at: datetime | None
    duration_s: int | None
    direction: str = ""
    ended_at: datetime | None = None


class CallRequests:
    """The part of the REST client that is about calls. Its methods raise what `ask` raises."""

    @property
    def client(self) -> Any:
        """Twilio's own client."""
        raise NotImplementedError

    async def ask(
        self, endpoint: str, request: Callable[[], Any], *, repeatable: bool = True
    ) -> Any:
        """Run one blocking request. Raises TwilioRefused, TwilioUnreachable, TwilioUncertain."""
        raise NotImplementedError

    async def create_call(
        self,
        *,
        to: str,
        from_: str,
        url: str,
        fallback_url: str,
        status_callback: str,
        time_limit_s: int,
        ring_timeout_s: int = 60,
        machine_detection: Mapping[str, Any] | None = None,
    ) -> Created:
        """Dial, once. Raises all three errors; never sent again when uncertain.

        `machine_detection` are further parameters of Twilio's client, by its own names.
        """
        call = await self.ask(
            "calls.create",
            partial(
                self.client.calls.create,
                to=to,
                from_=from_,
                url=url,
                method="POST",
                fallback_url=fallback_url,
                fallback_method="POST",
                status_callback=status_callback,
                status_callback_method="POST",
                status_callback_event=STATUS_EVENTS,
                timeout=ring_timeout_s,
                time_limit=time_limit_s,
                **(machine_detection or {}),
            ),
            repeatable=False,
        )
        if not isinstance(call.sid, str) or not call.sid:
            raise TwilioUncertain("the answer to a dial request named no call")
        return Created(call.sid, _number(call.queue_time) or 0)

    async def end_call(self, sid: str) -> bool:
        """Hang up. True when it was ended now, False when it was over already."""
        return await self._update("calls.end", sid, status="completed")

    async def instruct_call(self, sid: str, document: str) -> bool:
        """Have the call go on with another TwiML document. False when it was over already."""
        return await self._update("calls.instruct", sid, twiml=document)

    async def _update(self, endpoint: str, sid: str, **changes: Any) -> bool:
        try:
            await self.ask(endpoint, partial(self.client.calls(sid).update, **changes))
        except TwilioRefused as refusal:
            if refusal.code in ALREADY_OVER or refusal.status == 404:
                return False
            raise
        return True

    async def fetch_call(self, sid: str) -> CallSeen | None:
        """The call as Twilio knows it now; None when it knows no such call."""
        try:
            return _seen(await self.ask("calls.fetch", self.client.calls(sid).fetch))
        except TwilioRefused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def list_calls(self, *, to: str, from_: str, since: datetime) -> list[CallSeen]:
        """Calls from and to these numbers, created at `since` or later; newest first, at most 50. No legs of <Dial>:
        a person that a caller was put through to was not called by us.

        Filtered here by creation time: Twilio filters by start time, which a queued call has not.
        """
        found = await self.ask(
            "calls.list", partial(self.client.calls.list, to=to, from_=from_, limit=LIST_MAX)
        )
        seen = [_seen(call) for call in found]
        return [
            call
            for call in seen
            if call.direction != DIALLED and (call.created_at is None or call.created_at >= since)
        ]

    async def list_ended(self, *, since: datetime, until: datetime) -> list[CallSeen]:
        """Calls of the account that ended in between, the newest first, at most ENDED_MAX."""
        found = await self.ask(
            "calls.list",
            partial(
                self.client.calls.list,
                end_time_after=since,
                end_time_before=until,
                limit=ENDED_MAX,
                page_size=PAGE_CALLS,
            ),
        )
        return [_seen(call) for call in found]


def _seen(call: Any) -> CallSeen:
    return CallSeen(
        sid=call.sid,
        status=str(call.status),
        to=str(call.to),
        from_=str(call._from),
        created_at=call.date_created if isinstance(call.date_created, datetime) else None,
        duration_s=_number(call.duration),
        direction=str(call.direction or ""),
        ended_at=call.end_time if isinstance(call.end_time, datetime) else None,
    )


def _number(value: Any) -> int | None:
    """The 2010 API sends numbers as text, and nothing where it does not know."""
    return whole_number(str(value or ""))
