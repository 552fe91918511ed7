"""What requests about calls look like, and how a call is shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
)

from control.api.agent_models import Variables
from control.api.answers import Answer, PageQuery
from control.api.called_party import AboutCall
from control.api.erasure_models import ErasureShown, erasure_if_any
from control.api.event_models import ProviderEvent, event_shown
from control.api.machine_models import MachineDetection
from control.api.reading import Body
from control.compliance.hearing import LEG
from control.instant import Instant
from control.store.dialing import QueueRecord
from control.store.provider_events import ProviderEventRecord
from control.store.records import CallLine, CallRecord, EventRecord, TurnRecord
from control.telephone_number import TelephoneNumber

TWILIO_CALL_SID = "twilio_call_sid"
CONVERSATION_ID = "elevenlabs_conversation_id"
RESERVED_METADATA = (TWILIO_CALL_SID, CONVERSATION_ID, "called_party")

Direction = Literal["inbound", "outbound"]
CallStatus = Literal[
    "queued",
    "initiated",
    "ringing",
    "in-progress",
    "completed",
    "busy",
    "failed",
    "no-answer",
    "canceled",
    "blocked",
]

_TEXT = {"type": "string"}
Decision = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "title": "Decision",
            "description": "What policy said: the strictest of all rules.",
            "required": ["allowed", "outcome", "rules"],
            "properties": {
                "id": {"type": "string", "description": "`dec_…`, sorted by time."},
                "phase": {"enum": ["accept", "dial", "answer", "check"]},
                "allowed": {"type": "boolean"},
                "outcome": {"enum": ["allow", "deny", "defer"]},
                "retry_at": {"type": "string", "format": "date-time"},
                "rules": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": _TEXT,
                            "version": {"type": "integer"},
                            "outcome": _TEXT,
                            "reason": _TEXT,
                            "inputs": {"type": "object"},
                        },
                    },
                },
            },
        }
    ),
]
"""As the policy made it, at the time; never re-read through a model, so that old ones stay readable."""


Decided = tuple[str, dict[str, Any], datetime]
"""Phase, decision and instant, as `control.store.calls.decisions_of` reads them."""


class CallInitiate(AboutCall):
    """A call to be made."""

    agent_id: str = Field(min_length=1, max_length=64)
    to: TelephoneNumber
    variables: Variables = Field(
        {}, description="Dynamic variables for this conversation, over those of the agent."
    )
    metadata: dict[str, Any] = Field(
        {}, description="Yours; comes back in the record beside the providers' ids."
    )
    not_before: Instant | None = Field(
        None, description="Dial then, not earlier. In the future, at most 90 days ahead."
    )
    on_blocked: Literal["reject", "schedule"] = Field(
        "reject",
        description="When policy says `defer`: refuse, or queue the call until it is permitted.",
    )
    machine_detection: MachineDetection | None = Field(
        None, description="Over the agent's own; without either, nobody listens for machines."
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "agent_id": "agt_01KBA0000000000000000000AA",
                    "to": "+15550100456",
                    "variables": {"first_name": "Ada"},
                    "metadata": {"crm_id": "42"},
                }
            ]
        }
    )

    @field_validator("metadata")
    @classmethod
    def _not_reserved(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        for name in RESERVED_METADATA:
            if name in metadata:
                raise ValueError(f"`{name}` is filled in by the gateway")
        return metadata


class HangUpRequest(Body):
    """Nothing to say; the body may be empty."""


class PolicyCheck(AboutCall):
    """A call that is only asked about."""

    agent_id: str = Field(min_length=1, max_length=64)
    to: TelephoneNumber
    direction: Direction = "outbound"
    at: Instant | None = Field(None, description="The moment to judge; now when left out.")
    channel: Literal["voice", "sms"] = "voice"
    from_: TelephoneNumber | None = Field(
        None, alias="from", description="The caller id; the agent's own number when left out."
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"agent_id": "agt_01KBA0000000000000000000AA", "to": "+15550100456"}]
        }
    )


class CallsQuery(PageQuery):
    """Filters of the list; together they all hold."""

    agent_id: str | None = None
    tenant_id: str | None = None
    direction: Direction | None = None
    status: CallStatus | None = None
    from_: str | None = Field(None, alias="from", max_length=100, description="The caller.")
    to: str | None = Field(None, max_length=100, description="The called number.")
    since: Instant | None = Field(None, description="Created at or after.")
    until: Instant | None = Field(None, description="Created before.")


class CallTimes(Answer):
    """When it happened, and the durations between."""

    created_at: datetime
    ringing_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None
    ring_s: float | None = Field(description="From ringing (or creation) to the answer or the end.")
    talk_s: float | None = Field(description="From the answer to the end.")


class QueueView(Answer):
    """Why a call is not dialled yet."""

    position: int | None = Field(
        None, description="How many of the tenant's calls go first. Not in lists."
    )
    not_before: datetime = Field(description="When its turn may come at the earliest.")
    waiting_for: str = Field(
        description="`not_before`; `policy`: a permitted time; `turn`: others, or room; `twilio`."
    )
    give_up_at: datetime = Field(description="After this it is not dialled any more.")


class CallBrief(Answer):
    """A call, as in lists."""

    id: str
    tenant_id: str
    agent_id: str | None
    direction: str
    from_: str | None = Field(serialization_alias="from")
    to: str | None
    status: str = Field(description="Twilio's words, and `blocked`: refused by policy.")
    result: str | None = Field(
        description="How it ended: completed, agent_fault, caller_fault, carrier_fault, gateway_fault, "
        "fallback, drained, cancelled, policy, no_answer, busy or machine."
    )
    blame: str | None = Field(description="caller, agent, gateway, policy, twilio or null.")
    reason: str | None
    dial_state: str | None = Field(description="intent, sent, created, uncertain or refused.")
    created_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    answered_by: str | None = Field(
        description="human, machine_start, machine_end_beep, fax, …; null where nobody listened."
    )
    queue: QueueView | None = Field(description="While the call waits to be dialled.")
    metadata: dict[str, Any] = Field(
        description=f"Yours, with `{TWILIO_CALL_SID}` and `{CONVERSATION_ID}`."
    )


class CallMade(CallBrief):
    """A call that was asked for: on its way, or (202) not known to be."""

    decision: Decision | None


class Line(Answer):
    """A named event of the timeline."""

    name: str
    at: datetime
    ms: int = Field(description="Milliseconds since the call was created.")
    data: dict[str, Any]


class Turn(Answer):
    """What was said in one turn; for the agent also what of it was heard."""

    turn: int
    role: str = Field(description="user or agent.")
    text: str
    heard: str | None = Field(description="The agent's words that reached the caller's ear.")
    interrupted: bool
    at: datetime
    ms: int = Field(description="Milliseconds since the call was created.")


class Disclosure(Answer):
    """What was heard, by Twilio's marks, in milliseconds since the call was picked up."""

    first_word_ms: int | None = Field(None, description="The agent's first word began.")
    disclosed_identity_ms: int | None = Field(None, description="Who calls: said to the end.")
    disclosed_ai_ms: int | None = Field(None, description="That it is an AI: said to the end.")
    offered_optout_ms: int | None = Field(None, description="The offer of the opt-out began.")
    recording_notice_ms: int | None = Field(None, description="The notice: said to the end.")
    abandoned: bool | None = Field(
        None, description="Outbound: no word within two seconds; null where that is no question."
    )


