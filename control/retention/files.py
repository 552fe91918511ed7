"""Recordings on this machine's disk: hashed, deleted, and the deletion on the disk. Blocks: for threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from control.store.records import CallRecord

_BLOCK_BYTES = 1 << 20


def paths_of(record: CallRecord, folder: str) -> list[Path]:
    """The files of a call that are here: one for each agent leg, of which the record names the last."""
    named = (record.recording or {}).get("path")
    beside = Path(named).parent if named else Path(folder)
    found = [beside / f"{record.id}.wav", *sorted(beside.glob(f"{record.id}-*.wav"))]
    if named and Path(named) not in found:
        found.append(Path(named))
    return [path for path in found if path.is_file()]


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 (hex) by name. Raises OSError."""
    return {path.name: _digest(path) for path in paths}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def delete(paths: Iterable[Path]) -> None:
    """Gone also after a power cut when this returns. Raises OSError."""
    folders = set()
    for path in paths:
        path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
