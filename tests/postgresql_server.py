"""A throw-away PostgreSQL server: own folder, Unix socket only, nothing of it survives the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import sleep

import psycopg
from psycopg import sql

START_TRIES, TRY_EVERY_S = 600, 0.1
# Tests lose no data when the machine does.
_FAST = ("fsync=off", "full_page_writes=off", "max_connections=150")

_OTHERS_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# Not TRUNCATE: it makes new files, which costs half a second where the schema has forty tables.
_ROWS_OFF = """
DO $$ DECLARE one record; BEGIN
  SET LOCAL session_replication_role = replica;
  FOR one IN SELECT tablename AS name FROM pg_tables
    WHERE schemaname = 'public' AND tablename <> 'alembic_version'
  LOOP EXECUTE format('DELETE FROM %I', one.name); END LOOP;
  FOR one IN SELECT sequencename AS name FROM pg_sequences WHERE schemaname = 'public'
  LOOP PERFORM setval(quote_ident(one.name)::regclass, 1, false); END LOOP;
END $$
"""


class NoPostgresql(Exception):
    """There is no server to be had; the text says what was looked for."""


def binaries() -> Path:
    """The folder of `initdb` and `postgres`. Raises NoPostgresql."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _number(path))
    named = os.environ.get("TANDEM_POSTGRESQL_BIN")
    found = shutil.which("initdb")
    for folder in (
        [Path(named)] if named else [*reversed(debian), *([Path(found).parent] if found else [])]
    ):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoPostgresql(
        "no PostgreSQL server: neither in TANDEM_POSTGRESQL_BIN, /usr/lib/postgresql nor PATH"
    )


def _number(path: Path) -> int:
    return int(path.parent.name) if path.parent.name.isdigit() else 0


@dataclass
class PostgresqlServer:
    """Runs from `start` to `stop`; may be stopped and started again on the same data."""

    folder: Path
    bin: Path
    user: str | None
    port: int = 5432
    process: subprocess.Popen[bytes] | None = None
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _clean: list[str] = field(default_factory=list)

    @classmethod
    def create(cls) -> PostgresqlServer:
        """A new cluster. Raises NoPostgresql."""
        found = binaries()
        user = None
        if os.geteuid() == 0:  # the server refuses to be root
            for name in ("postgres", "nobody"):
                try:
                    pwd.getpwnam(name)
                except KeyError:
                    continue
                user = name
                break
            else:
                raise NoPostgresql("PostgreSQL does not run as root, and there is no other user")
        # Not pytest's folder: its path is long for a socket, and closed to other users.
        folder = Path(tempfile.mkdtemp(prefix="tandem-pg-"))
        if user is not None:
            shutil.chown(folder, user)
        server = cls(folder, found, user)
        command = [found / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-N"]
        command += ["-E", "UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(
            command, capture_output=True, text=True, check=False, **server._as_user()
        )
        if made.returncode:
            shutil.rmtree(folder)
            raise NoPostgresql(f"initdb failed: {made.stderr[-500:]}")
        return server

    def _as_user(self) -> dict:
        who = (
            {}
            if self.user is None
            else {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}
        )
        return {"cwd": self.folder, **who}

    def start(self) -> None:
        """Returns when it takes connections."""
        options = [word for setting in _FAST for word in ("-c", setting)]
        command = [self.bin / "postgres", "-D", self.folder / "data", "-k", self.folder, "-h", ""]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as_user(),
            )
        for tries_left in reversed(range(START_TRIES)):
            try:
                self._administrator().close()
            except psycopg.OperationalError as error:
                if self.process.poll() is not None or not tries_left:
                    log_text = (self.folder / "server.log").read_text(errors="replace")
                    raise NoPostgresql(f"the server does not start: {log_text[-800:]}") from error
                sleep(TRY_EVERY_S)
            else:
                return

    def stop(self) -> None:
        """At once: clients are cut off, as by a failover."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url_of(self, database: str) -> str:
        """A store URL."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def empty_database(self) -> str:
        """The URL of a new database without any table."""
        name = f"tandem_{os.getpid()}_{next(self._numbers)}"
        self._execute("CREATE DATABASE {} TEMPLATE template0", name)
        return self.url_of(name)

    def database(self) -> str:
        """The URL of a database with the present schema and without rows, to be given to `give_back`."""
        if self._clean:
            return self._clean.pop()
        from control.store import Store

        url = self.empty_database()
        Store.open(url).close()
        self._wipe(url)
        return url

    def give_back(self, url: str) -> None:
        """The test is over: what it wrote goes, and the next one gets the database."""
        self._wipe(url)
        self._clean.append(url)

    def _wipe(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True, options="-c lock_timeout=10s") as conn:
            conn.execute(_OTHERS_OFF)
            conn.execute(_ROWS_OFF)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected."""
        name = url.split("@/", 1)[1].split("?", 1)[0]
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: str, *names: str) -> None:
        with self._administrator() as conn:
            conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _administrator(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user="postgres",
            dbname="postgres",
            autocommit=True,
        )


def is_required(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a missing server is a failure: where the continuous integration has installed one."""
    return environment.get("TANDEM_REQUIRE_POSTGRESQL") == "1"
