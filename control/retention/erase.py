"""Erasing, in one transaction with its proof: texts and numbers of a call, of a message, stray conversations.

Each function looks again whether there is something to erase, under the row's lock, and says whether there was: a
sweep that is repeated, or two daemons at once, erase nothing twice and prove nothing twice.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, select, update

from control.retention import due, proof, remains
from control.retention.periods import NUMBERS, TRANSCRIPTS
from control.retention.remains import ERASED
from control.store import calls as call_store
from control.store import decisions, messages, outbox, webhooks
from control.store.messages import MessageRecord
from control.store.records import CallRecord
from control.store.tables.after_call import conversations, webhook_deliveries
from control.store.tables.after_call import messages as message_table
from control.store.tables.after_call import outbox as outbox_table
from control.store.tables.after_call import webhooks as webhook_table
from control.store.tables.core import call_events, call_turns, calls, idempotency_keys
from control.store.tables.nodes import node_messages
from control.store.tables.routing import provider_events
from control.webhooks_out import events
from policy import mask_number

AT_ELEVENLABS = "erase_conversation"
"""Kind of the outbox's item that has ElevenLabs delete its copy."""
MESSAGE_STATUSES = (
    *("accepted", "scheduled", "queued", "sending", "sent", "receiving", "received", "delivered"),
    *("undelivered", "failed", "canceled", "read", "partially_delivered", "blocked"),
)
"""Twilio's words, and ours."""
NUMBERED = (
    *("variables", "legs", "extractions", "extraction_problems", "analysis", "machine_detection"),
    *("summary", "reason"),
)
"""Columns of a call in which a number may stand."""


# ---- a call --------------------------------------------------------------------------------------


def texts(conn: Connection, call_id: str, rule: str, now: datetime) -> bool:
    """Transcript, summary, extractions, variables, metadata, what was said in lines and legs; of a call."""
    record = _locked(conn, call_id, TRANSCRIPTS)
    if record is None:
        return False
    said = call_store.turns(conn, call_id)
    found = {
        "transcript": [
            {"turn": one.turn, "role": one.role, "text": one.text, "heard": one.heard}
            for one in said
        ],
        "summary": record.summary,
        "extractions": record.extractions,
        "extraction_problems": record.extraction_problems,
        "variables": record.variables,
        "metadata": record.metadata,
        "analysis": record.analysis,
    }
    told = _conversation_ids(conn, record)
    counts = {
        "turns": conn.execute(delete(call_turns).where(call_turns.c.call_id == call_id)).rowcount,
        "lines": _each_line(conn, call_id, remains.without_texts),
        "conversations": _forget_conversations(conn, record),
        "deliveries": _drop_deliveries(conn, call_id),
        "messages": _messages(conn, call_id, message_texts, rule, now),
    }
    kept = remains.METADATA_KEPT if record.numbers_erased_at is None else frozenset()
    detection = record.machine_detection
    call_store.update(
        conn,
        call_id,
        summary=None,
        extractions={},
        extraction_problems=None,
        variables={},
        metadata=remains.only(kept, record.metadata),
        analysis=remains.only(remains.ANALYSIS_KEPT, record.analysis) if record.analysis else None,
        machine_detection=remains.without_texts(detection) if detection else None,
        legs=remains.legs_without_texts(record.legs),
        texts_erased_at=now,
    )
    if told or record.answered_at is not None:
        _ask_elevenlabs(conn, call_id, record.tenant_id, sorted(told), now)
    digest = proof.texts_digest(found)
    _prove(conn, record, TRANSCRIPTS, rule, now, counts=counts, sha256=digest)
    return True


