"""A backup file: a tar whose last member, `manifest.json`, has the schema's revision and a hash of each other.

It appears under its name only when it is whole and on the disk, and only its owner reads it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_MAX_BYTES = 64 * 1024 * 1024
STORE = "store"
_BLOCK_BYTES = 1 << 20


class BackupError(Exception):
    """It cannot be done, or the file is not to be trusted; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the backup. `sha256` in hex."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in the backup. `made_at` is RFC 3339, `backend` `sqlite` or `postgresql`."""

    format: int
    made_at: str
    version: str
    backend: str
    revision: str
    files: dict[str, Entry]


def write(
    target: Path,
    sources: Iterable[tuple[str, Path]],
    *,
    made_at: str,
    version: str,
    backend: str,
    revision: str,
) -> Manifest:
    """The backup of `sources` (name in the archive, path). Raises BackupError, OSError."""
    if target.exists():
        raise BackupError(f"{target} is there already: name another file")
    part = target.with_name(target.name + ".part")
    files: dict[str, Entry] = {}
    try:
        with (
            os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw,
            tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, path in sources:
                files[name] = _add(tar, name, path)
            manifest = Manifest(FORMAT, made_at, version, backend, revision, files)
            text = json.dumps(asdict(manifest), indent=1, sort_keys=True).encode()
            member = tarfile.TarInfo(MANIFEST)
            member.size, member.mode = len(text), 0o600
            tar.addfile(member, io.BytesIO(text))
            tar.close()
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(part, target)
        sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)
    return manifest


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _add(tar: tarfile.TarFile, name: str, path: Path) -> Entry:
    with path.open("rb") as file:
        member = tarfile.TarInfo(name)
        # A file that still grows (a recording) is cut at the length it has now.
        member.size, member.mode = os.fstat(file.fileno()).st_size, 0o600
        hashed = _Hashed(file)
        tar.addfile(member, hashed)  # of a file, read(size) is all that is used
    return Entry(hashed.digest.hexdigest(), member.size)


def read_manifest(tar: tarfile.TarFile) -> Manifest:
    """Raises BackupError for a file that is none of ours, is cut off, or is of a later version."""
    try:
        member = tar.getmember(MANIFEST)
        file = tar.extractfile(member)
        if file is None or member.size > MANIFEST_MAX_BYTES:
            raise BackupError("its manifest is not a file")
        found = json.load(file)
        if found["format"] != FORMAT:
            raise BackupError(f"is of format {found['format']}: a later version has written it")
        entries = {name: Entry(**entry) for name, entry in found.pop("files").items()}
        manifest = Manifest(files=entries, **found)
    except (KeyError, TypeError, ValueError, tarfile.TarError) as error:
        raise BackupError(f"is cut off, or no backup of Tandem: {error}") from error
    for name in entries:
        parts = PurePosixPath(name).parts
        if parts[0] not in (STORE, "lists", "recordings") or ".." in parts:
            raise BackupError(f"names a file that a backup does not have: {name}")
    return manifest


def unpack(tar: tarfile.TarFile, manifest: Manifest, folder: Path) -> None:
    """All files into `folder`, each proven by its hash. Raises BackupError, OSError."""
    for name, entry in manifest.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = tar.extractfile(name)
        except KeyError:
            file = None
        if file is None:
            raise BackupError(f"{name} is missing")
        digest = hashlib.sha256()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != entry.sha256:
            raise BackupError(f"{name} is damaged: its hash is not the manifest's")


def place(unpacked: Path, folder: Path) -> int:
    """What was unpacked below `unpacked` goes to `folder`; same names are replaced. How many files."""
    count = 0
    for path in sorted(unpacked.rglob("*")) if unpacked.is_dir() else ():
        if path.is_file():
            target = folder / path.relative_to(unpacked)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            count += 1
    return count


def sync_folder(folder: Path) -> None:
    """A rename survives a power cut only when its folder is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
