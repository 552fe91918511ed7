"""What Twilio tells of messages: those that came in, and what became of those that went out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from control.compliance import phrases
from control.compliance.suppression import suppress
from control.ids import DEFAULT_TENANT_ID, new_id
from control.sms import template
from control.sms.announcing import announce
from control.sms.keywords import Keyword, keyword
from control.sms.service import add_line
from control.sms.settings import E164, SmsProblem, parse
from control.store import Store, agents, consents, messages, numbers, opt_outs
from control.store.messages import MessageRecord
from control.store.records import AgentRecord, OptOutRecord
from control.strangers import whole_number
from control.twilio import twiml

BODY_MAX_CHARS = 1_600
HELD = "; has to be looked at"
_SOURCES = {"revoke": "sms", "wrong_number": "wrong_number", "hold": "sms_review"}

_RANK = {
    "accepted": 0,
    "scheduled": 0,
    "queued": 1,
    "sending": 2,
    "sent": 3,
    "delivered": 4,
    "undelivered": 4,
    "failed": 4,
    "canceled": 4,
    "read": 5,
}
_TOLD = frozenset(("delivered", "undelivered", "failed", "canceled"))


class Clock(Protocol):
    def now(self) -> datetime: ...


class Incoming:
    """One per daemon. Nothing is answered before it is committed."""

    def __init__(
        self, store: Store, clock: Clock, *, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._clock = clock
        self._wake = wake

    async def receive(self, form: Mapping[str, str], tenant_id: str | None = None) -> str:
        """The TwiML for a message. Raises StoreUnavailable: then Twilio has to ask again.

        `tenant_id`: whose account the message came to, where that is known.
        """
        answer = await self._store.write(self._receive, form, tenant_id, self._clock.now())
        self._wake()
        return twiml.message(answer) if answer else twiml.silent()

    def _receive(
        self, conn: Connection, form: Mapping[str, str], tenant_id: str | None, now: datetime
    ) -> str | None:
        to, customer = form.get("To", ""), form.get("From", "")
        agent = agents.by_number(conn, to)
        owner = tenant_id or (agent.tenant_id if agent else None) or _owner(conn, to)
        body = form.get("Body", "")
        asks = keyword(body, form.get("OptOutType", ""))
        found = None if asks == "stop" else phrases.find(body)
        record = _record(form, owner, agent, now)
        is_new = messages.insert(conn, record)
        if asks == "stop" and E164.fullmatch(customer):
            # Also for a message that was seen before: an opt-out that was lost costs more than one that was not.
            _stop(conn, owner, customer, form, now, None, is_new=is_new)
        elif found is not None and E164.fullmatch(customer):
            _stop(conn, owner, customer, form, now, found, is_new=is_new)
        elif asks == "start" and is_new:
            opt_outs.restore_messages(conn, owner, customer)
        if is_new:
            announce(conn, record.id, now)
        return _answer(asks, form, agent)

    async def status(self, form: Mapping[str, str], message_id: str | None) -> bool:
        """A status callback, possibly late, repeated or out of order; whether the message is ours.

        Raises StoreUnavailable.
        """
        is_ours = await self._store.write(self._status, form, message_id, self._clock.now())
        self._wake()
        return is_ours

    def _status(
        self, conn: Connection, form: Mapping[str, str], message_id: str | None, now: datetime
    ) -> bool:
        sid = form.get("MessageSid", "")
        record = messages.by_sid(conn, sid)
        if record is None and message_id is not None:
            record = messages.get(conn, message_id)
            if record is not None and record.twilio_sid not in (None, sid):
                record = None
        if record is None or record.direction != "outbound":
            return False
        status = form.get("MessageStatus", "")
        is_bound = record.send_state == messages.CREATED
        columns: dict[str, Any] = {}
        if not is_bound:
            # Quicker than the answer to our own request, or instead of it.
            columns = {"send_state": messages.CREATED, "twilio_sid": sid, "error": None}
            data = {"message_id": record.id, "segments": record.segments}
            add_line(conn, record.call_id, "sms_sent", data, now)
        if is_bound and _RANK.get(status, -1) <= _RANK.get(record.status, -1):
            return True
        code = whole_number(form.get("ErrorCode", ""))
        if status in _RANK:
            columns["status"] = status
        if code is not None:
            columns["error_code"] = code
        messages.update(conn, record.id, updated_at=now, **columns)
        if status in _TOLD:
            data = {"message_id": record.id} | ({} if code is None else {"code": code})
            add_line(conn, record.call_id, f"sms_{status}", data, now)
            announce(conn, record.id, now)
        return True


def _record(
    form: Mapping[str, str], tenant_id: str, agent: AgentRecord | None, now: datetime
) -> MessageRecord:
    body = form.get("Body", "")[:BODY_MAX_CHARS]
    return MessageRecord(
        id=new_id(messages.PREFIX, now),
        tenant_id=tenant_id,
        agent_id=agent.id if agent and agent.tenant_id == tenant_id else None,
        direction="inbound",
        from_number=form.get("From", ""),
        to_number=form.get("To", ""),
        body=body,
        segments=template.segments(body),
        status="received",
        twilio_sid=form.get("MessageSid") or None,
        created_at=now,
        updated_at=now,
    )


def _owner(conn: Connection, e164: str) -> str:
    record = numbers.active(conn, e164)
    return DEFAULT_TENANT_ID if record is None else record.tenant_id


def _stop(
    conn: Connection,
    tenant_id: str,
    customer: str,
    form: Mapping[str, str],
    now: datetime,
    found: phrases.Match | None,
    *,
    is_new: bool,
) -> None:
    """A keyword, or words that mean one (`found`): any reasonable means will do (47 CFR 64.1200(a)(10))."""
    standing = opt_outs.get(conn, tenant_id, customer)
    if not is_new and standing is not None and standing.scope is None:
        return
    kind = "revoke" if found is None else found.kind
    matched = {}
    if found is not None:
        matched = {
            "matched": found.words,
            "pattern": found.pattern,
            "phrases_version": found.version,
        }
    suppress(
        conn,
        OptOutRecord(
            e164=customer,
            source=_SOURCES[kind],
            created_at=now,
            tenant_id=tenant_id,
            reason=f"message to {form.get('To', '')}" + (HELD if kind == "hold" else ""),
            evidence={
                "text": form.get("Body", "")[:160],
                "message_sid": form.get("MessageSid"),
                "opt_out_type": form.get("OptOutType"),
            }
            | matched,
        ),
        now,
    )
    if kind == "wrong_number":
        answer = consents.ReassignedRecord(tenant_id, customer, "yes", now, now.date().isoformat())
        consents.add_answer(conn, answer)


def _answer(asks: Keyword | None, form: Mapping[str, str], agent: AgentRecord | None) -> str | None:
    """Twilio itself answers STOP and START; HELP too, where Advanced Opt-Out is switched on."""
    if asks != "help" or form.get("OptOutType") or agent is None or not agent.sms:
        return None
    try:
        return parse(agent.sms).help
    except SmsProblem:
        return None
