"""Daemons that share the database: a lease each, whose a call is, and messages from one to another.

`calls.node` names the daemon that carries a call. While its lease lasts nobody else touches the call, except
where Twilio asks another daemon how the call goes on: then the call is that one's (`claim`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, update

from control.store import calls as call_table
from control.store.prepared import Prepared, PreparedWrite
from control.store.records import CallRecord
from control.store.tables import calls
from control.store.tables.nodes import node_messages, nodes

MESSAGES_AT_ONCE = 200


class Message(NamedTuple):
    """What another daemon was told that concerns a call of this one.

    `what` is a callback of Twilio's (`status`, `amd`, `stream`, `leg`, `recorded`, with its `form`), `hang_up` or
    `transfer` (asked for over the API), `opted_out`, `let_go`: another daemon has the call, or `take_over`: it is this one's now.
    """

    call_id: str
    what: str
    form: dict[str, str]


class Share(NamedTuple):
    """What a daemon has of the agent conversations that all may have: `mine` of `most`."""

    node: str
    mine: int
    most: int


def beat(
    conn: Connection,
    name: str,
    until: datetime,
    conversations: int = 0,
    heard_until: datetime | None = None,
) -> None:
    """A sign of life, how many agent conversations this daemon has, and until when it has heard everything: None
    leaves that as it was."""
    values: dict[str, Any] = {"lease_until": until, "conversations": conversations}
    if heard_until is not None:
        values["heard_until"] = heard_until
    done = conn.execute(update(nodes).where(nodes.c.name == name).values(values))
    if done.rowcount == 0:  # here for the first time: there is nothing to look back to
        conn.execute(insert(nodes).values({"heard_until": until} | values | {"name": name}))


def heard_until(conn: Connection, name: str) -> datetime | None:
    """Until when this daemon, or a former process of it, has heard everything; None: nobody knows."""
    return conn.execute(select(nodes.c.heard_until).where(nodes.c.name == name)).scalar()


def free_conversations(conn: Connection, share: Share, now: datetime) -> int:
    """How many of `share.most` nobody has. Other daemons wait with this question until the transaction ends."""
    # Every row, in one order: whoever asks on PostgreSQL holds them all. SQLite has one writer.
    found = conn.execute(select(nodes).order_by(nodes.c.name).with_for_update()).all()
    others = sum(
        row.conversations for row in found if row.name != share.node and row.lease_until > now
    )
    return share.most - share.mine - int(others)


def have_conversations(conn: Connection, share: Share, more: int) -> None:
    """`more` than before are this daemon's."""
    mine = nodes.c.name == share.node
    conn.execute(update(nodes).where(mine).values(conversations=share.mine + more))


def take_conversation(conn: Connection, share: Share, now: datetime) -> bool:
    """One more for this daemon; False when there is none left."""
    if free_conversations(conn, share, now) < 1:
        return False
    have_conversations(conn, share, 1)
    return True


def leave(conn: Connection, name: str) -> None:
    """The daemon has ended in order."""
    conn.execute(delete(nodes).where(nodes.c.name == name))


def is_alive(conn: Connection, name: str | None, now: datetime) -> bool:
    """Whether this daemon's lease lasts."""
    if name is None:
        return False
    mine = (nodes.c.name == name) & (nodes.c.lease_until > now)
    return conn.execute(select(nodes.c.name).where(mine)).scalar() is not None


def claim(conn: Connection, record: CallRecord, node: str) -> bool:
    """The call is `node`'s now, unless it has ended or gone to another since `record` was read."""
    asked = {"call_id": record.id, "heir": node}
    if record.node is None:
        return _CLAIM_NOBODYS.run(conn, asked) > 0
    return _CLAIM.run(conn, asked | {"seen": record.node}) > 0


_OPEN = (calls.c.id == bindparam("call_id"), calls.c.ended_at.is_(None))
_CLAIM, _CLAIM_NOBODYS = (
    PreparedWrite(update(calls).where(*_OPEN, seen).values(node=bindparam("heir")))
    for seen in (calls.c.node == bindparam("seen"), calls.c.node.is_(None))
)


