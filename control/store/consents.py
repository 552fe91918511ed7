"""Consents and revocations: evidence. Nothing is deleted; a consent that was withdrawn says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, case, insert, update

from control.ids import DEFAULT_TENANT_ID
from control.store import rows
from control.store.prepared import Prepared
from control.store.tables.compliance import consents, reassigned_answers, revocations

ACTIVE_ONLY = "active"


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """One grant: who, when, how, for what, in which words."""

    id: str
    e164: str
    seller: str
    channels: list[str]
    """`voice_ai`, `voice_live`, `sms`."""
    purposes: list[str]
    level: str
    """`express_oral`, `express`, `written_signed`."""
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    """Who or what wrote the row."""
    tenant_id: str = DEFAULT_TENANT_ID
    method: str | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    names_automated_voice: bool = False
    says_not_a_condition: bool = False
    names_toll_free: bool = False
    disclosure_id: str | None = None
    disclosure_text: str | None = None
    disclosure_sha256: str | None = None
    signature: str | None = None
    evidence_ref: str | None = None
    evidence_sha256: str | None = None
    last_verified_at: datetime | None = None
    last_used_at: datetime | None = None
    location: dict[str, Any] | None = None
    """`{zone?, postcode?, state?, country?, source?, as_of?}`: where the person said they are."""
    details: dict[str, Any] | None = None
    """What else the grant came with: address, page, contract."""


@dataclass(frozen=True, slots=True)
class RevocationRecord:
    """A request to stop, by any means. It is never taken back; a later consent may outlive it."""

    tenant_id: str
    e164: str
    occurred_at: datetime
    source: str
    call_id: str | None = None
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ReassignedRecord:
    """An answer of the reassigned-numbers database."""

    tenant_id: str
    e164: str
    answer: str
    """`yes`, `no`, `no_data`, `error`."""
    asked_at: datetime
    for_date: str | None = None
    """`YYYY-MM-DD`: was it disconnected on or after that day?"""


def insert_consent(conn: Connection, record: ConsentRecord) -> ConsentRecord:
    """Add a grant; as it is kept."""
    (kept,) = insert_consents(conn, [record])
    return kept


def insert_consents(conn: Connection, records: list[ConsentRecord]) -> list[ConsentRecord]:
    """Add many grants. What a person withdrew stays withdrawn, also when somebody brings the same grant once more."""
    kept: list[ConsentRecord] = []
    for start in range(0, len(records), _AT_ONCE):
        batch = records[start : start + _AT_ONCE]
        former = _withdrawn(conn, batch)
        found = [_as_left(one, former) for one in batch]
        conn.execute(insert(consents), [rows.values(one) for one in found])
        kept += found
    return kept


def _withdrawn(conn: Connection, records: list[ConsentRecord]) -> list[ConsentRecord]:
    """Withdrawn grants of the numbers of these."""
    of_these = consents.c.tenant_id.in_({one.tenant_id for one in records}) & consents.c.e164.in_(
        {one.e164 for one in records}
    )
    statement = rows.query(consents, ConsentRecord).where(
        of_these, consents.c.revoked_at.is_not(None)
    )
    return [rows.build(ConsentRecord, row) for row in conn.execute(statement)]


def _as_left(record: ConsentRecord, former: list[ConsentRecord]) -> ConsentRecord:
    """The grant, withdrawn if one of this seller and a channel of it was withdrawn at its time or later."""
    for one in former:
        if (
            one.revoked_at is not None
            and record.revoked_at is None
            and (one.tenant_id, one.e164) == (record.tenant_id, record.e164)
            and one.seller.casefold() == record.seller.casefold()
            and set(one.channels) & set(record.channels)
            and record.occurred_at <= one.revoked_at
        ):
            record = replace(record, revoked_at=one.revoked_at, revoked_reason=one.revoked_reason)
    return record


_AT_ONCE = 500


def get(conn: Connection, consent_id: str) -> ConsentRecord | None:
    """One grant."""
    return rows.find(conn, consents, ConsentRecord, id=consent_id)


def of_number(conn: Connection, tenant_id: str, e164: str) -> list[ConsentRecord]:
    """Every grant of this number to this tenant, withdrawn ones included, the oldest first."""
    whose = {"tenant_id": tenant_id, "e164": e164}
    return [ConsentRecord(*row) for row in _GRANTS.all(conn, whose)]


def list_consents(
    conn: Connection,
    *,
    tenant_id: str | None,
    e164: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[ConsentRecord], str | None]:
    """The newest first, and the cursor of the next page. Raises BadCursor."""
    statement = rows.query(consents, ConsentRecord)
    if tenant_id is not None:
        statement = statement.where(consents.c.tenant_id == tenant_id)
    if e164 is not None:
        statement = statement.where(consents.c.e164 == e164)
    asked = {"tenant": tenant_id, "number": e164}
    return rows.page(conn, statement, ConsentRecord, consents.c.id, limit, cursor, asked)


def revoke(conn: Connection, consent_id: str, at: datetime, reason: str | None) -> bool:
    """Withdraw one grant; False when it was withdrawn already. The first time stays."""
    mine = (consents.c.id == consent_id) & consents.c.revoked_at.is_(None)
    values = {"revoked_at": at, "revoked_reason": reason}
    return conn.execute(update(consents).where(mine).values(values)).rowcount > 0


def used(conn: Connection, consent_ids: list[str], at: datetime) -> None:
    """A call relied on these grants."""
    if consent_ids:
        mine = consents.c.id.in_(consent_ids)
        conn.execute(update(consents).where(mine).values(last_used_at=at))


def add_revocation(conn: Connection, record: RevocationRecord) -> None:
    """Note a request to stop."""
    conn.execute(insert(revocations).values(rows.values(record)))


def revocations_of(conn: Connection, tenant_id: str, e164: str) -> list[RevocationRecord]:
    """Every request to stop of this number to this tenant, the oldest first."""
    whose = {"tenant_id": tenant_id, "e164": e164}
    return [RevocationRecord(*row) for row in _REVOCATIONS.all(conn, whose)]


def add_answer(conn: Connection, record: ReassignedRecord) -> None:
    """Keep an answer of the reassigned-numbers database; a `yes` closes the consents that are older than it."""
    conn.execute(insert(reassigned_answers).values(rows.values(record)))
    if record.answer != "yes":
        return
    former = (
        consents.c.tenant_id == record.tenant_id,
        consents.c.e164 == record.e164,
        consents.c.occurred_at <= record.asked_at,
        consents.c.revoked_at.is_(None),
    )
    closed = {"revoked_at": record.asked_at, "revoked_reason": "the number was reassigned"}
    conn.execute(update(consents).where(*former).values(closed))


def newest_answer(conn: Connection, tenant_id: str, e164: str) -> ReassignedRecord | None:
    """The newest answer about a number. An error is none, as long as there is any other."""
    row = _NEWEST_ANSWER.first(conn, {"tenant_id": tenant_id, "e164": e164})
    return None if row is None else ReassignedRecord(*row)


def _of_number(table: Table, record: type[Any]) -> Select[Any]:
    mine = (table.c.tenant_id == bindparam("tenant_id")) & (table.c.e164 == bindparam("e164"))
    return rows.query(table, record).where(mine)


# Every call asks these.
_GRANTS = Prepared(
    _of_number(consents, ConsentRecord).order_by(consents.c.occurred_at, consents.c.id)
)
_REVOCATIONS = Prepared(
    _of_number(revocations, RevocationRecord).order_by(revocations.c.occurred_at, revocations.c.id)
)
_NEWEST_ANSWER = Prepared(
    _of_number(reassigned_answers, ReassignedRecord)
    .order_by(
        case((reassigned_answers.c.answer == "error", 1), else_=0),
        reassigned_answers.c.asked_at.desc(),
        reassigned_answers.c.id.desc(),
    )
    .limit(1)
)