def numbers(conn: Connection, call_id: str, rule: str, now: datetime) -> bool:
    """The person's number, wherever a call has it, and what the rules knew; our own number stays."""
    record = _locked(conn, call_id, NUMBERS)
    if record is None:
        return False
    is_inbound = record.direction == "inbound"
    person = record.from_number if is_inbound else record.to_number
    own = record.to_number if is_inbound else record.from_number
    ours = frozenset((own,)) if own else frozenset[str]()

    def clean(value: Any) -> Any:
        return remains.without_numbers(value, person, ours)

    metadata = record.metadata if record.texts_erased_at is None else {}
    changed = {name: clean(getattr(record, name)) for name in NUMBERED}
    call_store.update(
        conn,
        call_id,
        **changed,
        metadata=clean(metadata),
        **{"from_number" if is_inbound else "to_number": ERASED if person else None},
        numbers_erased_at=now,
    )
    _each_turn(conn, call_id, clean)
    _each_conversation(conn, record, clean)
    of_call = provider_events.c.call_id == call_id
    counts = {
        "lines": _each_line(conn, call_id, clean),
        "facts": decisions.erase_facts(conn, call_id),
        "deliveries": _drop_deliveries(conn, call_id),
        "messages": _messages(conn, call_id, message_numbers, rule, now),
        "provider_events": conn.execute(
            update(provider_events).where(of_call).values(message=None, detail={})
        ).rowcount,
    }
    conn.execute(delete(node_messages).where(node_messages.c.call_id == call_id))
    masked = mask_number(person) if person else None
    _prove(conn, record, NUMBERS, rule, now, counts=counts, masked=masked)
    return True


def recording(
    conn: Connection, call_id: str, rule: str, now: datetime, sha256: dict[str, str]
) -> bool:
    """The files are gone; `sha256` by file name, empty when there were none."""
    statement = select(calls.c.id).where(
        calls.c.id == call_id, calls.c.recording_erased_at.is_(None)
    )
    record = call_store.get(conn, call_id)
    if record is None or conn.execute(statement.with_for_update()).first() is None:
        return False
    left = {
        name: value
        for name, value in (record.recording or {}).items()
        if name not in ("path", ERASING)
    }
    call_store.update(conn, call_id, recording=left, recording_erased_at=now)
    _prove(conn, record, "recordings", rule, now, counts={"files": len(sha256)}, sha256=sha256)
    return True


ERASING = "erasing_sha256"
"""In a call's `recording`: the hashes of files that are about to be deleted, or were, when it was killed."""


def note_hashes(conn: Connection, call_id: str, sha256: dict[str, str]) -> None:
    """Before the files are deleted: afterwards nobody can tell what they were."""
    record = call_store.get(conn, call_id)
    if record is not None and record.recording_erased_at is None:
        call_store.update(conn, call_id, recording=(record.recording or {}) | {ERASING: sha256})


def ask(conn: Connection, call_id: str, by: str, now: datetime) -> CallRecord | None:
    """Somebody wants this call erased: kept until it is. None for a call that has not ended."""
    mine = (calls.c.id == call_id) & calls.c.ended_at.is_not(None)
    first = mine & calls.c.erase_asked_at.is_(None)
    asked = update(calls).where(first).values(erase_asked_at=now, erase_asked_by=by)
    if conn.execute(asked).rowcount:
        _forget_answers(conn, call_id)
    record = call_store.get(conn, call_id)
    return record if record is not None and record.ended_at is not None else None


def gone_at_elevenlabs(conn: Connection, call_id: str, ids: list[str], now: datetime) -> None:
    """ElevenLabs has confirmed, or has none: said once in the ledger."""
    record = call_store.get(conn, call_id)
    if record is None:
        return
    for known in decisions.of_call(conn, call_id):
        if known.phase == proof.PHASE and known.decision.get("what") == "elevenlabs":
            return
    rule = "follows the erasure of transcripts"
    _prove(conn, record, "elevenlabs", rule, now, conversation_ids=ids)


# ---- what belongs to no call ---------------------------------------------------------------------


def message_texts(conn: Connection, message_id: str, rule: str, now: datetime) -> bool:
    """The words of a message."""
    record = _locked_message(conn, message_id, TRANSCRIPTS)
    if record is None:
        return False
    messages.update(conn, message_id, body="", error=None, texts_erased_at=now)
    _drop_message_deliveries(conn, record)
    digest = proof.texts_digest({"body": record.body})
    _prove_message(conn, record, TRANSCRIPTS, rule, now, sha256=digest)
    return True


