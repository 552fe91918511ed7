"""Compliance: consents, revocations, block lists, the chain of decisions."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _consents()
    _revocations()
    _lists()
    _tenant_policies()
    with op.batch_alter_table("opt_outs") as opt_outs:
        opt_outs.add_column(sa.Column("call_id", sa.String(40)))
        opt_outs.add_column(sa.Column("evidence", JSON))
    with op.batch_alter_table("decisions") as decisions:
        decisions.add_column(sa.Column("seq", sa.BigInteger()))
        decisions.add_column(sa.Column("prev_hash", sa.String(64)))
        decisions.add_column(sa.Column("hash", sa.String(64)))
        decisions.add_column(sa.Column("facts", JSON))
        decisions.add_column(sa.Column("facts_hash", sa.String(64)))
    op.create_table(
        "decision_heads",
        sa.Column("tenant_id", sa.String(40), primary_key=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    _chain_what_is_there()
    op.create_index("uq_decisions_tenant_id_seq", "decisions", ["tenant_id", "seq"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_decisions_tenant_id_seq", "decisions")
    op.drop_table("decision_heads")
    with op.batch_alter_table("decisions") as decisions:
        for name in ("facts_hash", "facts", "hash", "prev_hash", "seq"):
            decisions.drop_column(name)
    with op.batch_alter_table("opt_outs") as opt_outs:
        opt_outs.drop_column("evidence")
        opt_outs.drop_column("call_id")
    for name in (
        "tenant_policies",
        "reassigned_answers",
        "dnc_lists",
        "platform_blocks",
        "revocations",
        "consents",
    ):
        op.drop_table(name)


def _consents() -> None:
    op.create_table(
        "consents",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("e164", sa.String(16), nullable=False),
        sa.Column("seller", sa.Text(), nullable=False),
        sa.Column("channels", JSON, nullable=False),
        sa.Column("purposes", JSON, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("method", sa.String(32)),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("revoked_reason", sa.Text()),
        sa.Column("names_automated_voice", sa.Boolean(), nullable=False),
        sa.Column("says_not_a_condition", sa.Boolean(), nullable=False),
        sa.Column("names_toll_free", sa.Boolean(), nullable=False),
        sa.Column("disclosure_id", sa.Text()),
        sa.Column("disclosure_text", sa.Text()),
        sa.Column("disclosure_sha256", sa.String(64)),
        sa.Column("signature", sa.String(32)),
        sa.Column("evidence_ref", sa.Text()),
        sa.Column("evidence_sha256", sa.String(64)),
        sa.Column("last_verified_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.Column("location", JSON),
        sa.Column("details", JSON),
    )
    op.create_index("ix_consents_tenant_id_e164", "consents", ["tenant_id", "e164"])
    op.create_index("ix_consents_tenant_id_id", "consents", ["tenant_id", "id"])


def _revocations() -> None:
    op.create_table(
        "revocations",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("e164", sa.String(16), nullable=False),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("call_id", sa.String(40)),
        sa.Column("evidence", JSON),
    )
    op.create_index("ix_revocations_tenant_id_e164", "revocations", ["tenant_id", "e164"])
    # Everybody on the list has asked to be left alone.
    op.execute(
        "INSERT INTO revocations (tenant_id, e164, occurred_at, source) "
        "SELECT tenant_id, e164, created_at, source FROM opt_outs ORDER BY created_at"
    )


def _lists() -> None:
    op.create_table(
        "platform_blocks",
        sa.Column("e164", sa.String(16), primary_key=True),
        sa.Column("tenant_id", sa.String(40)),
        sa.Column("reason", sa.Text()),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
    )
    op.create_table(
        "dnc_lists",
        sa.Column("tenant_id", sa.String(40), primary_key=True),
        sa.Column("list_id", sa.String(16), primary_key=True),
        sa.Column("as_of", TIME, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("imported_at", TIME, nullable=False),
    )
    op.create_table(
        "reassigned_answers",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("e164", sa.String(16), nullable=False),
        sa.Column("answer", sa.String(8), nullable=False),
        sa.Column("for_date", sa.String(10)),
        sa.Column("asked_at", TIME, nullable=False),
    )
    op.create_index(
        "ix_reassigned_answers_tenant_id_e164", "reassigned_answers", ["tenant_id", "e164"]
    )


def _tenant_policies() -> None:
    op.create_table(
        "tenant_policies",
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), primary_key=True),
        sa.Column("profile", JSON, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("updated_by", sa.String(64), nullable=False),
    )


def _chain_what_is_there() -> None:
    """Decisions of former versions become the first links, as `control.store.decisions` hashes them."""
    conn = op.get_bind()
    decisions = sa.table(
        "decisions",
        sa.column("id", sa.Integer()),
        sa.column("tenant_id", sa.String()),
        sa.column("call_id", sa.String()),
        sa.column("phase", sa.String()),
        sa.column("decision", JSON),
        sa.column("at", TIME),
        sa.column("seq", sa.BigInteger()),
        sa.column("prev_hash", sa.String()),
        sa.column("hash", sa.String()),
    )
    heads: dict[str, tuple[int, str]] = {}
    rows = conn.execute(sa.select(decisions).order_by(decisions.c.id)).mappings().all()
    for row in rows:
        seq, prev_hash = heads.get(row["tenant_id"], (0, "0" * 64))
        link = _link(row, seq + 1, prev_hash)
        heads[row["tenant_id"]] = (seq + 1, link)
        values = {"seq": seq + 1, "prev_hash": prev_hash, "hash": link}
        conn.execute(sa.update(decisions).where(decisions.c.id == row["id"]).values(**values))
    table = sa.table(
        "decision_heads",
        sa.column("tenant_id", sa.String()),
        sa.column("seq", sa.BigInteger()),
        sa.column("hash", sa.String()),
    )
    for tenant_id, (seq, link) in heads.items():
        conn.execute(sa.insert(table).values(tenant_id=tenant_id, seq=seq, hash=link))


def _link(row: Any, seq: int, prev_hash: str) -> str:
    at: datetime = row["at"]
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    content = {
        "tenant_id": row["tenant_id"],
        "seq": seq,
        "prev": prev_hash,
        "call_id": row["call_id"],
        "phase": row["phase"],
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "decision": row["decision"],
        "facts": None,
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
