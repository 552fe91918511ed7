"""Decisions of the policy: append-only, each tenant's a chain of hashes.

A link's hash is over its own content and the hash before it, so an edit, a removal or an insertion anywhere
shows in `verify`. The newest link is also in `decision_heads`, because a chain whose end was cut off is a
good chain. Whoever can write both tables can make a whole new chain: keep the heads elsewhere now and then.

The facts of a decision are outside the chain but by their hash: they hold a telephone number, and may have to
be erased. A decision without its facts is counted, and cannot be replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from control.store import rows
from control.store.prepared import Prepared, PreparedWrite, insert_into
from control.store.tables.compliance import decision_heads
from control.store.tables.core import decisions

FIRST = "0" * 64
"""What stands for the hash before the first link."""
_BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A link of a tenant's chain. `facts`: what the rules knew, as `control.compliance.stored` writes it."""

    id: int
    tenant_id: str
    call_id: str | None
    phase: str
    decision: dict[str, Any]
    at: datetime
    seq: int | None
    prev_hash: str | None
    hash: str | None
    facts: dict[str, Any] | None
    facts_hash: str | None


@dataclass(frozen=True, slots=True)
class Flaw:
    """Where a chain is broken. `row` is the decision's id; None: the end of the chain."""

    tenant_id: str
    row: int | None
    seq: int | None
    what: str


@dataclass(slots=True)
class Verified:
    """What was looked at."""

    rows: int = 0
    without_facts: int = 0
    """Their facts were erased, or never kept."""
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)


def append(
    conn: Connection,
    call_id: str | None,
    tenant_id: str,
    phase: str,
    decision: dict[str, Any],
    at: datetime,
    facts: dict[str, Any] | None = None,
) -> int:
    """Add a link; its number in the tenant's chain. `call_id` is None where there is no call (a check)."""
    seq, prev_hash = _lock_head(conn, tenant_id)
    facts_hash = digest(facts) if facts is not None else None
    link = link_hash(
        tenant_id=tenant_id,
        seq=seq + 1,
        prev_hash=prev_hash,
        call_id=call_id,
        phase=phase,
        at=at,
        decision=decision,
        facts_hash=facts_hash,
    )
    _INSERT.run(
        conn,
        {
            "call_id": call_id,
            "tenant_id": tenant_id,
            "phase": phase,
            "decision": decision,
            "at": at,
            "seq": seq + 1,
            "prev_hash": prev_hash,
            "hash": link,
            "facts": facts,
            "facts_hash": facts_hash,
        },
    )
    _MOVE_HEAD.run(conn, {"whose": tenant_id, "seq": seq + 1, "hash": link})
    return seq + 1


_INSERT = insert_into(decisions, (column.name for column in decisions.c if column.name != "id"))
_MOVE_HEAD = PreparedWrite(
    update(decision_heads)
    .where(decision_heads.c.tenant_id == bindparam("whose"))
    .values(seq=bindparam("seq"), hash=bindparam("hash"))
)
_HEAD = Prepared(
    select(decision_heads.c.seq, decision_heads.c.hash)
    .where(decision_heads.c.tenant_id == bindparam("whose"))
    .with_for_update()
)


def _lock_head(conn: Connection, tenant_id: str) -> tuple[int, str]:
    """The newest link. Its row is held until the end of the transaction, so links are added one by one."""
    row = _HEAD.first(conn, {"whose": tenant_id})
    if row is None:
        try:
            with conn.begin_nested():
                first = {"tenant_id": tenant_id, "seq": 0, "hash": FIRST}
                conn.execute(insert(decision_heads).values(first))
        except IntegrityError:
            pass  # another machine was first
        row = _HEAD.all(conn, {"whose": tenant_id})[0]
    seq, link = row
    return seq, link


def link_hash(
    *,
    tenant_id: str,
    seq: int,
    prev_hash: str,
    call_id: str | None,
    phase: str,
    at: datetime,
    decision: dict[str, Any],
    facts_hash: str | None,
) -> str:
    """SHA-256 (hex) of the link as canonical JSON. Never change what it is made of: old links stay."""
    return digest(
        {
            "tenant_id": tenant_id,
            "seq": seq,
            "prev": prev_hash,
            "call_id": call_id,
            "phase": phase,
            "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
            "decision": decision,
            "facts": facts_hash,
        }
    )