class DecisionLine(Answer):
    """One of the decisions about a call; the newest is `decision`, whole."""

    id: str | None = Field(description="`dec_…`; null for those that were made before it was kept.")
    phase: str = Field(description="accept, dial or answer.")
    at: datetime
    outcome: str = Field(description="allow, deny or defer.")
    reason: str = Field(description="Of the first rule that did not allow; empty when all did.")
    retry_at: datetime | None = None


class Call(CallMade):
    """The record of a call."""

    decisions: list[DecisionLine] = Field(
        [], description="All of them in order, as `tandem policy explain` shows them."
    )

    times: CallTimes
    variables: dict[str, Any]
    legs: dict[str, Any]
    disclosure: Disclosure
    transcript: list[Turn]
    extractions: dict[str, Any]
    extraction_problems: dict[str, Any] = Field(
        description="What was found and does not fit its field: `{field: {error, raw}}`."
    )
    summary: str | None
    analysis: dict[str, Any] | None = Field(
        description="`status`: pending, done, failed or none; and ElevenLabs' judgement."
    )
    timeline: list[Line]
    media: dict[str, Any] = Field(description="Frames, underruns, jitter, barge-ins, latencies.")
    cost: dict[str, Any] = Field(
        description="What is counted here, `elevenlabs` (credits) and `twilio`: `amount`, `currency`, `status` and the "
        "`parts` that it is the sum of."
    )
    recording: dict[str, Any] | None = Field(description="`url` and what is known of the file.")
    resumes: int = Field(description="How often the call went on with another agent leg.")
    provider_events: list[ProviderEvent] = Field(
        [], description="What providers complained about: see `GET /v2/provider-events`."
    )
    erased: ErasureShown | None = Field(
        None, description="Once something of it was erased, or is to be."
    )


def brief(record: CallRecord, waits: Waits | None = None) -> CallBrief:
    """A call in short."""
    return CallBrief(**_brief(record, waits))


_LISTED = [
    (name, field.serialization_alias or name) for name, field in CallBrief.model_fields.items()
]


def listed(line: CallLine, waits: Waits | None = None) -> dict[str, Any]:
    """A call as an item of a list: what CallBrief says, as plain values (a page has up to 200 of them)."""
    shown = _brief(line, waits)
    if waits is not None:
        shown["queue"] = waits.view().model_dump()
    return {alias: shown[name] for name, alias in _LISTED}


