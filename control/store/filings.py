"""Filings: what was handed to Twilio for review. SIDs and findings only, nobody's names or papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, update

from control.ids import DEFAULT_TENANT_ID
from control.store import rows
from control.store.errors import RecordNotFound
from control.store.tables.numbers import filings

BUNDLE = "bundle"
PROFILE = "customer_profile"
SHAKEN_STIR = "shaken_stir"
CNAM = "cnam"
TRUST = (PROFILE, SHAKEN_STIR, CNAM)
DRAFT = "draft"
APPROVED = frozenset({"twilio-approved", "provisionally-approved"})
IN_REVIEW = ("pending-review", "in-review")


@dataclass(frozen=True, slots=True)
class FilingRecord:
    """A regulatory bundle, a customer profile or a trust product of a tenant."""

    id: str
    kind: str
    friendly_name: str
    created_at: datetime
    updated_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    status: str = DRAFT
    """Twilio's word."""
    sid: str | None = None
    policy_sid: str | None = None
    """Of the regulation, or of the Trust Hub policy."""
    country: str | None = None
    number_type: str | None = None
    end_user_type: str | None = None
    items: list[dict[str, str]] = field(default_factory=list)
    """`{sid, type}` each."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    """What was missing when it was last evaluated: `{requirement, field, reason}`."""
    reason: str | None = None
    """Why it was rejected, or could not be filed."""
    valid_until: datetime | None = None
    submitted_at: datetime | None = None
    checked_at: datetime | None = None


def add(conn: Connection, record: FilingRecord) -> None:
    """A new one."""
    conn.execute(insert(filings).values(rows.values(record)))


def get(
    conn: Connection, tenant_id: str, filing_id: str, kinds: Sequence[str]
) -> FilingRecord | None:
    """By id, of one tenant and of these kinds."""
    query = rows.query(filings, FilingRecord).where(
        filings.c.id == filing_id, filings.c.tenant_id == tenant_id, filings.c.kind.in_(kinds)
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else rows.build(FilingRecord, row)


def approved(conn: Connection, tenant_id: str, kind: str) -> FilingRecord | None:
    """The newest of this kind that Twilio has approved."""
    query = (
        rows.query(filings, FilingRecord)
        .where(
            filings.c.tenant_id == tenant_id,
            filings.c.kind == kind,
            filings.c.status.in_(APPROVED),
        )
        .order_by(filings.c.id.desc())
        .limit(1)
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else rows.build(FilingRecord, row)


def list_filings(
    conn: Connection,
    tenant_id: str,
    kinds: Sequence[str],
    *,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[FilingRecord], str | None]:
    """The newest first, and the cursor of the next page. Raises BadCursor."""
    statement = rows.query(filings, FilingRecord).where(
        filings.c.tenant_id == tenant_id, filings.c.kind.in_(kinds)
    )
    asked = {"tenant": tenant_id, "kinds": sorted(kinds)}
    return rows.page(conn, statement, FilingRecord, filings.c.id, limit, cursor, asked)


def in_review(conn: Connection, limit: int) -> list[FilingRecord]:
    """What Twilio's people have not decided, the longest not looked at first."""
    statement = (
        rows.query(filings, FilingRecord)
        .where(filings.c.status.in_(IN_REVIEW), filings.c.sid.is_not(None))
        .order_by(filings.c.updated_at)
        .limit(limit)
    )
    return [rows.build(FilingRecord, row) for row in conn.execute(statement)]


def change(conn: Connection, filing_id: str, /, **columns: Any) -> None:
    """Set the named columns. Raises RecordNotFound."""
    done = conn.execute(update(filings).where(filings.c.id == filing_id).values(columns))
    if done.rowcount == 0:
        raise RecordNotFound(f"no filing {filing_id}")