def message_numbers(conn: Connection, message_id: str, rule: str, now: datetime) -> bool:
    """The person's number of a message."""
    record = _locked_message(conn, message_id, NUMBERS)
    if record is None:
        return False
    is_inbound = record.direction == "inbound"
    person, own = record.from_number, record.to_number
    if not is_inbound:
        person, own = own, person
    body = remains.without_numbers(record.body, person, frozenset((own,)))
    side = "from_number" if is_inbound else "to_number"
    changed: dict[str, Any] = {side: ERASED, "body": body, "numbers_erased_at": now}
    messages.update(conn, message_id, **changed)
    _drop_message_deliveries(conn, record)
    _prove_message(conn, record, NUMBERS, rule, now, masked=mask_number(person))
    return True


def stray(conn: Connection, conversation_id: str, rule: str, now: datetime) -> bool:
    """A conversation of no call that is known."""
    c = conversations.c
    mine = (c.conversation_id == conversation_id) & c.call_id.is_(None)
    row = conn.execute(select(c.tenant_id, c.data).where(mine).with_for_update()).one_or_none()
    if row is None:
        return False
    conn.execute(delete(conversations).where(mine))
    _ask_elevenlabs(conn, conversation_id, row.tenant_id, [conversation_id], now)
    of = {"conversation": conversation_id}
    digest = proof.texts_digest(row.data or {})
    shown = proof.line(TRANSCRIPTS, rule, now, of=of, sha256=digest)
    decisions.append(conn, None, row.tenant_id, proof.PHASE, shown, now)
    return True


# ---- parts ---------------------------------------------------------------------------------------


def _locked(conn: Connection, call_id: str, kind: str) -> CallRecord | None:
    """The call, ours until the end of the transaction; None when it has nothing of this kind (any more)."""
    mine = (calls.c.id == call_id) & calls.c.ended_at.is_not(None) & due.KEPT[kind]
    if conn.execute(select(calls.c.id).where(mine).with_for_update()).first() is None:
        return None
    return call_store.get(conn, call_id)


def _locked_message(conn: Connection, message_id: str, kind: str) -> MessageRecord | None:
    mine = (message_table.c.id == message_id) & due.MESSAGE_KEPT[kind] & due.SETTLED
    if conn.execute(select(message_table.c.id).where(mine).with_for_update()).first() is None:
        return None
    return messages.get(conn, message_id)


def _ask_elevenlabs(
    conn: Connection, key: str, tenant_id: str, ids: list[str], now: datetime
) -> None:
    payload = {"conversation_ids": ids}
    outbox.add(conn, kind=AT_ELEVENLABS, key=key, tenant_id=tenant_id, payload=payload, due_at=now)


def _prove(
    conn: Connection, record: CallRecord, what: str, rule: str, now: datetime, **found: Any
) -> None:
    shown = proof.line(what, rule, now, of={"call": record.id}, **found)
    decisions.append(conn, record.id, record.tenant_id, proof.PHASE, shown, now)


def _prove_message(
    conn: Connection, record: MessageRecord, what: str, rule: str, now: datetime, **found: Any
) -> None:
    shown = proof.line(what, rule, now, of={"message": record.id}, **found)
    decisions.append(conn, record.call_id, record.tenant_id, proof.PHASE, shown, now)


def _messages(conn: Connection, call_id: str, erase: Any, rule: str, now: datetime) -> int:
    return sum(erase(conn, one.id, rule, now) for one in messages.of_call(conn, call_id))


def _each_line(conn: Connection, call_id: str, left: Any) -> int:
    """Rewrite the data of the timeline's lines; how many have changed."""
    e = call_events.c
    found = conn.execute(select(e.id, e.data).where(e.call_id == call_id)).all()
    changed = [
        {"_id": row.id, "_data": new} for row in found if (new := left(row.data)) != row.data
    ]
    if changed:
        # Of thousands of lines: one statement, or the transaction would outlast its deadline.
        rewritten = update(call_events).where(e.id == bindparam("_id"))
        conn.execute(rewritten.values(data=bindparam("_data")), changed)
    return len(changed)


