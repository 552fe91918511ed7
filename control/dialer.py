"""One outbound call at its turn: asked about once more, sent to Twilio at most once.

The row in the queue says `sent` before the request leaves, in the transaction that keeps the decision, and our
call id is in every callback URL. So when the answer to the request is lost, or this process, the call is found
again by its callbacks or in Twilio's list; it is never sent a second time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import trio
from sqlalchemy import Connection

from control import failpoints, verdict
from control.calls import LiveCall, Outcome
from control.dialing import machines, reasons
from control.dialing.desk import Desk, Dial
from control.dialing.intake import CALLABLE, find_agent, question
from control.dialing.pace import after_create
from control.dialing.plan import POLICY, TWILIO, backoff, put_off_until
from control.dialing.reservation import Overtaken, reserve, short_wait_s
from control.ending import Ending
from control.leaving import DRAINED
from control.office import Office
from control.refusals import (
    AgentNotLive,
    CallOver,
    DialRefused,
    DialUncertain,
    NotAdmitted,
    PolicyRefused,
)
from control.store import StoreUnavailable
from control.store import calls as table
from control.store import dialing as queue
from control.store.admission import Limit
from control.store.dialing import LeaseLost, QueueRecord
from control.store.records import CallRecord
from control.twilio.errors import TwilioRefused, TwilioUncertain, TwilioUnreachable
from control.verdict import Verdict
from control.warming import max_call_s

__all__ = ["CALLABLE", "HUNG_UP", "Dial", "Dialer", "find_agent"]

RING_TIMEOUT_S = 60
RING_MARGIN_S = 35.0
"""Twilio adds up to 5 s to the ring time, and its callback may be repeated."""
LOOK_AFTER_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Pauses between looks into Twilio's list for a call whose answer was lost."""
TELL_UNCERTAIN_AFTER_LOOKS = 4
CLOCK_SKEW = timedelta(seconds=2)
"""Twilio's creation times are whole seconds of another clock."""
LIMITS_S = (60, 86_400)
"""Twilio's bounds for the length of a call."""
DECISION_MAX_AGE_S = 2.0
"""A decision that took longer to be written down is made again before Twilio is asked."""
DECIDING_MAX = 4
"""Decisions that are asked for and written down at a time. They go through the one writer of the store anyway: where that
is slow, more of them would all be too old when their turn comes, and none would be dialled."""
DECISIONS_MAX = 5
"""Then the call waits for another turn."""
RECHECK_FROM_MS = 1_000
"""Calls that Twilio queues for longer are judged for the moment at which they will ring."""

HUNG_UP = Outcome("cancelled", None, "hung up by request")


