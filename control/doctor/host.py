"""This machine: folders, disk, zone data, the compiled lane, systemd."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import tzdata
from sqlalchemy.engine import make_url

from control.config import Settings
from control.doctor.values import Finding, fail, ok, warn

DISK_FAIL_BYTES = 100 * 1024**2
DISK_WARN_BYTES = 1024**3
SYSTEMCTL_TIMEOUT_S = 5.0
ZONES_STALE_MONTH = 4
"""A year's first rules are published by then; older data than that misses them."""


def folders(settings: Settings) -> Iterator[Finding]:
    """Where the store and the recordings are: there, writable, room left."""
    url = make_url(settings.store.url)
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        yield from _folder("disk of the store", Path(url.database).absolute().parent)
    if settings.media.recording_dir:
        yield from _folder("disk of recordings", Path(settings.media.recording_dir).absolute())


def _folder(check: str, folder: Path) -> Iterator[Finding]:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent  # what does not exist yet is made in the nearest folder that does
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".tandem-doctor-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        yield fail(
            check, f"{there} cannot be written: {error.strerror}", "give it to the daemon's user"
        )
        return
    free = shutil.disk_usage(there).free
    text = f"{folder} is writable, {free / 1024**3:.1f} GiB free"
    if free < DISK_FAIL_BYTES:
        yield fail(check, text, "make room: without it no call is recorded, then none is made")
    elif free < DISK_WARN_BYTES:
        yield warn(check, text, "make room soon")
    else:
        yield ok(check, text)


def zones(now: datetime) -> Finding:
    """How old the rules of time zones are; calling hours depend on them."""
    version = str(tzdata.IANA_VERSION)
    year = int(version[:4])
    oldest = now.year if now.month >= ZONES_STALE_MONTH else now.year - 1
    if year < oldest:
        return warn("time zones", f"tzdata {version}", "update the package tzdata, or Tandem")
    return ok("time zones", f"tzdata {version}")


def compiled_lane(module: str = "gateway._express") -> Finding:
    """Whether usual audio crosses in compiled code."""
    if importlib.util.find_spec(module) is None:
        return warn(
            "compiled lane",
            "is not built: everything works, a core carries fewer calls",
            "install with a C compiler at hand, or use the binary",
        )
    return ok("compiled lane", "is there")


def supervised(unit: str = "tandem.service") -> Finding:
    """Whether systemd runs it and watches over it."""
    check = "systemd"
    advice = "install systemd/tandem.service, or have something else restart it"
    try:
        shown = subprocess.run(
            ["systemctl", "show", unit, "--property=LoadState,ActiveState,WatchdogUSec"],
            capture_output=True,
            text=True,
            timeout=SYSTEMCTL_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return warn(check, "there is no systemd to ask", advice)
    return judged(dict(line.split("=", 1) for line in shown.splitlines() if "=" in line), advice)


def judged(shown: dict[str, str], advice: str) -> Finding:
    """What `systemctl show` says of the unit."""
    check = "systemd"
    if shown.get("LoadState") != "loaded":
        return warn(check, "there is no unit for Tandem", advice)
    if shown.get("WatchdogUSec", "0") in ("0", "", "infinity"):
        return warn(check, "the unit has no watchdog", "set WatchdogSec= as the shipped unit does")
    state = shown.get("ActiveState", "unknown")
    text = f"the unit is {state}, watchdog {shown['WatchdogUSec']}"
    if state != "active":
        return warn(check, text, "systemctl start tandem; journalctl -u tandem says why it is not")
    return ok(check, text)
