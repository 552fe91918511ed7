"""Getting an agent leg ready before anybody can hear it, and the document that joins the call to it."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

import trio
from sqlalchemy import Connection

from control import log
from control.calls import LiveCall
from control.compliance.script import lines_for, opening, with_lines
from control.elevenlabs.agent_body import own_variables
from control.office import Office
from control.routing.callers import UNKNOWN
from control.store import StoreUnavailable
from control.store import calls as table
from control.store.records import AgentRecord
from control.twilio import twiml
from control.workers import PoolFull
from gateway.link import CallPlan, CallReport, TranscriptTurn

APOLOGY = "Sorry, there is a technical problem. One moment, please."
"""Heard only when a stream ends without us; then Twilio asks how to go on."""
REGRET = "We are sorry, but we cannot take your call right now. Please try again later. Goodbye."
RESUMES_MAX = 1
WORKER_WAIT_S = 9.0
"""A worker starts in one or two seconds. Twilio waits 15 s for an answer, and the caller hears it ring."""
WORKER_POLL_S = 0.1
CONTEXT_MAX_CHARS = 4000
CONTEXT_TURNS = 20

OPT_OUT_DIGIT = "9"
_FAULTS = frozenset({"agent_fault", "gateway_fault", "carrier_fault"})
_CODE = re.compile(r"\((\d{3,4})\)$")
_FINAL_CODES = frozenset({400, 401, 402, 403, 404, 410, 422, 1008, 3000})
"""HTTP statuses and close codes that the next attempt would meet again: wrong key, no such agent, no money."""


class Warming:
    """Prepares, prepares again, and renders the TwiML of a call."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def prepare(
        self,
        call: LiveCall,
        extra: dict[str, Any] | None = None,
        *,
        is_new: bool = False,
        is_back: bool = False,
    ) -> None:
        """Have a worker open the agent leg now. Raises PoolFull.

        `is_new`: nobody would be cut off, so only a worker with headroom will do. `is_back`: the caller was with
        somebody else.
        """
        office = self._office
        if call.agent is None or not call.agent.elevenlabs_agent_id:
            raise PoolFull
        call.agent_legs += 1  # each has a recording of its own
        try:
            plan = self._plan(call, extra or {}, is_back=is_back)
            call.worker = office.pool.prepare(plan, goes_on=not is_new)
        except PoolFull:
            call.agent_legs -= 1
            raise
        office.conversations.opened(call)
        call.report = call.ending = call.lost = None
        call.reported = trio.Event()
        office.note(call, "prepared", worker=call.worker)

    def document(self, call: LiveCall) -> str:
        """A fresh ticket, and the TwiML that carries it. The former ticket admits nothing any more."""
        office = self._office
        if call.ticket:
            office.tickets.revoke(call.ticket)
        call.ticket = office.tickets.issue(call.id, office.settings.media.inbound_attach_timeout_s)
        return twiml.connect_stream(
            stream_url=office.urls.media(call.ticket),
            name=call.id,
            status_callback=office.urls.stream(call.id),
            apology=APOLOGY,
            continue_url=office.urls.resume(call.id),
        )

    def may_resume(self, call: LiveCall) -> bool:
        """Whether another agent leg is worth trying."""
        repairs = call.resumes - int((call.legs.get("handed_over") or {}).get("times", 0))
        if repairs >= RESUMES_MAX or self._office.is_leaving or call.hang_up_wanted:
            return False
        return bool(call.lost) or (call.report is not None and is_retryable(call.report))

    async def prepare_soon(
        self,
        call: LiveCall,
        extra: dict[str, Any] | None = None,
        *,
        is_new: bool = False,
        is_back: bool = False,
    ) -> None:
        """Like `prepare`, but while all workers are being replaced, wait for one. Raises PoolFull."""
        give_up_s = trio.current_time() + WORKER_WAIT_S
        while True:
            try:
                self.prepare(call, extra, is_new=is_new, is_back=is_back)
                return
            except PoolFull:
                none_is_up = not self._office.pool.stats() and not self._office.is_leaving
                if not none_is_up or trio.current_time() >= give_up_s:
                    raise
            await trio.sleep(WORKER_POLL_S)

    async def ready_again(self, call: LiveCall) -> None:
        """Open the agent leg of a call whose talk another daemon has ended, while Twilio still says the apology."""
        async with call.going_on:
            talks = call.status == "in-progress" and not (call.away or call.closing)
            if talks and not self._office.pool.holds(call.id) and self.may_resume(call):
                await self.resume(call)

    async def resume(self, call: LiveCall, news: str = "") -> bool:
        """A new agent leg that knows what was said so far. False when no worker takes it.

        `news`: what happened to the caller since, for the agent; then this is no repair and does not count
        as one.
        """
        context = await self._context(call)
        if news:
            context = f"{context}\n({news})".strip()
        why = call.lost or (call.report.reason if call.report else "")
        report = call.report
        try:
            extra = {"gw_resume_context": context} if context else {}
            await self.prepare_soon(call, extra, is_back=bool(news))
        except PoolFull:
            return False
        if report is not None:
            call.earlier.append(report)
        call.attached = False
        call.turn_offset = max(call.spoken, default=-1) + 1
        if not news:
            call.resumes += 1
            call.change(resumes=call.resumes)
        self._office.note(call, "resumed", reason=news or why)
        return True

    async def _context(self, call: LiveCall) -> str:
        if not call.spoken:
            await self._recall(call)
        turns = [call.spoken[number] for number in sorted(call.spoken)][-CONTEXT_TURNS:]
        lines = [line for line in map(_spoken_line, turns) if line]
        return "\n".join(lines)[-CONTEXT_MAX_CHARS:]

    async def _recall(self, call: LiveCall) -> None:
        """What a former process wrote down."""
        try:
            turns = await self._office.store.read(_turns, call.id)
        except StoreUnavailable as error:
            log.event("transcript_unreadable", level="warning", call_id=call.id, error=str(error))
            return
        call.spoken = {turn.turn: turn for turn in turns}

    def _plan(self, call: LiveCall, extra: dict[str, Any], *, is_back: bool) -> CallPlan:
        settings = self._office.settings
        agent = call.agent
        assert agent is not None  # prepare() looked
        assert agent.elevenlabs_agent_id is not None
        inbound = call.direction == "inbound"
        media = settings.media
        heard = [turn.heard for turn in call.spoken.values() if turn.role == "agent" and turn.heard]
        call.lines_due = [
            (kind, line)
            for kind, line in lines_for(agent, call.duties, digit=opt_out_digit(agent) or "")
            if not any(line in said for said in heard)
        ]
        again = opening(agent, is_back=is_back) if heard else None
        first_message = with_lines(agent, call.lines_due, again)
        return CallPlan(
            call_id=call.id,
            direction=call.direction,
            elevenlabs_base_url=settings.elevenlabs.base_url,
            elevenlabs_api_key=settings.elevenlabs.api_key.reveal(),
            elevenlabs_agent_id=agent.elevenlabs_agent_id,
            twilio_call_sid=call.twilio_call_sid,
            twilio_account_sid=settings.twilio.account_sid,
            dynamic_variables=_variables(call) | extra,
            conversation_config_override=_first_message(first_message),
            redial_config_override=_first_message(opening(agent)),
            opt_out_digit=None if inbound else opt_out_digit(agent),
            recording_path=self._recording_path(call) if agent.settings.get("record") else None,
            attach_timeout_s=(
                media.inbound_attach_timeout_s
                if inbound or call.answered
                else media.outbound_attach_timeout_s
            ),
            max_call_s=max_call_s(self._office, call),
            turn_offset=max(call.spoken, default=-1) + 1,
        )

    def _recording_path(self, call: LiveCall) -> str:
        part = f"-{call.agent_legs}" if call.agent_legs > 1 else ""
        return str(PurePath(self._office.settings.media.recording_dir) / f"{call.id}{part}.wav")


