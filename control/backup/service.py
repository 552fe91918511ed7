"""The two commands. Neither needs a daemon; `restore` refuses while one runs."""

from __future__ import annotations

import socket
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import make_url

from control.backup import archive, database
from control.backup.archive import BackupError, Manifest
from control.compliance.number_file import SUFFIX
from control.config import Settings
from control.store import migrations

ASK_TIMEOUT_S = 2.0


def back_up(
    settings: Settings, target: Path, *, recordings: bool, now: datetime, version: str
) -> Manifest:
    """Store, do-not-call files and maybe recordings into `target`. Raises BackupError, OSError."""
    url = make_url(settings.store.url)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise BackupError("store.url: a database in memory has no backup")
    if not target.absolute().parent.is_dir():
        raise BackupError(f"{target}: there is no folder {target.absolute().parent}")
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".tandem-") as work:
        copied = Path(work) / "store"
        # The database first: a file that it names is written before its row, and never changed.
        revision = database.copy(url, copied)
        sources = [
            (archive.STORE, copied),
            *_below("lists", Path(settings.policy.lists_dir), SUFFIX),
        ]
        if recordings and settings.media.recording_dir:
            sources += _below("recordings", Path(settings.media.recording_dir), "")
        return archive.write(
            target.absolute(),
            sources,
            made_at=now.isoformat(),
            version=version,
            backend=url.get_backend_name(),
            revision=revision,
        )


def _below(name: str, folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob(f"*{suffix}")) if folder.is_dir() else ():
        if path.is_file():
            yield f"{name}/{path.relative_to(folder).as_posix()}", path


def restore(settings: Settings, source: Path, *, now: datetime) -> tuple[Manifest, Path | None]:
    """The backup becomes the store of the configuration; where the former database was put.

    Nothing is touched before every hash, the database itself and its revision were found good.
    Raises BackupError, OSError.
    """
    url = make_url(settings.store.url)
    _refuse_running(settings)
    is_sqlite = url.get_backend_name() == "sqlite"
    beside = Path(url.database or "").absolute().parent if is_sqlite else Path.cwd()
    try:
        with (
            tarfile.open(source, "r:") as tar,
            tempfile.TemporaryDirectory(dir=beside, prefix=".tandem-") as work,
        ):
            folder = Path(work)
            manifest = archive.read_manifest(tar)
            _refuse_foreign(manifest, url.get_backend_name())
            archive.unpack(tar, manifest, folder)
            copied = folder / archive.STORE
            if is_sqlite and database.check(copied) != manifest.revision:
                raise BackupError("the database is not of the revision that the manifest says")
            database.refuse_in_use(url)
            archive.place(folder / "lists", Path(settings.policy.lists_dir))
            archive.place(folder / "recordings", Path(settings.media.recording_dir))
            aside = database.put(url, copied, f".before-{now:%Y%m%dT%H%M%SZ}")
    except tarfile.TarError as error:
        raise BackupError(f"{source} is cut off, or no backup of Tandem: {error}") from error
    return manifest, aside


def _refuse_foreign(manifest: Manifest, backend: str) -> None:
    if manifest.revision not in migrations.known():
        raise BackupError(
            f"is of schema revision {manifest.revision}, which this version does not know: "
            "install the version that wrote it, or a later one"
        )
    if manifest.backend != backend:
        raise BackupError(f"is of {manifest.backend}, the store of the configuration is {backend}")
    if archive.STORE not in manifest.files:
        raise BackupError("has no database in it")


def _refuse_running(settings: Settings) -> None:
    """Also where the store is PostgreSQL and tells nothing of who uses it."""
    listen = settings.control.listen
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    try:
        socket.create_connection((at, listen.port), timeout=ASK_TIMEOUT_S).close()
    except OSError:
        return
    raise BackupError(f"a daemon runs on {listen}: stop it first")
