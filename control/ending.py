"""What the workers and Twilio tell of a call, and how its record is closed.

A call is over when Twilio says so, when we hung up, or when the caller did. An agent leg that failed ends
no call: Twilio runs the verbs behind the stream and asks how to go on, and only if it does not ask in time
is the call ended from here. So every call comes to an end, with a result and a blame, whatever dies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import trio

from control import failpoints, late, log
from control.calls import TERMINAL, LiveCall, Outcome, conversations_of, outcome_of_status
from control.compliance import hearing
from control.office import HANG_UP_TIMEOUT_S, Office, ms_to_datetime
from control.stats import gauges
from control.store import StoreUnavailable
from control.store.conversations import LOST, UNHEARD, UNNAMED, UNREPORTED
from control.strangers import whole_number
from control.transfer import fallback
from control.transfer.order import left_open
from control.twilio.rest import TwilioError
from control.warming import Warming
from control.workers import PoolEvent, PoolFull, WorkerLost
from gateway.link import CallEvent, CallReport, ToolRequest, TranscriptTurn
from gateway.link import Ending as EndOfTalk

CONTINUE_DEADLINE_S = 30.0
"""Twilio says the apology (about 4 s), then asks how to go on."""
REPORT_DEADLINE_S = 20.0
CANCEL_DEADLINE_S = 3.0
STREAM_DEADLINE_S = 30.0
"""Beyond the ticket's own time: when a call that was answered has no stream, Twilio is asked."""
LENGTH_MARGIN_S = 120.0
LATE_REPORT_AGAIN_S = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Pauses between tries to write down a report that is behind its call's end, while the store is away."""

UNANSWERED = frozenset({"busy", "no-answer", "failed", "canceled"})
"""Twilio's last words about a call that nobody picked up."""
_STATUS_LINES = {"in-progress": "answered"}