class Dialer:
    """Dials what the pump has taken out of the queue. One per process."""

    def __init__(self, office: Office, ending: Ending, desk: Desk) -> None:
        self._office = office
        self._ending = ending
        self._desk = desk
        self._last_sent_s: dict[str, float] = {}
        self._deciding = trio.CapacityLimiter(DECIDING_MAX)

    async def dial(self, call: LiveCall, entry: QueueRecord, limit: Limit) -> None:
        """Everything from the call's turn until its outcome is written down."""
        dial = self._desk.dial_of(call.id)
        try:
            # Before `sent` is committed: who dies while it waits has sent nothing, and the store says so.
            await self._slot(call.tenant_id, limit)
            if await self._may_dial(call, entry, dial):
                await self._send(call, entry, dial)
        except LeaseLost:
            self._give_away(call)
            dial.finish(CallOver("the call was hung up before it was dialled"))
        except StoreUnavailable as error:
            # Nothing was sent. The lease runs out, and the call gets another turn.
            self._office.note(call, "dial_postponed", reason=str(error))
            self._give_away(call)
        finally:
            self._desk.under_way.discard(call.id)
            dial.finish()

    # ---- the last look -------------------------------------------------------------------------

    async def _may_dial(self, call: LiveCall, entry: QueueRecord, dial: Dial) -> bool:
        """What it finds is committed with the step. Raises LeaseLost, StoreUnavailable."""
        office = self._office
        now = office.clock.now()
        if call.closing or call.hang_up_wanted:
            await self._settled(call)
            dial.finish(CallOver("the call was hung up before it was dialled"))
        elif office.is_draining:
            await self._wait_again(call, entry, now, entry.waiting_for)
            dial.finish(NotAdmitted("the gateway is shutting down; the call is dialled afterwards"))
        elif call.agent is None or call.agent.status not in CALLABLE:
            self._failed(call, Outcome("gateway_fault", "agent", "the agent is not live any more"))
            await self._settled(call)
            dial.finish(AgentNotLive("the agent is not live any more"))
        elif now > entry.give_up_at:
            self._failed(call, Outcome("cancelled", "gateway", _too_late(entry)))
            await self._settled(call)
        else:
            return await self._is_permitted(call, entry, dial)
        return False

    async def _is_permitted(self, call: LiveCall, entry: QueueRecord, dial: Dial) -> bool:
        """The decision is committed with the slot that it uses up, and no older than DECISION_MAX_AGE_S."""
        office = self._office
        for _ in range(DECISIONS_MAX):
            async with self._deciding:
                asked_s = trio.current_time()
                decided = await verdict.ask(office, question(call, "dial"))
                wait_s = short_wait_s(decided, office.clock.now())
                if wait_s is None and decided.allowed:
                    try:
                        await self._reserve(call, decided)
                    except Overtaken:
                        self._state(call, "intent")
                        continue
            if wait_s is not None:
                await trio.sleep(wait_s)
                continue
            if not decided.allowed:
                await self._not_permitted(call, entry, dial, decided)
                return False
            if trio.current_time() - asked_s <= DECISION_MAX_AGE_S:
                return True
            office.note(call, "decision_too_old")
        self._state(call, "intent")
        office.note(call, "dial_put_off", reason="no decision was fresh enough")
        due_at = office.clock.now() + backoff(entry.attempts)
        await self._wait_again(call, entry, due_at, entry.waiting_for)
        return False

    async def _reserve(self, call: LiveCall, decided: Verdict) -> None:
        office = self._office
        call.sent_at = office.clock.now()
        call.change(decision=decided.decision, node=office.node, sent_at=call.sent_at)
        self._state(call, "sent")
        reserved = partial(
            reserve,
            call_id=call.id,
            owner=self._desk.owner,
            at=call.sent_at,
            decided=decided,
        )
        await office.ledger.decide(call, decided.ruling, reserved)

    async def _not_permitted(
        self, call: LiveCall, entry: QueueRecord, dial: Dial, decided: Verdict
    ) -> None:
        office = self._office
        call.change(decision=decided.decision)
        until = put_off_until(decided.decision, entry.give_up_at) if entry.is_patient else None
        if until is not None:
            office.note(call, "put_off", until=until.isoformat(), reason=decided.reason)
            self._state(call, "intent")
            back = self._put_back(call, until, POLICY)
            await office.ledger.decide(call, decided.ruling, back)
            self._give_away(call)
            return
        call.outcome = Outcome("policy", "policy", decided.reason)
        call.status = "blocked"
        call.change(dial_state="refused")
        self._ending.close(call)
        await office.ledger.decide(call, decided.ruling, partial(queue.remove, call_id=call.id))
        dial.finish(PolicyRefused(decided.decision, call.id))

    async def _slot(self, tenant_id: str, limit: Limit) -> None:
        """Turns are given out evenly, but the work since took now more, now less time.

        Waited for before policy is asked, so that its word is fresh when the request leaves.
        """
        now_s = trio.current_time()
        slot_s = max(now_s, self._last_sent_s.get(tenant_id, -math.inf) + 1.0 / limit.cps)
        self._last_sent_s[tenant_id] = slot_s
        await trio.sleep_until(slot_s)

    # ---- the request ---------------------------------------------------------------------------

    async def _send(self, call: LiveCall, entry: QueueRecord, dial: Dial) -> None:
        office = self._office
        failpoints.reach("dial.before_create")
        try:
            twilio = await office.twilio_of(call.tenant_id)
            created = await twilio.create_call(
                to=call.to_number,
                from_=call.from_number,
                url=office.urls.voice(call.id),
                fallback_url=office.urls.fallback(call.id),
                status_callback=office.urls.status(call.id),
                time_limit_s=_time_limit_s(office, call),
                ring_timeout_s=RING_TIMEOUT_S,
                machine_detection=machines.parameters(
                    call.machine_detection, office.urls.machine(call.id)
                ),
            )
        except TwilioRefused as refusal:
            if refusal.status == 429:  # it made nothing
                await self._later(call, entry, dial, refusal.code, refusal.message)
            else:
                await self._refused(call, dial, refusal.code, refusal.message)
        except TwilioUnreachable as error:
            if entry.is_patient:
                await self._later(call, entry, dial, 0, str(error))
            else:
                await self._refused(call, dial, 0, str(error))
        except TwilioUncertain as error:
            await self.look_for(call, dial, str(error))
        else:
            failpoints.reach("dial.after_create")
            self.bind(call, created.sid)
            await self._settled(call, created.queue_ms)
            failpoints.reach("dial.settled")
            dial.finish()
            await self._recheck(call, created.queue_ms)

    async def _later(
        self, call: LiveCall, entry: QueueRecord, dial: Dial, code: int, message: str
    ) -> None:
        """Twilio surely made nothing, and may be asked again after a while."""
        if call.hang_up_wanted:
            self._ending.close(call, HUNG_UP)
            await self._settled(call)
            dial.finish(CallOver("the call was hung up before it was dialled"))
            return
        due_at = self._office.clock.now() + backoff(entry.attempts)
        if due_at > entry.give_up_at or call.twilio_call_sid is not None:
            await self._refused(call, dial, code, message)
            return
        self._state(call, "intent")
        self._office.note(call, "dial_put_off", reason=reasons.refusal(code, message))
        await self._wait_again(call, entry, due_at, TWILIO)

    async def _refused(self, call: LiveCall, dial: Dial, code: int, message: str) -> None:
        self._state(call, "refused")
        self._office.note(call, "dial_refused", code=code, message=message)
        text = reasons.refusal(code, message)
        self._failed(call, Outcome("carrier_fault", "twilio", text))
        dial.finish(DialRefused(code, message, call.id))
        await self._settled(call)

    async def _recheck(self, call: LiveCall, queue_ms: int) -> None:
        """Twilio will ring later than policy was asked about: may it, then?"""
        if queue_ms < RECHECK_FROM_MS:
            return
        office = self._office
        rings_at = office.clock.now() + timedelta(milliseconds=queue_ms)
        decided = await verdict.ask(office, question(call, "dial"), rings_at)
        if decided.allowed or call.closing or call.answered:
            return
        call.change(decision=decided.decision)
        await office.ledger.decide(call, decided.ruling)
        call.outcome = Outcome("policy", "policy", f"queued at Twilio: {decided.reason}")
        if await self._ending.end_by_rest(call):
            self._ending.close(call)

    # ---- what becomes of it --------------------------------------------------------------------

    def bind(self, call: LiveCall, sid: str) -> bool:
        """Twilio's name for the call is known. False when it has another one already."""
        office = self._office
        if call.twilio_call_sid is not None:
            if call.twilio_call_sid != sid:
                office.note(call, "foreign_sid", sid=sid)
            return call.twilio_call_sid == sid
        if office.book.by_sid(sid) is not None:
            office.note(call, "foreign_sid", sid=sid)
            return False
        office.book.bind(call, sid)
        self._state(call, "created")
        office.note(call, "dialled", twilio_call_sid=sid)
        office.watch(call, RING_TIMEOUT_S + RING_MARGIN_S)
        if call.hang_up_wanted:
            office.spawn(self._undo, call, HUNG_UP)
        elif office.is_leaving and not office.has_successor:
            office.spawn(self._undo, call, DRAINED)
        return True

    async def _undo(self, call: LiveCall, outcome: Outcome) -> None:
        """It was hung up, or this daemon has begun to go, while the dial request was on its way."""
        if await self._ending.end_by_rest(call):
            self._ending.close(call, outcome)

    def _state(self, call: LiveCall, state: str) -> None:
        call.dial_state = state
        call.change(dial_state=state)

    def _failed(self, call: LiveCall, outcome: Outcome) -> None:
        call.status = "failed"
        self._ending.close(call, outcome)

    async def _settled(self, call: LiveCall, queue_ms: int | None = None) -> None:
        """The outcome and the end of the row, in one transaction. A store that is away gets it later."""
        settle = partial(
            _settle,
            call_id=call.id,
            tenant_id=call.tenant_id,
            queue_ms=queue_ms,
            now=self._office.clock.now(),
        )
        try:
            await self._office.ledger.save([call], settle)
        except StoreUnavailable as error:
            # The record is written with the next flush; the row's lease runs out, and whoever takes it over
            # finds that the call has a name or an end.
            self._office.note(call, "settling_delayed", reason=str(error))

    async def _wait_again(
        self, call: LiveCall, entry: QueueRecord, due_at: datetime, waiting_for: str
    ) -> None:
        await self._office.ledger.save([call], self._put_back(call, due_at, waiting_for))
        self._give_away(call)

    def _put_back(
        self, call: LiveCall, due_at: datetime, waiting_for: str
    ) -> Callable[[Connection], None]:
        owner = self._desk.owner
        return partial(
            queue.put_back,
            call_id=call.id,
            owner=owner,
            due_at=due_at,
            waiting_for=waiting_for,
        )

    def _give_away(self, call: LiveCall) -> None:
        """The call is not this process's any more; nothing of it may be written from here."""
        self._office.book.remove(call)
        call.take()
        call.closed.set()
        self._desk.wake.set()

    # ---- the lost answer -----------------------------------------------------------------------

    async def look_for(self, call: LiveCall, dial: Dial, why: str) -> None:
        """The answer was lost: wait for a callback, and look into Twilio's list in between."""
        office = self._office
        if call.twilio_call_sid is None:
            self._state(call, "uncertain")
            office.note(call, "dial_uncertain", reason=why)
            office.wake.set()
        for looks, pause_s in enumerate(LOOK_AFTER_S):
            with trio.move_on_after(pause_s):
                await call.bound.wait()
            try:
                if call.closing or call.twilio_call_sid is not None or await self.find_sid(call):
                    break
                if looks + 1 == TELL_UNCERTAIN_AFTER_LOOKS:
                    await office.ledger.save([call])
                    dial.finish(DialUncertain(await self._record(call)))
            except StoreUnavailable:
                continue  # the next look may find it readable
        else:
            text = "the answer to the dial request was lost, and no call has appeared"
            self._failed(call, Outcome("carrier_fault", "twilio", text))
        await self._settled(call)
        dial.finish()

    async def _record(self, call: LiveCall) -> CallRecord:
        record = await self._office.store.read(table.get, call.id)
        if record is None:
            raise StoreUnavailable(f"the record of {call.id} is gone")
        return record

    async def find_sid(self, call: LiveCall) -> bool:
        """Look for the call in Twilio's list. Only an unmistakable one counts. Raises nothing of Twilio's."""
        office = self._office
        if call.sent_at is None:
            return False
        twins = [
            other
            for other in office.book
            if other is not call
            and other.twilio_call_sid is None
            and (other.from_number, other.to_number) == (call.from_number, call.to_number)
        ]
        try:
            twilio = await office.twilio_of(call.tenant_id)
            seen = await twilio.list_calls(
                to=call.to_number, from_=call.from_number, since=call.sent_at - CLOCK_SKEW
            )
        except (TwilioRefused, TwilioUncertain, TwilioUnreachable):
            return False
        unclaimed = [one for one in seen if office.book.by_sid(one.sid) is None]
        known = await office.store.read(_known_sids, [one.sid for one in unclaimed])
        unclaimed = [one for one in unclaimed if one.sid not in known]
        if len(unclaimed) != 1 or twins or not self.bind(call, unclaimed[0].sid):
            return call.twilio_call_sid is not None
        self._ending.move(call, unclaimed[0].status)
        return True


def _settle(
    conn: Connection, *, call_id: str, tenant_id: str, queue_ms: int | None, now: datetime
) -> None:
    queue.remove(conn, call_id)
    if queue_ms is None:
        return
    known = queue.pace_of(conn, tenant_id)
    changed = after_create(known, queue_ms, now)
    if changed != known:
        queue.set_pace(conn, tenant_id, changed)


def _too_late(entry: QueueRecord) -> str:
    return f"not dialled until {entry.give_up_at.isoformat()}: it waited for {entry.waiting_for}"


def _time_limit_s(office: Office, call: LiveCall) -> int:
    low, high = LIMITS_S
    return max(low, min(high, math.ceil(max_call_s(office, call)) + 30))


def _known_sids(conn: Connection, sids: list[str]) -> set[str]:
    return {sid for sid in sids if table.by_sid(conn, sid) is not None}
