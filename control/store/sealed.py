"""Every column that holds a secret sealed by `control.vault`, and sealing them anew under a new key."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Column, Connection, select, update

from control.store.tables.after_call import webhooks
from control.store.tables.tenancy import tenant_credentials

SEALED: tuple[Column[str], ...] = (tenant_credentials.c.sealed, webhooks.c.secret)
"""A table that is to hold a sealed secret names its column here, and nothing else has to be done."""


def reseal(conn: Connection, resealed: Callable[[str], str | None]) -> int:
    """Seal everything under the newest key; how many values were not. What `resealed` raises passes through.

    `resealed`: `control.vault.Vault.resealed`.
    """
    changed = 0
    for column in SEALED:
        for (old,) in conn.execute(select(column).where(column.is_not(None))).all():
            new = resealed(old)
            if new is not None:
                conn.execute(update(column.table).where(column == old).values({column: new}))
                changed += 1
    return changed