class Ending:
    """Turns what happened into the call's next state. Synchronous but for what it spawns."""

    def __init__(self, office: Office, warming: Warming) -> None:
        self._office = office
        self._warming = warming
        self.on_line: Callable[[LiveCall, CallEvent], None] = lambda call, event: None
        self.on_turn: Callable[[LiveCall, TranscriptTurn], None] = lambda call, turn: None
        self.on_tool: Callable[[LiveCall, ToolRequest], None] | None = None
        """Who runs the tools that agents ask for."""
        self._late_reports = 0
        self._has_lost_reports = False

    @property
    def has_written_reports(self) -> bool:
        """Whether every report that came behind its call's end is in the store."""
        return not (self._late_reports or self._has_lost_reports)

    # ---- workers -------------------------------------------------------------------------------

    def on_event(self, event: PoolEvent) -> None:
        """One message of a worker, in the order in which it was sent."""
        if isinstance(event, WorkerLost):
            for call_id in event.call_ids:
                if (call := self._office.book.get(call_id)) is not None:
                    self._lost(call, event.worker_id)
            return
        call = self._office.book.get(getattr(event, "call_id", None))
        if call is None:
            if isinstance(event, CallReport):
                self._late_reports += 1
                self._office.spawn(self._reported_late, event)
            return
        match event:
            case CallEvent():
                self._line(call, event)
            case TranscriptTurn():
                call.said(event)
                self.on_turn(call, event)
            case EndOfTalk():
                self._talk_over(call, event)
            case ToolRequest():
                if self.on_tool is not None:
                    self.on_tool(call, event)
            case CallReport():
                self._reported(call, event)
            case _:
                pass

    async def _reported_late(self, report: CallReport) -> None:
        try:
            known = await self._keep_late(report)
        except StoreUnavailable as error:
            self._has_lost_reports = True
            log.event("late_report_lost", level="error", call_id=report.call_id, error=str(error))
            return
        finally:
            self._late_reports -= 1
        if not known and report.conversation_id:
            log.event("late_report_unknown", level="warning", call_id=report.call_id)

    async def _keep_late(self, report: CallReport) -> bool:
        """Whether there is such a call. Raises StoreUnavailable when the store stays away."""
        for pause_s in LATE_REPORT_AGAIN_S:
            with contextlib.suppress(StoreUnavailable):
                return await self._office.store.write(late.keep, report)
            await trio.sleep(pause_s)
        return await self._office.store.write(late.keep, report)

    def _line(self, call: LiveCall, event: CallEvent) -> None:
        if (event.name, event.at_ms) in call.known:
            return  # told a second time, after a restart
        call.line(event.name, event.at_ms, event.data)
        self.on_line(call, event)
        if event.name == "agent_ready" and (conversation_id := event.data.get("conversation_id")):
            call.converses(str(conversation_id))
        if event.name == "stream_started":
            self._started(call, event.at_ms)

    def _started(self, call: LiveCall, at_ms: int) -> None:
        call.attached = True
        if call.status not in TERMINAL:
            call.move_to("in-progress", ms_to_datetime(at_ms))
        length_s = self._office.settings.media.max_call_s
        self._office.watch(call, length_s + LENGTH_MARGIN_S)

    def _talk_over(self, call: LiveCall, event: EndOfTalk) -> None:
        call.ending = event
        if ("ending", event.at_ms) not in call.known:
            call.line("ending", event.at_ms, {"result": event.result, "reason": event.reason})
        if event.hang_up:
            self._office.spawn(self._hang_up, call)

    async def _hang_up(self, call: LiveCall) -> None:
        """By REST first, then the stream: in the other order Twilio would run the verbs behind it."""
        if call.handover is not None and not call.hang_up_wanted:
            await call.handover(call)
        else:
            await self.end_by_rest(call)
        self._office.pool.close_call(call.id)
        if call.report is not None:
            self._settle(call, call.report)

    async def end_by_rest(self, call: LiveCall) -> bool:
        """Have Twilio end the telephone call; whether it is over for certain. Raises nothing."""
        if call.twilio_call_sid is None:
            return False
        with trio.move_on_after(HANG_UP_TIMEOUT_S):
            try:
                twilio = await self._office.twilio_of(call.tenant_id)
                failpoints.reach("end.before_rest")
                await twilio.end_call(call.twilio_call_sid)
                failpoints.reach("end.after_rest")
            except TwilioError as error:
                self._office.note(call, "hang_up_failed", error=str(error))
                return False
            call.hung_up = True
            self._office.note(call, "hung_up")
            return True
        self._office.note(call, "hang_up_failed", error="no answer in time")
        return False

    def _reported(self, call: LiveCall, report: CallReport) -> None:
        call.worker = None
        call.report = report
        call.legs = call.legs | report.legs
        agent = dict(call.legs.get("agent") or {})
        if agent.pop("is_unnamed", False) and call.unheard != LOST:
            call.unheard = UNNAMED
        if call.closing and call.unheard in (LOST, UNNAMED):  # or else this was what was waited for
            agent[UNHEARD] = call.unheard
        if agent or "agent" in report.legs:
            call.leg("agent", agent)
        call.change(
            media=_with_earlier(report.media, call),
            legs=call.legs,
            recording=report.recording,
        )
        call.converses(*conversations_of(report.legs, report.conversation_id))
        call.attached = report.attached
        call.reported.set()
        self._settle(call, report)

    def _settle(self, call: LiveCall, report: CallReport) -> None:
        """The agent leg is gone: is the call?"""
        is_ours = call.outcome is not None and call.hang_up_wanted
        if call.away and not (call.hung_up or call.ended_status or is_ours):
            return  # with somebody else; whoever took the call watches over it
        if call.hung_up or call.ended_status or is_ours or report.result == "completed":
            self.close(call)
        elif report.attached or call.closing:
            self._office.watch(call, CONTINUE_DEADLINE_S)
        elif self._warming.may_resume(call):
            self._office.spawn(self._warm_again, call)
        elif call.direction == "outbound" and not call.answered and call.outcome is None:
            # Nobody has picked up yet: better no call than one without an agent.
            self._office.spawn(self._give_up_ringing, call)
        else:
            self._office.watch(call, CONTINUE_DEADLINE_S)

    async def _warm_again(self, call: LiveCall) -> None:
        if call.closing or call.worker is not None:
            return
        if not await self._warming.resume(call):
            self._office.watch(call, CONTINUE_DEADLINE_S)

    async def _give_up_ringing(self, call: LiveCall) -> None:
        if await self.end_by_rest(call):
            self.close(call)
        else:
            self._office.watch(call, CONTINUE_DEADLINE_S)

    def _lost(self, call: LiveCall, worker_id: str) -> None:
        if call.closing:
            return
        call.worker = None
        call.unheard = LOST
        call.lost = f"media worker {worker_id} was lost"
        call.reported.set()
        self._office.note(call, "worker_lost", worker=worker_id)
        if call.hung_up or call.ended_status:
            self.close(call)
        elif not call.attached and self._warming.may_resume(call):
            self._office.spawn(self._warm_again, call)
        else:
            self._office.watch(call, CONTINUE_DEADLINE_S)

    # ---- Twilio --------------------------------------------------------------------------------

    def on_status(self, call: LiveCall, form: Mapping[str, str]) -> None:
        """A status callback, possibly late, repeated or out of order."""
        call.sip_code = form.get("SipResponseCode") or call.sip_code
        cost = cost_of(form)
        if cost:
            call.change(cost=cost)
        self.move(call, form.get("CallStatus", ""))

    def move(self, call: LiveCall, status: str) -> None:
        """Twilio says that the call is in `status`. Nothing happens when that is no news."""
        office = self._office
        if not call.move_to(status, office.clock.now()):
            return
        office.note(call, _STATUS_LINES.get(status, status))
        if status in TERMINAL:
            self._telephone_over(call)
        elif call.direction == "outbound" and status in ("ringing", "in-progress"):
            self._warm(call, status)

    def catch_up(self, call: LiveCall, status: str) -> None:
        """Like `move`, of a call that a former process began: it may have heard of the end and got no further."""
        if call.ended_status and status in TERMINAL:
            self._telephone_over(call)
        else:
            self.move(call, status)

    def _warm(self, call: LiveCall, status: str) -> None:
        office = self._office
        at_ringing = office.settings.media.warm_outbound == "ringing"
        is_due = at_ringing or status == "in-progress"
        untouched = call.worker is None and call.report is None and call.lost is None
        if is_due and untouched and not call.closing and not office.is_leaving:
            try:
                self._warming.prepare(call)
            except PoolFull:
                office.note(call, "workers_full")

    def _telephone_over(self, call: LiveCall) -> None:
        # Not `pool.holds`: the pool forgets a call when its report arrives, not when it has been read.
        if call.worker is None:
            self.close(call)
        elif call.attached:
            # The stream's own end is on its way, with the counters of the call.
            self._office.watch(call, REPORT_DEADLINE_S)
        else:
            self._office.pool.cancel(call.id, f"Twilio: {call.ended_status}")
            self._office.watch(call, CANCEL_DEADLINE_S)

    # ---- the record ----------------------------------------------------------------------------

    def _was_never_prepared(self, call: LiveCall) -> bool:
        """Nobody picked up, and no agent waits before somebody does: there is no conversation to look for."""
        at_answer = self._office.settings.media.warm_outbound == "answer"
        return at_answer and call.direction == "outbound" and call.ended_status in UNANSWERED

    def close(self, call: LiveCall, outcome: Outcome | None = None) -> None:
        """Close the record. The ledger writes it; until then the call stays in the book."""
        if call.closing:
            return
        call.closing = True
        office = self._office
        if call.ticket:
            office.tickets.revoke(call.ticket)
        if call.worker is not None:
            call.unheard = call.unheard or UNREPORTED
        self.drop_worker(call)
        result = call.outcome or outcome or outcome_of(call)
        status = call.status if call.status in TERMINAL else _final_status(call, result)
        ended_at = office.clock.now()
        if call.report is not None and not call.ended_status:
            ended_at = ms_to_datetime(call.report.at_ms)
        call.status = status
        call.change(
            status=status,
            result=result.result,
            blame=result.blame,
            reason=result.reason,
            ended_at=ended_at,
            abandoned=hearing.was_abandoned(call, ended_at),
        )
        if call.lines_dropped:
            office.note(call, "timeline_cut", lines=call.lines_dropped)
        office.note(call, "ended", result=result.result, blame=result.blame, reason=result.reason)
        office.metrics.calls.labels(call.direction, result.result, result.blame or "none").inc()
        if (left := left_open(call.legs)) is not None:
            call.leg("transfer", left | {"ended_at_ms": office.now_ms()})
        if call.unheard is not None and not self._was_never_prepared(call):
            call.leg("agent", (call.legs.get("agent") or {}) | {UNHEARD: call.unheard})
        media = _with_earlier(call.report.media, call) if call.report else {}
        gauges.count_call(office.metrics, media, call.legs.get("transfer"))
        call.ready.set()
        call.bound.set()
        call.handed.set()
        call.closed.set()
        office.wake.set()
        failpoints.reach("end.closed")

    def drop_worker(self, call: LiveCall) -> None:
        """The worker may drop what it still has of the call."""
        pool = self._office.pool
        if not pool.holds(call.id):
            return
        if call.attached:
            pool.hang_up(call.id, "the call is over")
            pool.close_call(call.id)
        else:
            pool.cancel(call.id, "the call is over")

    def forget_closed(self) -> None:
        """Drop from the book what has been closed and written."""
        for call in self._office.book:
            unwritten = call.is_recorded and (call.is_dirty or call.writes)
            if call.closing and not unwritten:
                self._office.book.remove(call)