def _each_turn(conn: Connection, call_id: str, clean: Any) -> None:
    for one in call_store.turns(conn, call_id):
        text, heard = clean(one.text), clean(one.heard)
        if (text, heard) != (one.text, one.heard):
            mine = (call_turns.c.call_id == call_id) & (call_turns.c.turn == one.turn)
            conn.execute(update(call_turns).where(mine).values(text=text, heard=heard))


def _of_call(record: CallRecord) -> Any:
    mine = conversations.c.call_id == record.id
    if record.conversation_id:
        mine = mine | (conversations.c.conversation_id == record.conversation_id)
    return mine


def _conversation_ids(conn: Connection, record: CallRecord) -> set[str]:
    """Of every agent leg that is known: the record names the last one alone."""
    e = call_events.c
    ids = set(
        conn.execute(select(conversations.c.conversation_id).where(_of_call(record))).scalars()
    )
    ready = (e.call_id == record.id) & (e.name == "agent_ready")
    for data in conn.execute(select(e.data).where(ready)).scalars():
        if isinstance(data.get("conversation_id"), str):
            ids.add(data["conversation_id"])
    return ids | ({record.conversation_id} if record.conversation_id else set())


def _forget_conversations(conn: Connection, record: CallRecord) -> int:
    """The row stays: a webhook that is repeated shall not bring the texts back."""
    forgotten = update(conversations).where(_of_call(record)).values(data={}, status="done")
    return conn.execute(forgotten).rowcount


def _each_conversation(conn: Connection, record: CallRecord, clean: Any) -> None:
    c = conversations.c
    for row in conn.execute(select(c.conversation_id, c.data).where(_of_call(record))).all():
        mine = c.conversation_id == row.conversation_id
        conn.execute(update(conversations).where(mine).values(data=clean(row.data)))


def _drop_deliveries(conn: Connection, call_id: str) -> int:
    return _drop(conn, webhook_deliveries.c.call_id == call_id)


def _drop_message_deliveries(conn: Connection, record: MessageRecord) -> None:
    """Of a message of a call they are named by the call; of another one by their event, which is made of its id."""
    d = webhook_deliveries.c
    if record.call_id is not None:
        _drop(conn, d.call_id == record.call_id)
        return
    made_of = (events.MESSAGE_RECEIVED, events.MESSAGE_UPDATED)
    ids = [
        events.event_id(event, f"{record.id} {status}")
        for event in made_of
        for status in MESSAGE_STATUSES
    ]
    targets = select(webhook_table.c.id).where(webhook_table.c.tenant_id == record.tenant_id)
    _drop(conn, d.webhook_id.in_(targets) & d.event_id.in_(ids))


def _drop(conn: Connection, which: Any) -> int:
    """Pushes hold the whole record. Those that are still to be sent are not."""
    ids = list(conn.execute(select(webhook_deliveries.c.id).where(which)).scalars())
    if ids:
        o = outbox_table.c
        waiting = (o.kind == webhooks.OUTBOX_KIND) & o.key.in_(ids)
        conn.execute(delete(outbox_table).where(waiting))
        conn.execute(delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(ids)))
    return len(ids)


def _forget_answers(conn: Connection, call_id: str) -> None:
    """Answers that are kept for repeated requests (a day) show the called number and the metadata."""
    k = idempotency_keys.c
    holding = k.body.contains(call_id, autoescape=True)
    for row in conn.execute(select(k.tenant_id, k.key, k.body).where(holding)).all():
        shown = orjson.loads(row.body)
        if not isinstance(shown, dict) or shown.get("id") != call_id:
            continue
        shown |= {"from": ERASED, "to": ERASED, "metadata": {}}
        mine = (k.tenant_id == row.tenant_id) & (k.key == row.key)
        conn.execute(update(idempotency_keys).where(mine).values(body=orjson.dumps(shown).decode()))
