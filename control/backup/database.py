"""A consistent copy of the database while a daemon writes to it, and the way back.

SQLite: its online backup, one snapshot. PostgreSQL: `pg_dump` and `pg_restore`, which have to be installed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, exc
from sqlalchemy.engine import URL

from control.backup.archive import BackupError, sync_folder
from control.store import migrations

BUSY_TIMEOUT_S = 5.0
DUMP_TIMEOUT_S = 6 * 3600.0


def copy(url: URL, target: Path) -> str:
    """Write the copy to `target`; the schema's revision. Raises BackupError."""
    if url.get_backend_name() != "sqlite":
        revision = _revision(url)
        command = ["pg_dump", "--format=custom", "--no-owner", f"--file={target}"]
        _run([*command, f"--dbname={_address(url)}"], url)
        return revision
    source = Path(url.database or "")
    if not source.is_file():
        raise BackupError(f"store.url: there is no database {source}")
    try:
        with (
            closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_S)) as origin,
            closing(sqlite3.connect(target)) as copied,
        ):
            # All pages in one step: one snapshot, however much is written meanwhile (WAL lets them write).
            origin.backup(copied, pages=-1)
            copied.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise BackupError(f"{source} cannot be copied: {error}") from error
    return check(target)


def check(path: Path) -> str:
    """The revision of a SQLite file that is whole. Raises BackupError."""
    try:
        with closing(sqlite3.connect(path)) as conn:
            verdict = conn.execute("PRAGMA integrity_check").fetchone()[0]
            if verdict != "ok":
                raise BackupError(f"the database is damaged: {verdict}")
            row = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"is no database of Tandem: {error}") from error
    if row is None:
        raise BackupError("the database has no tables yet")
    return str(row[0])


def refuse_in_use(url: URL) -> None:
    """Raises BackupError while anybody has the SQLite database open."""
    path = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=0)) as conn:
            # SQLite leaves WAL only for the one connection that is left; an idle one holds it up too.
            conn.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        raise BackupError(f"{path} is in use: stop the daemon first ({error})") from error
    except sqlite3.DatabaseError:
        return  # garbage: nobody uses it, and it is kept aside


def put(url: URL, copied: Path, aside_suffix: str) -> Path | None:
    """Make `copied` the database; where the former one was put. Raises BackupError, OSError."""
    if url.get_backend_name() != "sqlite":
        command = ["pg_restore", "--clean", "--if-exists", "--no-owner", "--single-transaction"]
        _run([*command, f"--dbname={_address(url)}", str(copied)], url)
        return None
    target = Path(url.database or "").absolute()
    aside = None
    if target.exists():
        aside = target.with_name(target.name + aside_suffix)
        os.link(target, aside)
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    os.replace(copied, target)
    sync_folder(target.parent)
    return aside


def _revision(url: URL) -> str:
    try:
        engine = create_engine(url, hide_parameters=True)
        try:
            with engine.connect() as conn:
                found = migrations.revision(conn)
        finally:
            engine.dispose()
    except (exc.SQLAlchemyError, ImportError) as error:
        raise BackupError(f"store.url: {type(error).__name__}: {error}") from error
    if found is None:
        raise BackupError("the database has no tables yet")
    return found


def _address(url: URL) -> str:
    """The URL as PostgreSQL's own programs read it, with socket folder, sslmode and whatever else; no password."""
    plain = URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    )
    return plain.difference_update_query(["password"]).render_as_string(hide_password=False)


def _run(command: list[str], url: URL) -> None:
    """One of PostgreSQL's programs. The password is in its environment, where `ps` does not show it."""
    if shutil.which(command[0]) is None:
        raise BackupError(f"{command[0]} is not installed: install PostgreSQL's client programs")
    password = url.password or url.query.get("password")
    environment = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    try:
        subprocess.run(
            command,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=DUMP_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        raise BackupError(f"{command[0]}: {error.stderr.strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupError(f"{command[0]}: {error}") from error
