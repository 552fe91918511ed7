"""Work that one daemon at a time does for all: who has it, until when."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from control.store.tables.nodes import leases


def take(conn: Connection, name: str, owner: str, now: datetime, until: datetime) -> bool:
    """This work is `owner`'s until then, or goes on being so; False while somebody else has it."""
    free = or_(leases.c.lease_until.is_(None), leases.c.lease_until <= now, leases.c.owner == owner)
    mine = update(leases).where(leases.c.name == name, free)
    if conn.execute(mine.values(owner=owner, lease_until=until)).rowcount > 0:
        return True
    if conn.execute(select(leases.c.name).where(leases.c.name == name)).first() is not None:
        return False
    try:
        with conn.begin_nested():
            conn.execute(insert(leases).values(name=name, owner=owner, lease_until=until))
    except IntegrityError:
        return False  # another daemon was first
    return True


def give_back(conn: Connection, name: str, owner: str) -> None:
    """Others may have it at once."""
    mine = (leases.c.name == name) & (leases.c.owner == owner)
    conn.execute(update(leases).where(mine).values(owner=None, lease_until=None))