def cost_of(form: Mapping[str, str]) -> dict[str, Any]:
    """The seconds and billed minutes of a final status callback."""
    cost = {}
    for name, key in (("CallDuration", "duration_s"), ("Duration", "billed_minutes")):
        if (number := whole_number(form.get(name, ""))) is not None:
            cost[key] = number
    return cost


def outcome_of(call: LiveCall) -> Outcome:
    """What became of the call, as far as worker and Twilio have told."""
    if (last := fallback.outcome_of(call.legs)) is not None:
        return Outcome(*last)
    report = call.report
    if report is not None and (report.attached or report.result != "cancelled"):
        return Outcome(report.result, report.blame, report.reason)
    if call.lost and (call.attached or call.answered or not call.ended_status):
        return Outcome("gateway_fault", "gateway", call.lost)
    if call.legs.get("handed_over") and not call.attached:
        reason = "the call ended while it was handed over to another daemon"
        return Outcome("gateway_fault", "gateway", reason)
    if call.ending is not None and call.attached:
        return Outcome(call.ending.result, call.ending.blame, call.ending.reason)
    if call.ended_status:
        return outcome_of_status(
            call.ended_status,
            sip_code=call.sip_code,
            was_answered=call.answered or call.direction == "inbound",
        )
    if report is not None:
        return Outcome(report.result, report.blame, report.reason)
    return Outcome("gateway_fault", "gateway", "nothing was heard of the call any more")


def _final_status(call: LiveCall, outcome: Outcome) -> str:
    """Twilio's word for an end that Twilio has not told us (yet)."""
    if call.attached or call.answered or outcome.result == "completed":
        return "completed"
    if call.direction == "inbound" and outcome.result == "agent_fault":
        return "completed"  # Twilio picks up to say the apology
    by_result = {
        "busy": "busy",
        "no_answer": "no-answer",
        "cancelled": "canceled",
        "drained": "canceled",
    }
    return by_result.get(outcome.result, "failed")


def _with_earlier(media: dict[str, Any], call: LiveCall) -> dict[str, Any]:
    """The counters, with those of the agent legs before a resume beside them."""
    earlier = [*call.earlier_media, *(report.media for report in call.earlier)]
    return media | {"before_resume": earlier} if earlier else media


def unknown_call(what: str, form: Mapping[str, str]) -> None:
    """A callback about a call that is not ours, or that we have forgotten."""
    log.event("unknown_call", level="warning", what=what, sid=form.get("CallSid", ""))
