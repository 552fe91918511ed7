"""Calls in progress: the order of states that Twilio reports, and the book of live calls.

Synchronous throughout: only an `await` lets another task in, so what is changed here is changed at once.
What has to be written down is kept with the call (`columns`, `lines`, `turns`) until `control.ledger`
takes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

import trio

from control.dialing.reasons import after_sip
from control.store import conversations
from control.store.records import AgentRecord, CallRecord
from control.transfer.order import AWAY
from gateway.link import CallReport, Ending, TranscriptTurn

# ---- the transition table ------------------------------------------------------------------------

_RANK = {
    "queued": 0,
    "initiated": 1,
    "ringing": 2,
    "in-progress": 3,
    "completed": 4,
    "busy": 4,
    "failed": 4,
    "no-answer": 4,
    "canceled": 4,
    "blocked": 4,
}
TERMINAL = frozenset(status for status, rank in _RANK.items() if rank == 4)


def advance(current: str, reported: str) -> bool:
    """Whether `reported` is news for a call in `current`. Callbacks come late, twice and in any order."""
    return _RANK.get(reported, -1) > _RANK[current]


class Outcome(NamedTuple):
    """How a call ended: the record's `result`, `blame` and `reason`."""

    result: str
    blame: str | None
    reason: str


def outcome_of_status(status: str, *, sip_code: str | None, was_answered: bool) -> Outcome:
    """What Twilio's last word means for a call that never had a media stream."""

    def told(text: str) -> str:
        return after_sip(text, sip_code)

    match status:
        case "busy":
            return Outcome("busy", None, told("the line was busy"))
        case "no-answer":
            return Outcome("no_answer", None, told("nobody answered"))
        case "canceled":
            return Outcome("cancelled", None, told("cancelled before the answer"))
        case "failed":
            return Outcome("carrier_fault", "twilio", told("the call could not be put through"))
        case _:
            when = "before the media stream began" if was_answered else "before the answer"
            return Outcome("cancelled", "caller", told(f"hung up {when}"))


# ---- one call ------------------------------------------------------------------------------------

LINES_MAX = 2000
"""Timeline lines of one call that may wait for the store; what comes on top is dropped and counted."""
TURNS_KEPT = 40
"""Newest turns remembered for a call that has to go on with another agent leg."""

EARLIER = conversations.EARLIER
"""In the record's `legs.agent`."""

Line = tuple[str, int, dict[str, Any]]


