"""Messages after a call: whether one is due, whether it may be sent, and sending it once.

    intent ─► sent ─► created          the row is committed before each step
                 └──► refused          Twilio said no
                 └──► uncertain ─► created | intent again | failed

`sent` is written before the request leaves. Who finds a message in `sent` or `uncertain` does not send it: it
looks into Twilio's list. Only when the list, asked long after the request can have been under way, shows no
such message, was none made, and it is sent again, one time.

Source: Twilio docs, "Messages resource", "Error 21610".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection

from control import failpoints
from control.compliance.suppression import suppress
from control.ids import new_id
from control.outbox import GiveUp, Outbox, OutboxItem, TryAgain, steps
from control.results import SMS
from control.sms import template
from control.sms.announcing import announce
from control.sms.settings import SmsProblem, parse, recipient, unmet
from control.store import Store, agents, calls, messages, opt_outs
from control.store.messages import MessageRecord
from control.store.records import AgentRecord, CallRecord, OptOutRecord
from control.twilio import messages as twilio_messages
from control.twilio.messages import MessageSeen
from control.twilio.rest import (
    TwilioError,
    TwilioRefused,
    TwilioRest,
    TwilioUnreachable,
)
from control.urls import PublicUrls

OPTED_OUT = 21610
"""The recipient has sent STOP to this number; Twilio sends nothing."""
TOO_MANY = 429
SETTLE_S = 120.0
"""After this a request that was cut off is over for certain, and Twilio's list shows what it made."""
LOOK_EVERY_S = 15.0
GIVE_UP = timedelta(hours=24)
RETRY_S = (2.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_ANEW = "its answer was lost and Twilio lists no such message; sent anew"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the policy says of one message. `retry_at`: when it would say otherwise."""

    allowed: bool
    decision: dict[str, Any]
    reason: str = ""
    retry_at: datetime | None = None
    keep: Callable[[Connection, str | None], None] = lambda conn, call_id: None
    """Writes the decision down, in the transaction of what follows from it."""


Ask = Callable[[MessageRecord], Awaitable[Allowance]]


class Clock(Protocol):
    def now(self) -> datetime: ...


class Accounts(Protocol):
    async def of(self, tenant_id: str) -> TwilioRest: ...


class Sms:
    """One per daemon. `ask` is the policy."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        accounts: Accounts,
        urls: PublicUrls,
        ask: Ask,
        *,
        settle_s: float = SETTLE_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._accounts = accounts
        self._urls = urls
        self._ask = ask
        self._settle_s = settle_s
        self._wait_s = min(look_every_s, settle_s)

    def register(self, outbox: Outbox) -> None:
        """Take items of our kind. A request to Twilio has 30 s, and a list before it."""
        outbox.handle(SMS, self.send, schedule=steps(*RETRY_S, forever=True), deadline_s=90.0)

    async def send(self, item: OutboxItem) -> datetime | None:
        """The message after the call `item.key`, one step further. Raises TryAgain, GiveUp."""
        message = await self._store.write(self._meant, item.key, self._clock.now())
        if message is None:
            return None
        failpoints.reach("sms.meant")
        too_late = self._clock.now() - item.created_at >= GIVE_UP
        if message.send_state in (messages.SENT, messages.UNCERTAIN):
            await self._look_for(message, too_late)
            return None
        if message.send_state != messages.INTENT:
            return None
        if too_late:
            await self._settled(message, messages.REFUSED, "failed", error="not sent within a day")
            return None
        return await self._dispatch(message)

    # ---- is one due? ---------------------------------------------------------------------------

    def _meant(self, conn: Connection, call_id: str, now: datetime) -> MessageRecord | None:
        """The message of this call, written down when it is due and was not yet; None when none is."""
        key = f"call:{call_id}"
        known = messages.by_intent(conn, key)
        if known is not None:
            return known
        call = calls.get(conn, call_id)
        agent = agents.get(conn, call.agent_id) if call and call.agent_id else None
        if call is None or agent is None:
            raise GiveUp("there is no such call, or its agent is gone")
        ours, customer = call.to_number, call.from_number
        if call.direction == "outbound":
            ours, customer = customer, ours
        try:
            settings = parse(agent.sms)
            values = values_of(call, agent, customer)
            why = unmet(settings, result=call.result, direction=call.direction, values=values)
            to = recipient(settings, customer, values)
            if why is None and (to is None or ours is None):
                why = "there is no number to write to"
            body = "" if why else template.render(settings.template, values)
        except (SmsProblem, template.TemplateProblem) as problem:
            why, body, to = f"the template: {problem}", "", None
        if why is not None or to is None or ours is None:
            self._line(conn, call_id, "sms_not_due", {"reason": why}, now)
            return None
        record = MessageRecord(
            id=new_id(messages.PREFIX, now),
            tenant_id=call.tenant_id,
            agent_id=agent.id,
            call_id=call_id,
            direction="outbound",
            from_number=ours,
            to_number=to,
            body=body,
            segments=template.segments(body),
            status="queued",
            send_state=messages.INTENT,
            intent_key=key,
            created_at=now,
            updated_at=now,
        )
        messages.insert(conn, record)
        return record

    # ---- sending -------------------------------------------------------------------------------

    async def _dispatch(self, message: MessageRecord) -> datetime | None:
        asked = await self._ask(message)
        if not asked.allowed:
            return await self._held(message, asked)
        try:
            twilio = await self._accounts.of(message.tenant_id)
        except TwilioRefused as refusal:
            await self._refused(message, refusal)
            return None
        except TwilioUnreachable as error:
            raise TryAgain(str(error)) from error
        await self._store.write(self._leaves, message, asked, self._clock.now())
        failpoints.reach("sms.sent")
        try:
            seen = await twilio_messages.send(
                twilio,
                to=message.to_number,
                from_=message.from_number,
                body=message.body,
                status_callback=self._urls.sms_status(message.id),
            )
        except TwilioRefused as refusal:
            if refusal.status == TOO_MANY:
                await self._back(message, refusal)
            await self._refused(message, refusal)
        except TwilioUnreachable as error:
            await self._back(message, error)
        except TwilioError as error:
            await self._store.write(
                messages.update,
                message.id,
                send_state=messages.UNCERTAIN,
                error=str(error)[:300] if message.error != _ANEW else _ANEW,
                updated_at=self._clock.now(),
            )
            raise TryAgain(str(error), self._wait_s) from error
        else:
            failpoints.reach("sms.created")
            await self._created(message, seen)
        return None

    async def _held(self, message: MessageRecord, asked: Allowance) -> datetime | None:
        """Not now, or not at all."""
        if asked.retry_at is not None and asked.retry_at < message.created_at + GIVE_UP:
            await self._store.write(self._waits, message, asked, self._clock.now())
            return asked.retry_at
        await self._store.write(self._blocked, message, asked, self._clock.now())
        return None

    async def _back(self, message: MessageRecord, error: TwilioError) -> None:
        """Nothing was done: the intent stands."""
        await self._store.write(
            messages.update,
            message.id,
            send_state=messages.INTENT,
            error=message.error or str(error)[:300],
            updated_at=self._clock.now(),
        )
        raise TryAgain(str(error)) from error

    async def _refused(self, message: MessageRecord, refusal: TwilioRefused) -> None:
        await self._store.write(self._refusal, message, refusal, self._clock.now())

    async def _look_for(self, message: MessageRecord, too_late: bool) -> None:
        """A request left, or may have: what came of it?"""
        since = message.sent_at or message.created_at
        try:
            twilio = await self._accounts.of(message.tenant_id)
            found = await twilio_messages.find(
                twilio,
                to=message.to_number,
                from_=message.from_number,
                body=message.body,
                since=since,
            )
        except TwilioError as error:
            if too_late:
                await self._settled(
                    message, messages.UNCERTAIN, "failed", error="not known whether it was sent"
                )
                return
            raise TryAgain(str(error), self._wait_s) from error
        for seen in found:
            if await self._store.read(_is_free, seen.sid, message.id):
                await self._created(message, seen)
                return
        if (self._clock.now() - since).total_seconds() < self._settle_s:
            raise TryAgain("its answer was lost", self._wait_s)
        if message.error == _ANEW:
            await self._settled(
                message, messages.UNCERTAIN, "failed", error="its answer was lost twice"
            )
            return
        await self._store.write(
            messages.update,
            message.id,
            send_state=messages.INTENT,
            error=_ANEW,
            updated_at=self._clock.now(),
        )
        raise TryAgain(_ANEW, 0.0)

    async def _created(self, message: MessageRecord, seen: MessageSeen) -> None:
        await self._store.write(self._creation, message, seen, self._clock.now())

    async def _settled(
        self, message: MessageRecord, state: str, status: str, *, error: str
    ) -> None:
        await self._store.write(self._end, message, state, status, error, None, self._clock.now())

    # ---- transactions --------------------------------------------------------------------------

    def _leaves(
        self, conn: Connection, message: MessageRecord, asked: Allowance, now: datetime
    ) -> None:
        messages.update(
            conn,
            message.id,
            send_state=messages.SENT,
            sent_at=now,
            decision=asked.decision,
            updated_at=now,
        )
        asked.keep(conn, message.call_id)

    def _waits(
        self, conn: Connection, message: MessageRecord, asked: Allowance, now: datetime
    ) -> None:
        messages.update(conn, message.id, decision=asked.decision, updated_at=now)
        asked.keep(conn, message.call_id)
        until = asked.retry_at.isoformat() if asked.retry_at else None
        data = {"reason": asked.reason, "until": until}
        self._line(conn, message.call_id, "sms_waits", data, now)

    def _blocked(
        self, conn: Connection, message: MessageRecord, asked: Allowance, now: datetime
    ) -> None:
        messages.update(conn, message.id, decision=asked.decision)
        asked.keep(conn, message.call_id)
        self._end(conn, message, messages.REFUSED, "blocked", asked.reason, None, now)

    def _refusal(
        self, conn: Connection, message: MessageRecord, refusal: TwilioRefused, now: datetime
    ) -> None:
        if refusal.code == OPTED_OUT and not opt_outs.get(
            conn, message.tenant_id, message.to_number
        ):
            suppress(
                conn,
                OptOutRecord(
                    e164=message.to_number,
                    source="sms",
                    created_at=now,
                    tenant_id=message.tenant_id,
                    reason="Twilio: opted out of messages from this number (21610)",
                    call_id=message.call_id,
                ),
                now,
            )
        words, code = refusal.message, refusal.code or None
        self._end(conn, message, messages.REFUSED, "failed", words, code, now)

    def _end(
        self,
        conn: Connection,
        message: MessageRecord,
        state: str,
        status: str,
        error: str,
        code: int | None,
        now: datetime,
    ) -> None:
        messages.update(
            conn,
            message.id,
            send_state=state,
            status=status,
            error=error[:300],
            error_code=code,
            updated_at=now,
        )
        data = {"message_id": message.id, "error": error[:300]} | ({"code": code} if code else {})
        self._line(conn, message.call_id, f"sms_{status}", data, now)
        announce(conn, message.id, now)

    def _creation(
        self, conn: Connection, message: MessageRecord, seen: MessageSeen, now: datetime
    ) -> None:
        known = messages.get(conn, message.id)
        if known is None or known.send_state == messages.CREATED:
            return  # a callback was quicker
        columns: dict[str, Any] = {"send_state": messages.CREATED, "twilio_sid": seen.sid}
        messages.update(conn, message.id, status=seen.status, error=None, updated_at=now, **columns)
        data = {"message_id": message.id, "segments": message.segments}
        self._line(conn, message.call_id, "sms_sent", data, now)

    def _line(
        self,
        conn: Connection,
        call_id: str | None,
        name: str,
        data: dict[str, Any],
        now: datetime,
    ) -> None:
        add_line(conn, call_id, name, data, now)


def values_of(call: CallRecord, agent: AgentRecord, customer: str | None) -> dict[str, Any]:
    """What a template may name: what was found out first, then the call's variables, then the agent's."""
    location = agent.location
    if isinstance(location, dict):
        location = location.get("address") or location.get("name")
    built_in = {
        "agent_name": agent.name,
        "business_name": agent.name,
        "location": location,
        "caller_number": call.from_number,
        "called_number": call.to_number,
        "call_id": call.id,
        "summary": call.summary,
    }
    return {**built_in, **agent.variables, **call.variables, **call.extractions}


def add_line(
    conn: Connection, call_id: str | None, name: str, data: Mapping[str, Any], now: datetime
) -> None:
    """A line of the call's timeline, if the message belongs to one."""
    if call_id is not None:
        calls.append_events(conn, call_id, [(name, int(now.timestamp() * 1000), dict(data))])


def _is_free(conn: Connection, sid: str, message_id: str) -> bool:
    """Whether this message of Twilio's is not another one of ours."""
    known = messages.by_sid(conn, sid)
    return known is None or known.id == message_id
