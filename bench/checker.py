"""After a run: what the simulators saw, against what the store says. One sentence for each thing that is wrong.

    problems = check(read_history(rig.twilio, rig.elevenlabs, rig.store_url))
    assert not problems, "\\n".join(problems)

`History` is plain values, so that a test can make one by hand. The store, SQLite or PostgreSQL, is read with SQL,
not with the product's own code.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from bench.sim_elevenlabs import ElevenLabsSim
from bench.sim_elevenlabs.record import ConversationRecord
from bench.sim_twilio import SimCall, TwilioSim

_CALL_ID = re.compile(r"call_id=(\w+)")
_MESSAGE_ID = re.compile(r"message_id=(\w+)")
_LEG = "/twilio/leg"
"""The person whom a warm transfer rings: part of another call, with no record of its own."""
TERMINAL = frozenset({"completed", "busy", "failed", "no-answer", "canceled", "blocked"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TelephoneCall:
    """A call as Twilio saw it. `ours` is the call id that the daemon put into its URLs (outbound)."""

    sid: str
    direction: str
    to: str = ""
    status: str = "completed"
    is_over: bool = True
    was_told: bool = True
    """The daemon answered at least one of its webhooks, so it knows of the call."""
    ours: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row of `calls`. `conversations` are all that its timeline or its row name."""

    id: str
    direction: str = "inbound"
    to: str = ""
    status: str = "completed"
    result: str | None = "completed"
    dial_state: str | None = None
    has_ended: bool = True
    twilio_call_sid: str | None = None
    conversations: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation as ElevenLabs saw it."""

    id: str
    is_closed: bool = True
    was_cut: bool = False
    """TCP was lost: the process that held it may have died before it could say its name."""
    has_told_its_id: bool = True
    """It got as far as its metadata, so we could know its name."""
    ours: str | None = None
    """The call id that it was told."""
    has_heard: bool = True
    """Somebody's voice reached it: there was a caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A text message as Twilio saw it. `key` is our message id, else its addressee and text."""

    sid: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything the checker looks at."""

    calls: tuple[TelephoneCall, ...] = ()
    records: tuple[Record, ...] = ()
    conversations: tuple[Conversation, ...] = ()
    messages: tuple[Message, ...] = ()
    opt_outs_acknowledged: frozenset[str] = frozenset()
    """Numbers whose opt-out the daemon has confirmed to somebody."""
    opt_outs_stored: frozenset[str] = frozenset()
    protocol: tuple[str, ...] = ()
    """What the simulators say we did against the documented protocols."""


def check(history: History) -> list[str]:
    """Every violation, in words; empty when all is well."""
    return [
        *_records(history),
        *_dials(history.calls),
        *_messages(history.messages),
        *_conversations(history),
        *_opt_outs(history),
        *history.protocol,
    ]


def _records(history: History) -> Iterator[str]:
    by_sid = defaultdict(list)
    for record in history.records:
        if record.twilio_call_sid:
            by_sid[record.twilio_call_sid].append(record)
    for call in history.calls:
        found = by_sid[call.sid] or [r for r in history.records if r.id == call.ours]
        if not call.is_over:
            yield f"call {call.sid} still goes on"
        elif not found and (call.was_told or call.direction != "inbound"):
            yield f"call {call.sid} rang and has no record"
        elif len(found) > 1:
            yield f"call {call.sid} has {len(found)} records: {', '.join(r.id for r in found)}"
        for record in found:
            yield from _completeness(record, call)
    known = {call.sid for call in history.calls}
    at_twilio = {call.ours for call in history.calls}
    for record in history.records:
        if record.twilio_call_sid and record.twilio_call_sid not in known:
            yield f"record {record.id} names call {record.twilio_call_sid}, which Twilio never had"
        may_wait = record.dial_state in ("sent", "uncertain")  # nobody can know; never redialled
        is_at_twilio = record.twilio_call_sid or record.id in at_twilio
        if not (is_at_twilio or record.has_ended or may_wait):
            yield f"record {record.id} never ended"


def _completeness(record: Record, call: TelephoneCall) -> Iterator[str]:
    if not call.is_over:
        return
    if not record.has_ended:
        yield f"record {record.id} of call {call.sid} has no end"
    elif record.result is None or record.status not in TERMINAL:
        yield f"record {record.id} of call {call.sid} is incomplete: {record.status}, {record.result}"


def _dials(calls: Iterable[TelephoneCall]) -> Iterator[str]:
    dialled = defaultdict(list)
    for call in calls:
        if call.ours:
            dialled[call.ours].append(call.sid)
    for ours, sids in dialled.items():
        if len(sids) > 1:
            yield f"record {ours} was dialled {len(sids)} times: {', '.join(sids)}"


def _messages(messages: Iterable[Message]) -> Iterator[str]:
    for key, count in Counter(message.key for message in messages).items():
        if count > 1:
            yield f"message {key} was sent {count} times"


def _conversations(history: History) -> Iterator[str]:
    named = {name for record in history.records for name in record.conversations}
    recorded = {record.id for record in history.records}
    for conversation in history.conversations:
        if not conversation.is_closed:
            yield f"conversation {conversation.id} was never closed"
        could_be_known = conversation.has_told_its_id and not conversation.was_cut
        # Opened while the answer was being committed, which never came to be: nobody was ever on it.
        was_for_nobody = conversation.ours not in recorded and not conversation.has_heard
        if could_be_known and conversation.id not in named and not was_for_nobody:
            yield f"conversation {conversation.id} of {conversation.ours} belongs to no record"


def _opt_outs(history: History) -> Iterator[str]:
    for number in sorted(history.opt_outs_acknowledged - history.opt_outs_stored):
        yield f"opt-out of {number} was confirmed and is lost"


# ---- reading ---------------------------------------------------------------------------------------


def read_history(
    twilio: TwilioSim,
    elevenlabs: ElevenLabsSim,
    database: Path | str,
    *,
    opt_outs_acknowledged: Iterable[str] = (),
) -> History:
    """The history of a run, once everything has settled. `database`: the daemon's SQLite file, or its store URL."""
    engine = create_engine(_readable(database), poolclass=NullPool)
    with engine.connect() as store:
        records = tuple(_read_records(store))
        stored = frozenset(store.execute(text("SELECT e164 FROM opt_outs")).scalars())
    talks = [c for c in elevenlabs.conversations.values() if c.initiation is not None]
    return History(
        calls=tuple(
            _telephone_call(call)
            for call in twilio.calls.values()
            if _LEG not in call.status_target.url
        ),
        records=records,
        conversations=tuple(
            Conversation(
                id=talk.conversation_id,
                is_closed=talk.ended_at_s is not None,
                was_cut=talk.closed_by == "network",
                has_told_its_id=bool(talk.events("conversation_initiation_metadata")),
                ours=_variable(talk, "gw_call_id"),
                has_heard=bool(talk.counts["user_audio_chunk"]),
            )
            for talk in talks
        ),
        messages=tuple(
            Message(sid=text.sid, key=_message_key(text.status_callback, text.to_number, text.body))
            for text in twilio.post.messages.values()
            if text.direction != "inbound"
        ),
        opt_outs_acknowledged=frozenset(opt_outs_acknowledged),
        opt_outs_stored=stored,
        protocol=tuple(
            f"conversation {each.conversation_id}: {each.what}" for each in elevenlabs.violations
        ),
    )