@dataclass(slots=True, eq=False)
class LiveCall:
    """A call that has not ended. One object per call id in this process."""

    id: str
    tenant_id: str
    direction: str
    from_number: str
    to_number: str
    created_at: datetime
    agent: AgentRecord | None
    status: str = "queued"
    twilio_call_sid: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    dial_state: str | None = None
    sent_at: datetime | None = None
    """When the dial request left; calls that Twilio created earlier are not this one."""
    resumes: int = 0
    agent_legs: int = 0
    """How many agent legs were prepared so far."""
    answered: bool = False
    answered_at: datetime | None = None
    machine_detection: dict[str, Any] | None = None
    """What Twilio is asked to find out about who answers, and what then: see `control.dialing.machines`."""
    answered_by: str | None = None

    is_recorded: bool = False
    """Whether the record is in the store, so that lines may follow."""
    asked: bool = False
    """Twilio has asked what to do with the answered outbound call."""
    rejoined: bool = False
    """A second ticket was issued for an agent leg whose stream never came."""
    ready: trio.Event = field(default_factory=trio.Event)
    """Set when `document` is there: a second request for the same call waits for it."""
    document: str | None = None
    ticket: str | None = None
    worker: str | None = None
    """The worker that holds the call's agent leg, while one does."""
    attached: bool = False
    hung_up: bool = False
    """Twilio confirmed that the telephone call is over, at our request."""
    hang_up_wanted: bool = False
    """Somebody asked for the end over the API."""
    ended_status: str | None = None
    """Twilio's terminal status."""
    sip_code: str | None = None
    bound: trio.Event = field(default_factory=trio.Event)
    """Set when `twilio_call_sid` is known."""
    ending: Ending | None = None
    """How the talk ended, said by the worker before its report."""
    report: CallReport | None = None
    reported: trio.Event = field(default_factory=trio.Event)
    earlier: list[CallReport] = field(default_factory=list)
    """Reports of agent legs before a resume."""
    earlier_media: list[dict[str, Any]] = field(default_factory=list)
    """Counters of agent legs that a former process, or another daemon, has written down."""
    going_on: trio.Lock = field(default_factory=trio.Lock)
    """Held while somebody opens another agent leg for the call: one is enough."""
    conversations: list[str] = field(default_factory=list)
    """ElevenLabs' ids, in order: a redial, a resume, a return from a transfer begin a new one each."""
    lost: str | None = None
    """Why the call has to go on elsewhere, when its worker is gone."""
    unheard: str | None = None
    """An agent leg may have had a conversation whose name nobody here has heard: see `control.store.conversations`."""
    outcome: Outcome | None = None
    """Decided here; counts more than what worker and Twilio say."""
    closing: bool = False
    closed: trio.Event = field(default_factory=trio.Event)
    legs: dict[str, Any] = field(default_factory=dict)
    """The record's `legs`: of the worker's report, and `route`, `transfer`, `voicemail`."""
    caller: dict[str, str] = field(default_factory=dict)
    """What is known of the caller, as dynamic variables."""
    away: bool = False
    """Somebody else talks with the caller: the end of the agent leg is not the end of the call."""
    handover: Callable[[LiveCall], Awaitable[None]] | None = None
    """What to do with the telephone call, instead of ending it, once the agent has finished its sentence."""
    handed: trio.Event = field(default_factory=trio.Event)
    """Set when `handover` has been done, or nothing will come of it."""
    deadline_s: float = float("inf")
    """When somebody has to ask what became of this call (Trio's clock)."""

    columns: dict[str, Any] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    lines_dropped: int = 0
    turns: dict[int, TranscriptTurn] = field(default_factory=dict)
    """Turns that the store has not seen."""
    spoken: dict[int, TranscriptTurn] = field(default_factory=dict)
    """The newest turns, for a resume."""
    turn_offset: int = 0
    """A new agent leg counts its turns from the start; the call's transcript goes on."""

    known: frozenset[tuple[str, int]] = frozenset()
    """Lines of the timeline that a former process wrote: a worker may tell them again."""

    duties: tuple[dict[str, Any], ...] = ()
    """What the newest decision demands of the call: see `policy.Obligation`."""
    lines_due: list[tuple[str, str]] = field(default_factory=list)
    """`(kind, sentence)` that the agent has to say and that was not heard yet."""
    opt_out: str | None = None
    """How the caller asked not to be called again, once they did."""
    last_sign_s: float | None = None
    """When the called party spoke or pressed a key last, or the talk began (Trio's clock)."""
    last_said: str = ""
    """The caller's turn before: a request may be cut in two."""

    @property
    def agent_id(self) -> str | None:
        return self.agent.id if self.agent else None

    writes: int = 0
    """Writes of this call that are under way: what they carry may come back."""
    is_doubtful: bool = False
    """A write of this call has failed, and may nevertheless have come to pass: lines may be there already."""

    @property
    def is_dirty(self) -> bool:
        """Whether something waits for the store."""
        return bool(self.columns or self.lines or self.turns)

    def line(self, name: str, at_ms: int, data: dict[str, Any] | None = None) -> None:
        """Add a line to the timeline."""
        if len(self.lines) >= LINES_MAX:
            self.lines_dropped += 1
            return
        self.lines.append((name, at_ms, data or {}))

    def said(self, turn: TranscriptTurn) -> None:
        """Keep a turn of the transcript, or what became of it."""
        turn = replace(turn, turn=turn.turn + self.turn_offset)
        self.turns[turn.turn] = turn
        self.spoken[turn.turn] = turn
        while len(self.spoken) > TURNS_KEPT:
            del self.spoken[min(self.spoken)]

    def change(self, **columns: Any) -> None:
        """Columns of the record that have to be written."""
        self.columns.update(columns)
        if columns.get("decision"):
            self.duties = tuple(columns["decision"].get("obligations", ()))

    def leg(self, name: str, part: dict[str, Any]) -> None:
        """One of the record's legs has changed."""
        self.legs = self.legs | {name: part}
        self.change(legs=self.legs)

    def converses(self, *conversation_ids: str) -> None:
        """These conversations are the call's; the newest is the record's own, the others are its leg's."""
        news = [one for one in conversation_ids if one not in self.conversations]
        self.conversations += news
        if not self.conversations:
            return
        *earlier, newest = self.conversations
        if news:
            self.change(conversation_id=newest)
        if earlier:
            self.leg("agent", (self.legs.get("agent") or {}) | {EARLIER: earlier})

    def move_to(self, status: str, at: datetime) -> bool:
        """Go on to `status`; False when that is no news. Times are kept for the record."""
        if not advance(self.status, status):
            return False
        self.status = status
        self.change(status=status)
        if status == "ringing":
            self.change(ringing_at=at)
        elif status == "in-progress":
            self.note_answer(at)
        elif status in TERMINAL:
            self.ended_status = status
        return True

    def note_answer(self, at: datetime) -> None:
        """Somebody picked up (the first time counts)."""
        if not self.answered:
            self.answered = True
            self.answered_at = at
            self.change(answered_at=at)

    def take(self) -> Pending:
        """What waits for the store; it is the caller's now."""
        pending = Pending(self.id, self.tenant_id, self.columns, self.lines, self.turns)
        self.columns, self.lines, self.turns = {}, [], {}
        return pending

    def give_back(self, pending: Pending) -> None:
        """It could not be written, or that is not known. What came since is newer."""
        self.is_doubtful = True
        self.columns = pending.columns | self.columns
        self.turns = pending.turns | self.turns
        kept = pending.lines[: max(0, LINES_MAX - len(self.lines))]
        self.lines_dropped += len(pending.lines) - len(kept)
        self.lines = kept + self.lines