def _first_message(text: str | None) -> dict[str, Any]:
    """As an override of the agent's configuration."""
    return {"agent": {"first_message": text}} if text else {}


def opt_out_digit(agent: AgentRecord | None) -> str | None:
    """The key of the opt-out: `settings.opt_out_digit`, 9 where nothing was said; empty: none."""
    given = agent.settings.get("opt_out_digit", OPT_OUT_DIGIT) if agent else OPT_OUT_DIGIT
    return given if isinstance(given, str) and given else None


def max_call_s(office: Office, call: LiveCall) -> float:
    """How long this call may last: the least of the gateway's limit, the agent's own, and what policy allows."""
    limit = office.settings.media.max_call_s
    own = call.agent.settings.get("max_call_s") if call.agent else None
    owed = [duty.get("seconds") for duty in call.duties if duty.get("kind") == "time_limit"]
    limits = [float(one) for one in (own, *owed) if isinstance(one, int | float) and one]
    return min([limit, *limits])


def is_retryable(report: CallReport) -> bool:
    """Whether another agent leg may do better. Refusals that will be repeated are not retried."""
    code = _CODE.search(report.reason)
    return report.result in _FAULTS and not (code and int(code[1]) in _FINAL_CODES)


def _variables(call: LiveCall) -> dict[str, Any]:
    """What the agent's prompts may refer to; the request's own words go over the agent's."""
    own = own_variables(call.agent) | call.agent.variables if call.agent else {}
    return (
        {
            "caller_number": call.from_number,
            "called_number": call.to_number,
            "twilio_call_sid": call.twilio_call_sid or "",
        }
        | UNKNOWN
        | call.caller
        | own
        | call.variables
        | {"gw_call_id": call.id}
    )


def _spoken_line(turn: TranscriptTurn) -> str:
    said = turn.text if turn.role == "user" or turn.heard is None else turn.heard
    return f"{'Caller' if turn.role == 'user' else 'Agent'}: {said}" if said else ""


def _turns(conn: Connection, call_id: str) -> list[TranscriptTurn]:
    return [
        TranscriptTurn(
            call_id, turn.turn, turn.role, turn.text, turn.at_ms, turn.heard, turn.interrupted
        )
        for turn in table.turns(conn, call_id)
    ]
