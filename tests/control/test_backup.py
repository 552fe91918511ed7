"""`tandem backup` and `tandem restore`."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from bench.rig import open_rig
from control import cli
from control.backup import archive, database, service
from control.backup.archive import BackupError
from control.store import Store, calls, decisions
from control.store.records import CallRecord
from tests.control.test_doctor import configured

# PostgreSQL has its own: docs/several-machines.md.
pytestmark = pytest.mark.sqlite

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    """A store with a do-not-call file and a recording beside it."""
    made = configured(tmp_path, policy={"lists_dir": str(tmp_path / "lists")})
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.numbers").write_bytes(b"12345678")
    (tmp_path / "recordings" / "t").mkdir(parents=True)
    (tmp_path / "recordings" / "t" / "call.wav").write_bytes(b"RIFF")
    store = Store.open(made.store.url)
    store._write_now(rename, "before")
    store.close()
    return made


def rename(conn, name):
    conn.exec_driver_sql("UPDATE tenants SET name = ?", (name,))


def name_in(path):
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute("SELECT name FROM tenants").fetchone()[0]


def backed_up(settings, target, *, recordings=False):
    return service.back_up(settings, target, recordings=recordings, now=NOW, version="1")


def test_backup_into_a_folder_that_is_not_there_names_the_folder(settings, tmp_path):
    """Not the name of a working folder that nobody asked for."""
    with pytest.raises(BackupError, match=f"there is no folder {tmp_path / 'nope'}$"):
        backed_up(settings, tmp_path / "nope" / "b.tar")


def test_restore_brings_back_store_lists_and_recordings(settings, tmp_path):
    """What was written after the backup is gone, and kept aside."""
    manifest = backed_up(settings, tmp_path / "b.tar", recordings=True)
    assert set(manifest.files) == {"store", "lists/a.numbers", "recordings/t/call.wav"}
    assert (tmp_path / "b.tar").stat().st_mode & 0o077 == 0
    store = Store.open(settings.store.url)
    store._write_now(rename, "after")
    store.close()
    (tmp_path / "lists" / "a.numbers").unlink()
    (tmp_path / "recordings" / "t" / "call.wav").unlink()
    _, aside = service.restore(settings, tmp_path / "b.tar", now=NOW)
    assert name_in(tmp_path / "tandem.db") == "before"
    assert name_in(aside) == "after"
    assert (tmp_path / "lists" / "a.numbers").read_bytes() == b"12345678"
    assert (tmp_path / "recordings" / "t" / "call.wav").read_bytes() == b"RIFF"
    Store.open(settings.store.url).close()


def test_restore_onto_a_machine_without_a_store_makes_it(settings, tmp_path):
    """The usual case: the old machine is gone."""
    backed_up(settings, tmp_path / "b.tar")
    (tmp_path / "tandem.db").unlink()
    assert service.restore(settings, tmp_path / "b.tar", now=NOW)[1] is None
    assert name_in(tmp_path / "tandem.db") == "before"


def test_backup_while_somebody_writes_is_one_moment(settings, tmp_path):
    """Two rows that are always changed together are never seen apart."""
    path = tmp_path / "tandem.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE pair (a INTEGER, b INTEGER, filler BLOB)")
        conn.execute("INSERT INTO pair VALUES (0, 0, zeroblob(2000000))")
        conn.execute("CREATE TABLE other (b INTEGER)")
        conn.execute("INSERT INTO other VALUES (0)")
        conn.commit()
    done, begun = threading.Event(), threading.Event()

    def write():
        with closing(sqlite3.connect(path, timeout=10)) as conn:
            count = 0
            while not done.is_set():
                count += 1
                conn.execute("UPDATE pair SET a = ?", (count,))
                conn.execute("UPDATE other SET b = ?", (count,))
                conn.commit()
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(10)
        for number in range(5):
            backed_up(settings, tmp_path / f"{number}.tar")
    finally:
        done.set()
        writer.join()
    for number in range(5):
        with tarfile.open(tmp_path / f"{number}.tar") as tar:
            (tmp_path / "copy.db").write_bytes(tar.extractfile("store").read())
        with closing(sqlite3.connect(tmp_path / "copy.db")) as conn:
            assert (
                conn.execute("SELECT a FROM pair").fetchone()
                == conn.execute("SELECT b FROM other").fetchone()
            )


def test_restore_while_somebody_has_the_store_open_is_refused(settings, tmp_path):
    """An idle connection is enough."""
    backed_up(settings, tmp_path / "b.tar")
    store = Store.open(settings.store.url)
    store._read_now(lambda conn: None)
    with pytest.raises(BackupError, match="in use"):
        service.restore(settings, tmp_path / "b.tar", now=NOW)
    store.close()
    service.restore(settings, tmp_path / "b.tar", now=NOW)


async def test_backup_of_a_running_daemon_and_restore_after_it(tmp_path):
    """The commands themselves, beside a real daemon: one works, the other one refuses until it has stopped."""
    async with open_rig(tmp_path, agents={}) as rig:
        config, target = str(rig.daemon.config_path), str(tmp_path / "b.tar")
        assert cli.main(["backup", "--config", config, target]) == 0
        refused = subprocess.run(
            [sys.executable, "-m", "control", "restore", "--config", config, target],
            env=rig.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert "stop it first" in refused.stderr
        await rig.daemon.stop()
        assert cli.main(["restore", "--config", config, target]) == 0
        await rig.restart_daemon()


@pytest.mark.parametrize("harm", ["flip", "cut", "later", "foreign", "escape"])
def test_restore_of_a_file_that_is_not_good_changes_nothing(settings, tmp_path, harm):
    """Damaged, cut off, of a later version, of another database, or with a path that leads out."""
    path = tmp_path / "b.tar"
    backed_up(settings, path)
    content = path.read_bytes()
    harmed = {
        "flip": lambda: content.replace(b"before", b"beforf"),
        "cut": lambda: content[: len(content) // 2],
        "later": lambda: with_manifest(path, revision="9999"),
        "foreign": lambda: with_manifest(path, backend="postgresql"),
        "escape": lambda: with_manifest(
            path, files={"store/../../x": {"sha256": "", "size_bytes": 0}}
        ),
    }[harm]()
    assert harmed != content
    path.write_bytes(harmed)
    was = (tmp_path / "tandem.db").read_bytes()
    with pytest.raises(BackupError):
        service.restore(settings, path, now=NOW)
    assert (tmp_path / "tandem.db").read_bytes() == was
    assert not list(tmp_path.glob(".tandem-*"))


def with_manifest(path: Path, **changes):
    """The archive with another manifest."""
    with tarfile.open(path) as tar:
        text = tar.extractfile(archive.MANIFEST).read()
    new = json.dumps(json.loads(text) | changes).encode()
    padded = new + b" " * (len(text) - len(new))
    assert len(padded) == len(text)
    return path.read_bytes().replace(text, padded)


def test_backup_onto_a_file_that_is_there_is_refused(settings, tmp_path):
    """A backup is never overwritten."""
    (tmp_path / "b.tar").write_text("the only good one")
    with pytest.raises(BackupError, match="there already"):
        backed_up(settings, tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_text() == "the only good one"


def test_postgresql_without_its_programs_says_what_to_install(monkeypatch):
    """Not a traceback."""
    monkeypatch.setattr(database.shutil, "which", lambda _: None)
    with pytest.raises(BackupError, match="pg_dump is not installed"):
        database._run(["pg_dump"], load_url())


def load_url():
    return database.URL.create("postgresql+psycopg", "u", "secret", "127.0.0.1", 5432, "tandem")


def test_backup_of_postgresql_comes_back_whole(postgresql, tmp_path):
    """Over a socket that the URL's query names; rows of after the backup are gone, sequences go on, nothing is lost."""
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed")
    url = postgresql.empty_database()
    key = "A" * 43 + "="
    settings = configured(tmp_path, store={"url": url, "encryption_key": key})
    store = Store.open(url)

    def decide(conn, number):
        decisions.append(
            conn, f"call_{number}", "tnt_default", "dial", {"n": number}, NOW, {"a": 1}
        )

    def heads(conn):
        found = decisions.verify(conn)
        return found.flaws, found.rows, found.heads

    try:
        for number in range(5):
            store._write_now(decide, number)
        store._write_now(lambda conn: calls.insert(conn, CallRecord("call_1", "inbound", NOW)))
        before = store._read_now(heads)
        manifest = backed_up(settings, tmp_path / "b.tar")
        assert (manifest.backend, set(manifest.files)) == ("postgresql", {"store"})
        store._write_now(decide, 99)
        store._write_now(lambda conn: calls.update(conn, "call_1", summary="after"))
        store.close()
        assert service.restore(settings, tmp_path / "b.tar", now=NOW)[1] is None
        store = Store.open(url)
        assert store._read_now(heads) == before
        assert before[:2] == ([], 5)
        assert store._read_now(calls.get, "call_1").summary is None
        store._write_now(decide, 6)
        assert store._read_now(heads)[:2] == ([], 6)
    finally:
        store.close()
        postgresql.drop(url)


def test_address_for_postgresqls_programs_has_everything_but_the_password():
    """A list of processes shows it."""
    url = make_url("postgresql+psycopg://u:secret@db.example:5433/t?sslmode=require&password=other")
    address = database._address(url)
    assert address == "postgresql://u@db.example:5433/t?sslmode=require"
