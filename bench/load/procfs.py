"""CPU time and memory of a tree of processes, read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: user and system seconds since its start."""

    pid: int
    command: str
    user_s: float
    system_s: float


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (fields := _stat(int(entry))) is not None:
            parents[int(entry)] = int(fields[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def usage(pids: list[int]) -> dict[int, Usage]:
    """Of those that still exist."""
    found = {}
    for pid in pids:
        fields = _stat(pid)
        if fields is not None:
            user_s, system_s = (int(field) / TICKS_PER_S for field in fields[11:13])
            found[pid] = Usage(pid, command(pid), user_s, system_s)
    return found


def command(pid: int) -> str:
    """The command line, blanks between arguments; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def pss_kib(pid: int) -> int:
    """Proportional set size of anonymous memory in KiB. 0 when it cannot be read.

    Of mapped files no call needs more, but their share changes whenever another Python starts or ends.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Pss")}
    return sizes.get("Pss_Anon", sizes.get("Pss", 0)) + sizes.get("Pss_Shmem", 0)


def rss_kib(pid: int) -> int:
    """Resident memory in KiB, mapped files among it. 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def descriptors(pid: int) -> list[str]:
    """What each open descriptor is (`socket`, `pipe`, a path, …), sorted. Empty when the process is gone."""
    found = []
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(entry.path).partition(":[")[0])
            except OSError:
                continue  # closed meanwhile
    except OSError:
        return []
    return sorted(found)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/pid/stat behind the name: state, parent, …; user and system time are 11, 12."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def cores() -> dict[int, tuple[float, float]]:
    """Busy and stolen seconds of each core since the machine began."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _, _, irq, soft, steal = (int(tick) for tick in ticks[:8])
            busy = user + nice + system + irq + soft
            found[int(name[3:])] = (busy / TICKS_PER_S, steal / TICKS_PER_S)
    return found