class Pending(NamedTuple):
    """Changes of one call on their way to the store."""

    call_id: str
    tenant_id: str
    columns: dict[str, Any]
    lines: list[Line]
    turns: dict[int, TranscriptTurn]


def from_record(record: CallRecord, agent: AgentRecord | None) -> LiveCall:
    """A call that a former process began, as far as its record tells."""
    return LiveCall(
        id=record.id,
        tenant_id=record.tenant_id,
        direction=record.direction,
        from_number=record.from_number or "",
        to_number=record.to_number or "",
        created_at=record.created_at,
        agent=agent,
        status=record.status,
        twilio_call_sid=record.twilio_call_sid,
        variables=dict(record.variables),
        dial_state=record.dial_state,
        sent_at=_sent_at(record),
        resumes=record.resumes,
        agent_legs=record.resumes + 1,
        answered=record.answered_at is not None,
        answered_at=record.answered_at,
        ended_status=record.status if record.status in TERMINAL else None,
        machine_detection=record.machine_detection,
        answered_by=record.answered_by,
        legs=dict(record.legs),
        conversations=conversations_of(record.legs, record.conversation_id),
        away=(record.legs.get("transfer") or {}).get("status") in AWAY,
        unheard=conversations.LOST if _was_dialled(record) and agent is not None else None,
        is_recorded=True,
        earlier_media=_apart(record.media or {}),
        lost=(
            "handed over by another daemon"
            if record.legs.get("handed_over")
            else "the daemon was restarted"
        ),
    )


def _was_dialled(record: CallRecord) -> bool:
    """Whether an agent leg may have been opened for it."""
    return record.direction == "inbound" or record.dial_state in ("sent", "uncertain", "created")


def _apart(media: dict[str, Any]) -> list[dict[str, Any]]:
    """The counters of each agent leg, the oldest first."""
    last = {name: value for name, value in media.items() if name != "before_resume"}
    return [*media.get("before_resume", []), *([last] if last else [])]


def _sent_at(record: CallRecord) -> datetime | None:
    if record.dial_state in ("sent", "uncertain"):
        return record.sent_at or record.created_at
    return record.sent_at


def conversations_of(legs: dict[str, Any], newest: str | None) -> list[str]:
    """Of a record, or of a worker's report."""
    earlier = (legs.get("agent") or {}).get(EARLIER) or ()
    return [*earlier, *((newest,) if newest else ())]


class Book:
    """All live calls, by our id and by Twilio's. Invariant: a call is found under both or neither."""

    def __init__(self) -> None:
        self._by_id: dict[str, LiveCall] = {}
        self._by_sid: dict[str, LiveCall] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[LiveCall]:
        return iter(list(self._by_id.values()))

    def add(self, call: LiveCall) -> None:
        self._by_id[call.id] = call
        if call.twilio_call_sid:
            self._by_sid[call.twilio_call_sid] = call

    def bind(self, call: LiveCall, sid: str) -> None:
        """Twilio's name for the call has become known."""
        call.twilio_call_sid = sid
        call.change(twilio_call_sid=sid)
        call.bound.set()
        if call.id in self._by_id:
            self._by_sid[sid] = call

    def remove(self, call: LiveCall) -> None:
        self._by_id.pop(call.id, None)
        if call.twilio_call_sid and self._by_sid.get(call.twilio_call_sid) is call:
            del self._by_sid[call.twilio_call_sid]

    def get(self, call_id: str | None) -> LiveCall | None:
        return self._by_id.get(call_id) if call_id else None

    def by_sid(self, sid: str | None) -> LiveCall | None:
        return self._by_sid.get(sid) if sid else None

    def counts(self) -> dict[str, int]:
        """Live calls by direction."""
        counts = {"inbound": 0, "outbound": 0}
        for call in self._by_id.values():
            counts[call.direction] = counts.get(call.direction, 0) + 1
        return counts