def digest(value: Any) -> str:
    """SHA-256 (hex) of JSON with sorted keys and without spaces."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def verify(conn: Connection, tenant_id: str | None = None) -> Verified:
    """Follow every chain (of one tenant, or of all) and say where one is broken."""
    found = Verified()
    statement = rows.query(decisions, DecisionRecord).order_by(
        decisions.c.tenant_id, decisions.c.seq, decisions.c.id
    )
    heads = select(decision_heads.c.tenant_id, decision_heads.c.seq, decision_heads.c.hash)
    if tenant_id is not None:
        statement = statement.where(decisions.c.tenant_id == tenant_id)
        heads = heads.where(decision_heads.c.tenant_id == tenant_id)
    ends: dict[str, tuple[int, str]] = {}
    for row in conn.execute(statement.execution_options(yield_per=_BATCH_ROWS)):
        record = rows.build(DecisionRecord, row)
        found.rows += 1
        found.without_facts += record.facts is None
        _follow(record, ends, found.flaws)
    for whose, seq, link in conn.execute(heads):
        found.heads[whose] = (seq, link)
        if ends.get(whose, (0, FIRST)) != (seq, link):
            flaw = f"the chain ends at {ends.get(whose, (0, FIRST))[0]}, not at {seq} as it should"
            found.flaws.append(Flaw(whose, None, seq, flaw))
    for whose in ends.keys() - found.heads.keys():
        found.flaws.append(Flaw(whose, None, None, "the head of the chain is missing"))
    return found


def _follow(record: DecisionRecord, ends: dict[str, tuple[int, str]], flaws: list[Flaw]) -> None:
    seq, prev_hash = ends.get(record.tenant_id, (0, FIRST))

    def flaw(what: str) -> None:
        flaws.append(Flaw(record.tenant_id, record.id, record.seq, what))

    if record.seq is None or record.hash is None or record.prev_hash is None:
        flaw("is not in the chain: it was inserted past the ledger")
        return
    if record.seq != seq + 1:
        flaw(f"follows {seq}: what was between them is missing")
    elif record.prev_hash != prev_hash:
        flaw("does not follow the one before it")
    own = link_hash(
        tenant_id=record.tenant_id,
        seq=record.seq,
        prev_hash=record.prev_hash,
        call_id=record.call_id,
        phase=record.phase,
        at=record.at,
        decision=record.decision,
        facts_hash=record.facts_hash,
    )
    if own != record.hash:
        flaw("was edited")
    if record.facts is not None and digest(record.facts) != record.facts_hash:
        flaw("has facts that were edited")
    # Go on from what is written, so that one edit is one flaw.
    ends[record.tenant_id] = (record.seq, record.hash)


def of_call(conn: Connection, call_id: str) -> list[DecisionRecord]:
    """All decisions about a call, in order."""
    mine = decisions.c.call_id == call_id
    statement = rows.query(decisions, DecisionRecord).where(mine).order_by(decisions.c.id)
    return [rows.build(DecisionRecord, row) for row in conn.execute(statement)]


def newest(conn: Connection, tenant_id: str) -> DecisionRecord | None:
    """The last link of a chain."""
    row = _NEWEST.first(conn, {"whose": tenant_id})
    return None if row is None else DecisionRecord(*row)


_NEWEST = Prepared(
    rows.query(decisions, DecisionRecord)
    .where(decisions.c.tenant_id == bindparam("whose"))
    .order_by(decisions.c.seq.desc())
    .limit(1)
)


def between(
    conn: Connection, *, since: datetime, until: datetime, tenant_id: str | None = None
) -> Iterator[DecisionRecord]:
    """Decisions with `since` <= at < `until`, in order of time."""
    statement = (
        rows.query(decisions, DecisionRecord)
        .where(decisions.c.at >= since, decisions.c.at < until)
        .order_by(decisions.c.at, decisions.c.id)
    )
    if tenant_id is not None:
        statement = statement.where(decisions.c.tenant_id == tenant_id)
    for row in conn.execute(statement.execution_options(yield_per=_BATCH_ROWS)):
        yield rows.build(DecisionRecord, row)


def hash_at(conn: Connection, tenant_id: str, seq: int) -> str | None:
    """The hash of a link, as it is written."""
    mine = (decisions.c.tenant_id == tenant_id) & (decisions.c.seq == seq)
    link: str | None = conn.execute(select(decisions.c.hash).where(mine)).scalar()
    return link


def erase_facts(conn: Connection, call_id: str) -> int:
    """Erase what the rules knew about a call, at the request of the person; how many. The chain stays good."""
    mine = decisions.c.call_id == call_id
    return conn.execute(update(decisions).where(mine).values(facts=None)).rowcount
