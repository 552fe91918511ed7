"""What a line on stderr looks like for systemd's journal, and the lines of a media worker. Pure, but for one question.

Control's lines are made by `control.log`, with the same fields in front: `ts`, `level`, `event`. A worker has hardly
anything to log, and may have to when control is gone; its fields are ours, but for `error`, which quotes others.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""sd-daemon(3): `<N>` in front of a line is its priority; the journal takes it off."""
ERROR_MAX_CHARS = 300
_NUMBER = re.compile(r"(?:\+|%2[Bb])([1-9][0-9]{3})[0-9]+([0-9]{2})")
_TOKEN = re.compile(r"(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}")
"""Keys, tickets and tokens are long and have digits in them; names of classes have none."""


def goes_to_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether this is the stream that systemd has connected to the journal (JOURNAL_STREAM, systemd.exec(5))."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # it is closed, or none of the system's
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def prefixed(line: str, level: str) -> str:
    """The line with its priority."""
    return f"<{PRIORITIES.get(level, 6)}>{line}"


def worker_line(
    at_s: float, level: str, event: str, fields: Mapping[str, Any], *, as_text: bool
) -> str:
    """One line of a worker's; `at_s` is wall clock."""
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    line: dict[str, Any] = {
        "ts": at.replace("+00:00", "Z"),
        "level": level,
        "event": event,
        "process": "worker",
    }
    line |= fields
    if "error" in line:
        line["error"] = masked(str(line["error"]))
    if not as_text:
        return json.dumps(line)
    head = f"{line.pop('ts')} {line.pop('level').upper():7} {line.pop('event')}"
    return " ".join([head, *(f"{key}={json.dumps(value)}" for key, value in line.items())])


def masked(text: str) -> str:
    """The text without whole telephone numbers and without anything that may be a secret."""
    text = _NUMBER.sub(r"+\1•••••\2", text)
    return _TOKEN.sub("***", text)[:ERROR_MAX_CHARS]
