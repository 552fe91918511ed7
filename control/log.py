"""One event, one line, on stderr: JSON or text, secrets and telephone numbers masked.

`event("call_answered", call_id=…, worker="w1")` is for our own; what third parties say through `logging`
goes through the same formatter. Nothing here raises: a line that cannot be written is counted and lost.

Third parties speak from WARNING on (INFO when the level is debug): httpx and the Twilio client would
otherwise log a line for every request. Give libraries that bring handlers of their own a plain
`logging.getLogger(...)` instead.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from control.redaction import Redactor
from gateway import journal

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
TRACEBACK_MAX_CHARS = 8_000
_OURS = ("tandem", "control", "gateway", "policy")
_RESERVED = frozenset(("ts", "level", "event", "logger", "message", "traceback"))
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BARE = re.compile(r"[^\s\"'=\\]+")

_logger = logging.getLogger("tandem")


def event(name: str, /, *, level: str = "info", call_id: str | None = None, **fields: Any) -> None:
    """Say that something happened. Fields are JSON-like values; an exception becomes `Class: text`."""
    number = LEVELS.get(level, logging.INFO)
    if _logger.isEnabledFor(number):
        if call_id is not None:
            fields = {"call_id": call_id, **fields}
        _logger.log(number, "%s", name, extra={"event_name": name, "event_fields": fields})


def configure(
    *,
    level: str,
    format: str,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> LineHandler:
    """Send all of `logging` through one masking handler; the earlier handlers are removed."""
    to_journal = stream is None and journal.goes_to_journal(sys.stderr, os.environ)
    formatter = LineFormatter(format, Redactor(secrets), to_journal=to_journal)
    handler = LineHandler(stream or sys.stderr, formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if level == "debug" else logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(LEVELS[level])
    for name in list(root.manager.loggerDict):
        other = logging.getLogger(name)
        other.handlers.clear()
        other.propagate = True
    logging.captureWarnings(True)
    return handler


def install_exception_hooks() -> None:
    """Uncaught exceptions of any thread as log lines too: the interpreter would print them unmasked."""

    def uncaught(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            _logger.error(
                "%s", "uncaught", exc_info=(kind, error, trace), extra={"event_name": "uncaught"}
            )

    def uncaught_in_thread(details: threading.ExceptHookArgs) -> None:
        if details.exc_value is not None:
            uncaught(details.exc_type, details.exc_value, details.exc_traceback)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread


class LineFormatter(logging.Formatter):
    """A record as one redacted line. `format` is "json" or "text"; for the journal with the priority in front."""

    def __init__(self, format: str, redactor: Redactor, *, to_journal: bool = False) -> None:
        super().__init__()
        self._to_journal = to_journal
        self._write = _text_line if format == "text" else _json_line
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Time first, then what happened, then the fields in the order given."""
        name = getattr(record, "event_name", None)
        line: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "event": self._redactor.text(name) if name else "log",
        }
        if name is None:
            line["logger"] = record.name
            line["message"] = self._redactor.text(_message(record))
        for key, value in getattr(record, "event_fields", {}).items():
            line[f"{key}_" if key in _RESERVED else key] = self._redactor.value(value)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self._redactor.value(record.exc_info[1])
            whole = self._redactor.text(_traceback(record.exc_info[1]), max_chars=sys.maxsize)
            line["traceback"] = whole[-TRACEBACK_MAX_CHARS:]  # its end says what happened
        level = line["level"]
        text = _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", self._write(line))
        return journal.prefixed(text, level) if self._to_journal else text


class LineHandler(logging.Handler):
    """Writes each line with one `write`, so that lines of several threads do not mix."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self._stream = stream
        self.setFormatter(formatter)
        self.lost_lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write and flush. Documented boundary: the standard handler would print the raw arguments."""
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except Exception:  # noqa: BLE001
            self.lost_lines += 1


def _timestamp(created_s: float) -> str:
    at = datetime.fromtimestamp(created_s, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)  # the arguments did not fit; better a template than nothing


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _json_line(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False)


def _text_line(line: dict[str, Any]) -> str:
    head = f"{line.pop('ts')} {line.pop('level').upper():7} {line.pop('event')}"
    return " ".join([head, *(f"{key}={_text_value(value)}" for key, value in line.items())])


def _text_value(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
