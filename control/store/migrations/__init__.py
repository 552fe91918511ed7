"""Schema migrations, run by the program itself when it opens its store.

The scripts are Alembic's; there is no alembic.ini, because the daemon needs no command line for this.
History is written by hand and never imports `tables`, so that it stays what it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from control.store.errors import StoreIncompatible


def upgrade(conn: Connection) -> None:
    """Bring the schema up to date inside the connection's transaction.

    Raises StoreIncompatible when the database is at a revision that this version does not know.
    """
    config = _config(conn)
    scripts = ScriptDirectory.from_config(config)
    heads = set(MigrationContext.configure(conn).get_current_heads())
    if heads == set(scripts.get_heads()):
        return  # the usual start: Alembic would read and run all scripts' modules once more
    unknown = heads - {script.revision for script in scripts.walk_revisions()}
    if unknown:
        raise StoreIncompatible(
            f"the store is at revision {sorted(unknown)[0]}, which this version does not know: "
            "it was written by a later version"
        )
    command.upgrade(config, "head")


def _config(conn: Connection | None) -> Config:
    config = Config()
    # The option is read with %-interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config


def known() -> frozenset[str]:
    """Every revision that this version can read."""
    scripts = ScriptDirectory.from_config(_config(None))
    return frozenset(script.revision for script in scripts.walk_revisions())


def newest() -> str:
    """The revision that this version writes."""
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert head is not None  # there is always the first one
    return head


def revision(conn: Connection) -> str | None:
    """The revision that the database is at; None when it has no tables yet."""
    heads = MigrationContext.configure(conn).get_current_heads()
    return str(heads[0]) if heads else None
