"""How a list of ten million numbers is looked up: a sorted memory map against an SQLite index, in one run.

    python -m bench.dnc_lookup [--numbers 10000000] [--lookups 20000] [--folder DIR]

Prints one line for each: time to build, size on disk, median and p99 of a look-up, and how much private memory the
process has got for it. Half of the look-ups are of numbers on the list. For the memory map it is the very class
that the policy uses.
"""

from __future__ import annotations

import argparse
import gc
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from control.compliance.number_file import NumberFile, write

SEED = 20261125


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--numbers", type=int, default=10_000_000)
    options.add_argument("--lookups", type=int, default=20_000)
    options.add_argument("--folder", type=Path, default=None)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for line in measure(Path(folder), given.numbers, given.lookups):
            print(line)


def measure(folder: Path, count: int, lookups: int) -> list[str]:
    """The lines of the report."""
    generator = np.random.default_rng(SEED)
    numbers = np.unique(generator.integers(12_010_000_000, 19_900_000_000, count, dtype=np.uint64))
    chosen = random.Random(SEED)
    half = [f"+{numbers[chosen.randrange(len(numbers))]}" for _ in range(lookups // 2)]
    half += [f"+{chosen.randrange(12_010_000_000, 19_900_000_000)}" for _ in range(lookups // 2)]
    chosen.shuffle(half)
    listed = {f"+{number}" for number in map(int, np.intersect1d(numbers, _as_array(half)))}
    lines = [
        _report("memory map", *_memory_map(folder, numbers), half, listed),
        _report("sqlite index", *_sqlite(folder, numbers), half, listed),
    ]
    while readers:
        readers.pop().close()
    return lines


def _as_array(numbers: list[str]) -> np.ndarray:
    return np.array([int(number[1:]) for number in numbers], dtype=np.uint64)


Built = tuple[float, int, Callable[[], Callable[[str], bool]]]


def _memory_map(folder: Path, numbers: np.ndarray) -> Built:
    begin = time.perf_counter()
    written = write(folder, numbers)
    took_s = time.perf_counter() - begin
    path = folder / written.file_name
    return took_s, path.stat().st_size, lambda: NumberFile(path).__contains__


readers: list[sqlite3.Connection] = []
"""Open connections; `measure` closes them."""


def _sqlite(folder: Path, numbers: np.ndarray) -> Built:
    path = folder / "numbers.db"
    begin = time.perf_counter()
    writer = sqlite3.connect(path)
    writer.execute("CREATE TABLE dnc (e164 INTEGER PRIMARY KEY) WITHOUT ROWID")
    with writer:
        writer.executemany("INSERT INTO dnc VALUES (?)", ((int(one),) for one in numbers))
    writer.close()
    took_s = time.perf_counter() - begin

    def opened() -> Callable[[str], bool]:
        reader = sqlite3.connect(path)
        readers.append(reader)

        def look(number: str) -> bool:
            row = reader.execute("SELECT 1 FROM dnc WHERE e164 = ?", (int(number[1:]),))
            return row.fetchone() is not None

        return look

    return took_s, path.stat().st_size, opened


def _report(
    name: str,
    built_s: float,
    size: int,
    opened: Callable[[], Callable[[str], bool]],
    lookups: list[str],
    listed: set[str],
) -> str:
    gc.collect()
    before = private_bytes()
    look = opened()
    times_ns = []
    for number in lookups:
        begin = time.perf_counter_ns()
        found = look(number)
        times_ns.append(time.perf_counter_ns() - begin)
        assert found == (number in listed), number
    times_ns.sort()
    median, p99 = times_ns[len(times_ns) // 2], times_ns[len(times_ns) * 99 // 100]
    more = private_bytes() - before
    return (
        f"{name:<13} built in {built_s:6.1f} s, {size / 1e6:6.1f} MB on disk; look-up median "
        f"{median / 1000:.1f} us, p99 {p99 / 1000:.1f} us; private memory +{more / 1e6:.1f} MB"
    )


def private_bytes() -> int:
    """Memory that is this process's own: what a mapped file's pages are not."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise OSError("no Private_Dirty in /proc/self/smaps_rollup")


if __name__ == "__main__":
    main()