def give(conn: Connection, *, call_id: str, node: str, heir: str, now: datetime) -> None:
    """An open call of `node`'s is `heir`'s from now on, who is told; nothing happens if it is not `node`'s any more."""
    record = call_table.get(conn, call_id)
    if record is not None and record.node == node and claim(conn, record, heir):
        tell(conn, heir, record, "take_over", {}, now)


def is_mine(conn: Connection, call_id: str, node: str) -> bool:
    """Whether the call is open and still `node`'s."""
    mine = (calls.c.id == call_id, calls.c.ended_at.is_(None), calls.c.node == node)
    return conn.execute(select(calls.c.id).where(*mine)).scalar() is not None


def of_others(conn: Connection, call_ids: Collection[str], node: str) -> set[str]:
    """Those of these calls that another daemon has claimed; nobody claims the rest before this transaction ends."""
    if len(call_ids) == 1:
        found: Sequence[Any] = _WHOSE.all(conn, {"call_id": next(iter(call_ids))})
    else:
        found = conn.execute(_WHOSE_ALL, {"call_ids": list(call_ids)}).all()
    return {call_id for call_id, whose in found if whose not in (None, node)}


_ID_AND_NODE = select(calls.c.id, calls.c.node).with_for_update()
_WHOSE = Prepared(_ID_AND_NODE.where(calls.c.id == bindparam("call_id")))
_WHOSE_ALL = _ID_AND_NODE.where(calls.c.id.in_(bindparam("call_ids", expanding=True)))


def inherit(conn: Connection, node: str, now: datetime, *, own: bool) -> list[CallRecord]:
    """Open calls of daemons that are no more, claimed for `node`; with `own` also those of its own past.

    Not those in the dial queue, which has leases of its own.
    """
    alive = select(nodes.c.name).where(nodes.c.lease_until > now)
    # Asked for by the store: a thousand open calls of one's own are not read every few seconds.
    is_left = and_(calls.c.node != node, calls.c.node.not_in(alive))
    if own:
        is_left = or_(is_left, calls.c.node == node, calls.c.node.is_(None))
    return [
        record
        for record in call_table.open_calls(conn, is_left)
        if record.node == node or claim(conn, record, node)
    ]


def tell(
    conn: Connection, node: str, record: CallRecord, what: str, form: dict[str, str], at: datetime
) -> None:
    """Leave a message for another daemon."""
    values: dict[str, Any] = {"node": node, "call_id": record.id, "what": what, "form": form}
    conn.execute(insert(node_messages).values(tenant_id=record.tenant_id, at=at, **values))


def is_anything_told(conn: Connection, node: str) -> bool:
    """Whether `listen` would find something."""
    return _TOLD.first(conn, {"node": node}) is not None


_TOLD = Prepared(
    select(node_messages.c.id).where(node_messages.c.node == bindparam("node")).limit(1)
)


def listen(conn: Connection, node: str) -> list[Message]:
    """The messages for a daemon, in order; they are gone afterwards."""
    m = node_messages
    statement = select(m.c.id, m.c.call_id, m.c.what, m.c.form).where(m.c.node == node)
    found = conn.execute(statement.order_by(m.c.id).limit(MESSAGES_AT_ONCE)).all()
    if found:
        conn.execute(delete(m).where(m.c.id.in_([row.id for row in found])))
    return [Message(row.call_id, row.what, dict(row.form)) for row in found]


def purge(conn: Connection, before: datetime) -> None:
    """Forget daemons that never came back, and what nobody has read."""
    conn.execute(delete(node_messages).where(node_messages.c.at < before))
    conn.execute(delete(nodes).where(nodes.c.lease_until < before))


def take_over(conn: Connection, record: CallRecord, node: str, now: datetime) -> bool:
    """Twilio has asked this daemon how the call goes on: it is its own now, and the former is told."""
    if record.node == node:
        return True
    if not claim(conn, record, node):
        return False
    if record.node is not None and is_alive(conn, record.node, now):
        tell(conn, record.node, record, "let_go", {}, now)
    return True