def _variable(talk: ConversationRecord, name: str) -> str | None:
    """One of the dynamic variables that a conversation was begun with."""
    variables = (talk.initiation or {}).get("dynamic_variables") or {}
    return variables.get(name)


def _telephone_call(call: SimCall) -> TelephoneCall:
    ours = _CALL_ID.search(call.source.url) or _CALL_ID.search(call.status_target.url)
    outbound = call.direction != "inbound"
    return TelephoneCall(
        sid=call.sid,
        direction=call.direction,
        to=call.to_number,
        status=call.status,
        is_over=call.is_over,
        was_told=any(attempt.outcome == "2xx" for attempt in call.webhooks),
        ours=ours[1] if ours and outbound else None,
    )


def _message_key(callback: str, to: str, body: str) -> str:
    found = _MESSAGE_ID.search(callback)
    return found[1] if found else f"to {to}: {body[:40]!r}"


def _readable(database: Path | str) -> str:
    """A URL that only reads, as far as the database can be told so."""
    url = str(database)
    if url.startswith("postgresql://"):
        return url.replace("postgresql://", "postgresql+psycopg://", 1)
    return f"sqlite:///file:{url.removeprefix('sqlite:///')}?mode=ro&uri=true"


def _read_records(store: Connection) -> Iterator[Record]:
    named = defaultdict(set)
    lines = text(
        "SELECT call_id, CAST(data AS TEXT) FROM call_events"
        " WHERE CAST(data AS TEXT) LIKE '%conversation_id%'"
    )
    for call_id, data in store.execute(lines):
        named[call_id].add(json.loads(data).get("conversation_id"))
    columns = "id, direction, to_number, status, result, dial_state, ended_at, twilio_call_sid, conversation_id"
    for row in store.execute(text(f"SELECT {columns} FROM calls")):
        yield Record(
            id=row[0],
            direction=row[1],
            to=row[2] or "",
            status=row[3],
            result=row[4],
            dial_state=row[5],
            has_ended=row[6] is not None,
            twilio_call_sid=row[7],
            conversations=frozenset(named[row[0]] | {row[8]}) - {None},
        )
