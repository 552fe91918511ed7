"""Outbound calls: admitted, intended, paced, dialled exactly once.

The intent is committed before the request leaves, and our call id is in every callback URL. So when the
answer to the request is lost, the call is found again by its callbacks or in Twilio's list; it is never
sent a second time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

import trio
from sqlalchemy import Connection

from control import ids, verdict
from control.calls import LiveCall, Outcome
from control.ending import Ending
from control.office import Office
from control.refusals import (
    AgentNotFound,
    AgentNotLive,
    CallOver,
    DialRefused,
    DialUncertain,
    NotAdmitted,
    PolicyRefused,
    Refusal,
)
from control.store import StoreUnavailable, agents
from control.store import calls as table
from control.store.records import AgentRecord, CallRecord
from control.twilio.rest import TwilioRefused, TwilioUncertain, TwilioUnreachable
from control.verdict import Question
from control.warming import max_call_s
from policy.facts import Phase

QUEUE_MAX_S = 30.0
"""How long a call may wait for its turn; beyond it no more are admitted."""
OUTCOME_WAIT_S = 60.0
"""How long a request waits to be told; the work goes on without it."""
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

CALLABLE = ("live", "degraded")
HUNG_UP = Outcome("cancelled", None, "hung up by request")


class Dial:
    """One dial under way: what the waiting request will be told."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.refusal: Refusal | None = None

    def finish(self, refusal: Refusal | None = None) -> None:
        if not self.done.is_set():
            self.refusal = refusal
            self.done.set()


