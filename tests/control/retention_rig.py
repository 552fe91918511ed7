"""A store with whole calls in it, a disk with their recordings, and an ElevenLabs that remembers what it deleted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsUnavailable
from control.retention.periods import Periods
from control.retention.service import Retention
from control.store import (
    Store,
    agents,
    calls,
    conversations,
    decisions,
    messages,
    opt_outs,
    tenants,
)
from control.store.conversations import ConversationRecord
from control.store.messages import MessageRecord
from control.store.records import AgentRecord, CallRecord, OptOutRecord, TenantRecord
from control.store.tables.routing import provider_events
from control.store.webhooks import DeliveryRecord, insert_delivery

NOW = datetime(2026, 11, 29, 9, 0, tzinfo=UTC)
OURS, PERSON, STAFF = "+14155550199", "+14155550100", "+14155550177"
ALICE, BOB = "tnt_alice", "tnt_bob"
WORDS = "Pomegranate on Thursday"
"""Said in every call; in nothing else."""
OLD = timedelta(days=60)


@dataclass
class FakeClock:
    time: datetime = NOW

    def now(self) -> datetime:
        return self.time


@dataclass
class FakeCopies:
    """ElevenLabs: conversations by the call that they were begun for."""

    of_calls: dict[str, list[str]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    is_away: bool = False

    async def find_conversations(self, variable: str, value: str) -> list[str]:
        assert variable == "gw_call_id"
        if self.is_away:
            raise ElevenLabsUnavailable("away")
        return [one for one in self.of_calls.get(value, []) if one not in self.deleted]

    async def delete_conversation(self, conversation_id: str) -> None:
        if self.is_away:
            raise ElevenLabsUnavailable("away")
        if conversation_id in self.deleted:
            raise ElevenLabsRefused(404, "conversation_not_found", "not found")
        self.deleted.append(conversation_id)


def call_of(tenant_id: str, number: int, ended_at: datetime, folder: Path) -> CallRecord:
    """An outbound call with everything that a call may have."""
    call_id = f"call_{tenant_id[4:]}_{number}"
    path = folder / f"{call_id}.wav"
    return CallRecord(
        id=call_id,
        direction="outbound",
        created_at=ended_at - timedelta(minutes=5),
        tenant_id=tenant_id,
        agent_id=f"agt_{tenant_id[4:]}",
        from_number=OURS,
        to_number=PERSON,
        status="completed",
        result="completed",
        twilio_call_sid=f"CA{call_id}",
        conversation_id=f"conv_{call_id}",
        answered_at=ended_at - timedelta(minutes=4),
        ended_at=ended_at,
        variables={"first_name": WORDS, "callback": PERSON},
        metadata={"crm": WORDS, "purpose": "survey"},
        legs={"transfer": {"to": {"number": STAFF}, "status": "completed", "announce": WORDS}},
        recording={"path": str(path), "duration_ms": 1000},
        extractions={"day": WORDS},
        summary=f"{WORDS}, and call {PERSON}",
        analysis={"status": "done", "title": WORDS},
        node="here",
    )


def fill(conn, folder: Path, ended_at: datetime = NOW - OLD, count: int = 3) -> None:
    """Two tenants, each with calls and what hangs on them."""
    for tenant_id in (ALICE, BOB):
        tenants.add(conn, TenantRecord(tenant_id, tenant_id, "active", NOW, NOW))
        agent_id = f"agt_{tenant_id[4:]}"
        agents.insert(conn, AgentRecord(agent_id, "x", NOW, NOW, tenant_id=tenant_id))
        opt_outs.add(
            conn, OptOutRecord(PERSON, "spoken", NOW, tenant_id, call_id=f"call_{tenant_id[4:]}_0")
        )
        for number in range(count):
            _whole(conn, call_of(tenant_id, number, ended_at, folder))


def _whole(conn, record: CallRecord) -> None:
    at, call_id = record.created_at, record.id
    calls.insert(conn, record)
    calls.upsert_turn(conn, call_id, 1, "user", f"{WORDS} {PERSON}", 1)
    calls.append_events(
        conn,
        call_id,
        [
            ("agent_ready", 1, {"conversation_id": f"conv_{call_id}_first", "took_ms": 5}),
            ("hang_up_failed", 2, {"error": f"{WORDS} {PERSON}", "code": 3}),
        ],
    )
    facts = {"to_number": PERSON}
    decisions.append(conn, call_id, record.tenant_id, "dial", {"outcome": "allow"}, at, facts)
    conversations.put(
        conn,
        ConversationRecord(
            f"conv_{call_id}", record.tenant_id, "done", "poll", at, call_id, {"text": WORDS}
        ),
    )
    messages.insert(
        conn,
        MessageRecord(
            id=f"msg_{call_id}",
            tenant_id=record.tenant_id,
            direction="outbound",
            from_number=OURS,
            to_number=PERSON,
            body=WORDS,
            segments=1,
            status="delivered",
            send_state="created",
            created_at=at,
            updated_at=at,
            call_id=call_id,
        ),
    )
    insert_delivery(
        conn,
        DeliveryRecord(
            f"dlv_{call_id}", record.tenant_id, "whk_1", f"evt_{call_id}", "call.result",
            f"{WORDS} {PERSON}", at, at, call_id,
        ),
    )  # fmt: skip
    conn.execute(
        insert(provider_events).values(
            tenant_id=record.tenant_id, provider="twilio", sid=f"NO{call_id}", level="error",
            message=f"to {PERSON}", call_id=call_id, detail={"to": PERSON}, at=at, received_at=at,
        )
    )  # fmt: skip
    path = Path(record.recording["path"])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"RIFF" + call_id.encode())
    path.with_name(f"{call_id}-2.wav").write_bytes(b"RIFF2")


def retention(store: Store, folder: Path, **options) -> Retention:
    """With thirty days for texts and recordings, and forty for numbers."""
    given = {
        "node": "here",
        "recording_dir": str(folder),
        "of_all": Periods(30, 30, 40),
        "copies": FakeCopies(),
        "clock": FakeClock(),
    } | options
    return Retention(store, given.pop("clock"), given.pop("copies"), **given)


def with_own(conn, tenant_id: str, **days: int) -> None:
    tenants.change(conn, tenant_id, retention=days)


def in_future(record: CallRecord) -> CallRecord:
    return replace(record, ended_at=NOW)
