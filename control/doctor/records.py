"""The store as it is: reachable, of which revision, and whose numbers are in it. Nothing is migrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, exc, inspect, select
from sqlalchemy.engine import make_url

from control.doctor.values import Finding, fail, ok, warn
from control.store import engine as engines
from control.store import migrations
from control.store.numbers import ACTIVE
from control.store.tables.core import tenants
from control.store.tables.numbers import numbers

TIMEOUT_MS = 4_000
NUMBERS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class OwnNumber:
    """An active number, and the subaccount it is in; None is the main account."""

    e164: str
    account_sid: str | None


@dataclass(frozen=True, slots=True)
class Looked:
    finding: Finding
    numbers: tuple[OwnNumber, ...] = ()


def look(store_url: str) -> Looked:
    """Blocks. Raises nothing."""
    url = make_url(store_url)
    is_sqlite = url.get_backend_name() == "sqlite"
    if engines.is_memory(url):
        return Looked(warn("store", "is kept in memory", "set store.url: a restart forgets all"))
    if is_sqlite and not Path(url.database or "").exists():
        return Looked(warn("store", f"{url.database} is not there yet", "tandem serve makes it"))
    try:
        engine = engines.create(store_url, busy_timeout_ms=TIMEOUT_MS, pool_size=1)
        try:
            with engine.connect() as conn, conn.begin():
                return _looked(conn)
        finally:
            engine.dispose()
    except (exc.SQLAlchemyError, ImportError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        text = f"cannot be used: {type(cause).__name__}: {cause}"
        return Looked(fail("store", text, "look at store.url and the database's own log"))


def _looked(conn: Connection) -> Looked:
    current, newest = migrations.revision(conn), migrations.newest()
    if current is None:
        return Looked(warn("store", "is empty", "tandem serve makes the tables"))
    if current not in migrations.known():
        text = f"is at revision {current}, this version knows {newest}"
        return Looked(fail("store", text, "install the version that wrote it, or a later one"))
    if not inspect(conn).has_table(numbers.name):
        return Looked(
            warn("store", f"is at revision {current}", "tandem serve brings it up to date")
        )
    query = (
        select(numbers.c.e164, tenants.c.account_sid)
        .join(tenants, tenants.c.id == numbers.c.tenant_id)
        .where(numbers.c.status == ACTIVE, numbers.c.e164.is_not(None))
        .order_by(numbers.c.e164)
        .limit(NUMBERS_MAX)
    )
    found = tuple(OwnNumber(row.e164, row.account_sid) for row in conn.execute(query))
    if current != newest:
        text = f"is at revision {current}, this version writes {newest}"
        return Looked(warn("store", text, "tandem serve brings it up to date"), found)
    return Looked(ok("store", f"answers, revision {current}, {len(found)} numbers"), found)