class Dialer:
    """Places outbound calls. One per process: the pace is per account."""

    def __init__(self, office: Office, ending: Ending) -> None:
        self._office = office
        self._ending = ending
        self._next_slot_s = -math.inf

    async def initiate(
        self,
        *,
        agent_id: str,
        to: str,
        variables: dict[str, Any],
        metadata: dict[str, Any],
        tenant_id: str | None,
    ) -> CallRecord:
        """Dial `to` for the agent. Raises every Refusal but those of live calls; StoreUnavailable."""
        office = self._office
        agent = await find_agent(office, agent_id, tenant_id)
        if agent.status not in CALLABLE:
            raise AgentNotLive(f"the agent is {agent.status}")
        if not agent.number_e164 or not agent.elevenlabs_agent_id:
            raise AgentNotLive("the agent has no telephone number or no ElevenLabs agent")
        call = self._new_call(agent, agent.number_e164, to, variables)
        decided = await verdict.ask(office, _question(call, "accept"))
        record = CallRecord(
            id=call.id,
            tenant_id=call.tenant_id,
            agent_id=agent.id,
            direction="outbound",
            created_at=call.created_at,
            from_number=call.from_number,
            to_number=to,
            status="queued",
            variables=variables,
            metadata=metadata,
            decision=decided.decision,
            dial_state="intent",
        )
        if not decided.allowed:
            await self._block(call, record, decided)
        slot_s = self._admit()
        await office.ledger.open(call, record, decided.ruling)
        office.book.add(call)
        office.note(call, "accepted")
        dial = Dial()
        office.spawn(self._run, call, dial, slot_s)
        with trio.move_on_after(OUTCOME_WAIT_S):
            await dial.done.wait()
        if dial.refusal is not None:
            raise dial.refusal
        return await self._record(call)

    def _new_call(
        self, agent: AgentRecord, number: str, to: str, variables: dict[str, Any]
    ) -> LiveCall:
        now = self._office.clock.now()
        return LiveCall(
            id=ids.new_id(ids.CALL, now),
            tenant_id=agent.tenant_id,
            direction="outbound",
            from_number=number,
            to_number=to,
            created_at=now,
            agent=agent,
            variables=dict(variables),
            dial_state="intent",
        )

    async def _block(
        self, call: LiveCall, record: CallRecord, decided: verdict.Verdict
    ) -> NoReturn:
        """Keep the refused request with its decision, and refuse."""
        blocked = replace(
            record,
            status="blocked",
            result="policy",
            blame="policy",
            reason=decided.reason,
            dial_state="refused",
            ended_at=call.created_at,
        )
        await self._office.ledger.open(call, blocked, decided.ruling)
        self._office.metrics.calls.labels("outbound", "policy", "policy").inc()
        raise PolicyRefused(decided.decision, call.id)

    def _admit(self) -> float:
        """The moment at which the call may be dialled. Raises NotAdmitted."""
        office = self._office
        if office.is_draining:
            raise NotAdmitted("the gateway is shutting down")
        room = len(office.pool.stats()) * office.settings.media.max_calls_per_worker
        if len(office.book) >= room:
            raise NotAdmitted("all media workers are full")
        now_s = trio.current_time()
        slot_s = max(now_s, self._next_slot_s)
        if slot_s - now_s > QUEUE_MAX_S:
            raise NotAdmitted("too many calls are waiting to be dialled")
        self._next_slot_s = slot_s + 1.0 / office.settings.twilio.cps
        return slot_s

    async def _record(self, call: LiveCall) -> CallRecord:
        office = self._office
        await office.ledger.save([call])
        record = await office.store.read(table.get, call.id)
        if record is None:
            raise StoreUnavailable(f"the record of {call.id} is gone")
        return record

    # ---- the dial itself -----------------------------------------------------------------------

    async def _run(self, call: LiveCall, dial: Dial, slot_s: float) -> None:
        try:
            await trio.sleep_until(slot_s)
            try:
                may_dial = await self._may_dial(call, dial)
            except StoreUnavailable as error:
                self._failed(call, Outcome("gateway_fault", "gateway", f"not dialled: {error}"))
                dial.finish(NotAdmitted("the store is not available; nothing was dialled"))
                return
            if may_dial:
                await self._dial(call, dial)
        finally:
            dial.finish(NotAdmitted("the dial was given up"))

    async def _may_dial(self, call: LiveCall, dial: Dial) -> bool:
        """The last look before the request leaves; what it finds is committed with the step."""
        office = self._office
        if call.closing or call.hang_up_wanted:
            dial.finish(CallOver("the call was hung up before it was dialled"))
            return False
        decided = await verdict.ask(office, _question(call, "dial"))
        call.change(decision=decided.decision)
        if not decided.allowed:
            call.outcome = Outcome("policy", "policy", decided.reason)
            call.status = "blocked"
            call.change(dial_state="refused")
            self._ending.close(call)
            await office.ledger.decide(call, decided.ruling)
            dial.finish(PolicyRefused(decided.decision, call.id))
            return False
        call.sent_at = office.clock.now()
        self._state(call, "sent")
        await office.ledger.decide(call, decided.ruling)
        return True

    async def _dial(self, call: LiveCall, dial: Dial) -> None:
        office = self._office
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
            )
        except TwilioRefused as refusal:
            self._refused(call, dial, refusal.code, refusal.message)
        except TwilioUnreachable as error:
            self._refused(call, dial, 0, str(error))
        except TwilioUncertain as error:
            await self.look_for(call, dial, str(error))
        else:
            self.bind(call, created.sid)
            dial.finish()

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
        if call.hang_up_wanted and not call.closing:
            office.spawn(self._undo, call)
        return True

    async def _undo(self, call: LiveCall) -> None:
        """It was hung up while the dial request was on its way."""
        if await self._ending.end_by_rest(call):
            self._ending.close(call, HUNG_UP)

    def _state(self, call: LiveCall, state: str) -> None:
        call.dial_state = state
        call.change(dial_state=state)

    def _refused(self, call: LiveCall, dial: Dial, code: int, message: str) -> None:
        self._state(call, "refused")
        text = f"Twilio did not take the call: {message}" + (f" ({code})" if code else "")
        self._failed(call, Outcome("carrier_fault", "twilio", text))
        dial.finish(DialRefused(code, message, call.id))

    def _failed(self, call: LiveCall, outcome: Outcome) -> None:
        call.status = "failed"
        self._ending.close(call, outcome)

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
                    dial.finish()
                    return
                if looks + 1 == TELL_UNCERTAIN_AFTER_LOOKS:
                    dial.finish(DialUncertain(await self._record(call)))
            except StoreUnavailable:
                continue  # the next look may find it readable
        text = "the answer to the dial request was lost, and no call has appeared"
        self._failed(call, Outcome("carrier_fault", "twilio", text))

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


async def find_agent(office: Office, agent_id: str, tenant_id: str | None) -> AgentRecord:
    """The agent, of this tenant if one is named. Raises AgentNotFound, StoreUnavailable."""
    agent = await office.store.read(agents.get, agent_id)
    if agent is None or agent.status == "closed" or tenant_id not in (None, agent.tenant_id):
        raise AgentNotFound(agent_id)
    return agent


def _question(call: LiveCall, phase: Phase) -> Question:
    return Question(
        "outbound", phase, call.tenant_id, call.agent_id or "", call.from_number, call.to_number
    )


def _time_limit_s(office: Office, call: LiveCall) -> int:
    low, high = LIMITS_S
    return max(low, min(high, math.ceil(max_call_s(office, call)) + 30))


def _known_sids(conn: Connection, sids: list[str]) -> set[str]:
    return {sid for sid in sids if table.by_sid(conn, sid) is not None}