def made(record: CallRecord, waits: Waits | None = None) -> CallMade:
    """A call as the answer to the request for it."""
    return CallMade(**_brief(record, waits), decision=record.decision)


def full(
    record: CallRecord,
    timeline: Sequence[EventRecord],
    transcript: Sequence[TurnRecord],
    waits: Waits | None = None,
    complaints: Sequence[ProviderEventRecord] = (),
    decided: Sequence[Decided] = (),
) -> Call:
    """The whole record. `decided`: every decision about the call, in order."""
    return Call(
        **_brief(record, waits),
        decisions=[_decision_line(*one) for one in decided],
        provider_events=[event_shown(one) for one in complaints],
        decision=record.decision,
        times=_times(record),
        variables=record.variables,
        legs={name: leg for name, leg in record.legs.items() if name != LEG},
        disclosure=Disclosure(**record.legs.get(LEG, {}), abandoned=record.abandoned),
        transcript=turns(record, transcript),
        extractions=record.extractions,
        extraction_problems=record.extraction_problems or {},
        summary=record.summary,
        analysis=record.analysis,
        timeline=lines(record, timeline),
        media=record.media,
        cost=record.cost | (record.bill or {}),
        recording=_recording(record),
        resumes=record.resumes,
        erased=erasure_if_any(record),
    )


def _decision_line(phase: str, decision: dict[str, Any], at: datetime) -> DecisionLine:
    retry_at = decision.get("retry_at")
    return DecisionLine(
        id=decision.get("id"),
        phase=phase,
        at=at,
        outcome=decision["outcome"],
        reason=decision.get("reason", ""),
        retry_at=datetime.fromisoformat(retry_at) if retry_at else None,
    )


def pushed(
    record: CallRecord, timeline: Sequence[EventRecord], transcript: Sequence[TurnRecord]
) -> dict[str, Any]:
    """The record as customers' webhooks get it: without the timeline, which can be asked for."""
    return full(record, (), transcript).model_dump(
        mode="json", by_alias=True, exclude={"timeline", "decisions"}
    )


def lines(record: CallRecord, timeline: Sequence[EventRecord]) -> list[Line]:
    """The timeline, in milliseconds since the call was created."""
    return [
        Line(name=line.name, at=_instant(line.at_ms), ms=_since(record, line.at_ms), data=line.data)
        for line in timeline
    ]


def turns(record: CallRecord, transcript: Sequence[TurnRecord]) -> list[Turn]:
    """The transcript."""
    return [
        Turn(
            turn=turn.turn,
            role=turn.role,
            text=turn.text,
            heard=turn.heard,
            interrupted=turn.interrupted,
            at=_instant(turn.at_ms),
            ms=_since(record, turn.at_ms),
        )
        for turn in transcript
    ]


class Waits(NamedTuple):
    """A call's row in the queue, and how many go first (None = not counted)."""

    entry: QueueRecord
    position: int | None = None

    def view(self) -> QueueView:
        entry = self.entry
        return QueueView(
            position=self.position,
            not_before=entry.due_at,
            waiting_for=entry.waiting_for,
            give_up_at=entry.give_up_at,
        )


def _brief(record: CallRecord | CallLine, waits: Waits | None = None) -> dict[str, Any]:
    names = ("id", "tenant_id", "agent_id", "direction", "status", "result", "blame", "reason")
    shown = {name: getattr(record, name) for name in names}
    ours = {TWILIO_CALL_SID: record.twilio_call_sid, CONVERSATION_ID: record.conversation_id}
    return shown | {
        "from_": record.from_number,
        "to": record.to_number,
        "dial_state": record.dial_state,
        "created_at": record.created_at,
        "answered_at": record.answered_at,
        "ended_at": record.ended_at,
        "answered_by": record.answered_by,
        "queue": waits.view() if waits is not None else None,
        "metadata": record.metadata | ours,
    }


def _times(record: CallRecord) -> CallTimes:
    return CallTimes(
        created_at=record.created_at,
        ringing_at=record.ringing_at,
        answered_at=record.answered_at,
        ended_at=record.ended_at,
        ring_s=_seconds(
            record.ringing_at or record.created_at, record.answered_at or record.ended_at
        ),
        talk_s=_seconds(record.answered_at, record.ended_at),
    )


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    if begin is None or end is None:
        return None
    return max(0.0, round((end - begin).total_seconds(), 3))


_NOT_SHOWN = ("path", "erasing_sha256")


def _recording(record: CallRecord) -> dict[str, Any] | None:
    """Where to get it; where the file lies is the machine's own business."""
    if record.recording is None:
        return None
    known = {name: value for name, value in record.recording.items() if name not in _NOT_SHOWN}
    if record.recording_erased_at is not None:
        return known
    return known | {"url": f"/v2/calls/{record.id}/recording"}


def _since(record: CallRecord, at_ms: int) -> int:
    return at_ms - round(record.created_at.timestamp() * 1000)


def _instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms)
