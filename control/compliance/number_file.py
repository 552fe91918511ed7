"""A list of millions of numbers as one sorted file of 64-bit integers, mapped into memory.

Why not rows of the store: `docs/adr/0007-do-not-call-lists.md`. A look-up is a binary search that touches some
two dozen pages; the file's pages are the kernel's cache and not our memory. A file is named after its content
and never changed, so a list is swapped by naming another file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

SUFFIX = ".numbers"
_HASH_BLOCK_BYTES = 1 << 20


class ListUnreadable(Exception):
    """The file is not there, or it is not what its name says."""


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file."""

    file_name: str
    sha256: str
    entries: int


class NumberFile:
    """An open list. Thread-safe: it is only read."""

    def __init__(self, path: Path) -> None:
        """Raises ListUnreadable."""
        try:
            size = path.stat().st_size
            if size % 8:
                raise ListUnreadable(f"{path.name}: is cut off")
            self._numbers = (
                np.memmap(path, dtype="<u8", mode="r") if size else np.empty(0, dtype="<u8")
            )
        except OSError as error:
            raise ListUnreadable(f"{path.name}: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, e164: str) -> bool:
        number = np.uint64(int(e164[1:]))
        place = int(self._numbers.searchsorted(number))
        return place < len(self._numbers) and bool(self._numbers[place] == number)


def write(folder: Path, numbers: Iterable[int] | np.ndarray) -> Written:
    """Sort, drop repeats, and put the file into `folder` under the name of its content. Blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    array = np.fromiter(numbers, dtype="<u8") if not isinstance(numbers, np.ndarray) else numbers
    array = np.unique(array.astype("<u8", copy=False))
    with NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False) as part:
        try:
            array.tofile(part)
            part.flush()
            os.fsync(part.fileno())
            sha256 = _sha256(Path(part.name))
            os.chmod(part.name, 0o640)
            target = folder / f"{sha256[:32]}{SUFFIX}"
            os.replace(part.name, target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    return Written(target.name, sha256, len(array))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class Shelf:
    """The open files of a folder, each opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, NumberFile] = {}

    def file(self, file_name: str) -> NumberFile:
        """Raises ListUnreadable."""
        found = self._open.get(file_name)
        if found is None:
            found = self._open[file_name] = NumberFile(self.folder / Path(file_name).name)
        return found

    def keep_only(self, file_names: Iterable[str]) -> None:
        """Close what is no list any more; a look-up under way keeps its own until it is done."""
        wanted = set(file_names)
        self._open = {name: file for name, file in self._open.items() if name in wanted}
