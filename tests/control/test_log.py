"""One event, one line, nothing that may not be seen."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from control import log
from control.config import Secret
from control.redaction import TEXT_MAX_CHARS, Redactor

SECRET = 'tok"en/0001\\x é'


@pytest.fixture
def lines():
    """Configures the log as asked, returns a function that gives the lines written; undone afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, {n: logging.getLogger(n).level for n in log._OURS})
    stream = io.StringIO()

    def configured(format="json", level="info"):
        log.configure(level=level, format=format, secrets=[SECRET, "short", "ab"], stream=stream)
        return lambda: stream.getvalue().splitlines()

    yield configured
    logging.captureWarnings(False)
    root.handlers[:], level, ours = before
    root.setLevel(level)
    for name, number in ours.items():
        logging.getLogger(name).setLevel(number)


def test_event_as_json_has_time_level_name_and_fields_in_order(lines):
    """One object a line, machine-readable."""
    written = lines()
    log.event("call_answered", call_id="call_1", worker="w1", ms=12.5, ok=True, none=None)
    (line,) = written()
    fields = json.loads(line)
    assert list(fields) == ["ts", "level", "event", "call_id", "worker", "ms", "ok", "none"]
    assert fields["level"] == "info"
    assert datetime.fromisoformat(fields["ts"]).tzinfo == UTC


def test_event_for_the_journal_has_its_priority_in_front(monkeypatch, tmp_path):
    """Only where stderr is the journal: `journalctl -p warning` then shows warnings."""
    before = (logging.getLogger().handlers[:], logging.getLogger().level)
    try:
        with (tmp_path / "journal").open("w+") as stream:
            found = os.fstat(stream.fileno())
            monkeypatch.setattr(sys, "stderr", stream)
            monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
            log.configure(level="info", format="json", secrets=[])
            log.event("call_answered")
            log.event("beat_failed", level="warning")
            stream.seek(0)
            first, second = stream.read().splitlines()
    finally:
        logging.captureWarnings(False)
        logging.getLogger().handlers[:] = before[0]
        logging.getLogger().setLevel(before[1])
    assert first.startswith('<6>{"ts": ')
    assert second.startswith('<4>{"ts": ')


def test_event_as_text_quotes_what_is_not_one_word(lines):
    """Fields stay apart for the eye and for grep."""
    written = lines("text")
    log.event("call_ended", level="warning", call_id="call_1", reason="agent leg: lost", n=[1])
    (line,) = written()
    assert line[24:] == (
        ' WARNING call_ended call_id=call_1 reason="agent leg: lost" n=[1]'
    )  # fmt: skip


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "field",
    [
        SECRET,
        f"before{SECRET}after",
        {"deep": [{"er": (SECRET,)}]},
        {SECRET: 1},
        ValueError(f"refused {SECRET!r}"),
        ExceptionGroup("several", [ValueError(SECRET), KeyError(SECRET)]),
        "https://h/?token=tok%22en%2F0001%5Cx%20%C3%A9",
        Secret(SECRET),
        Path("/x") / "short",
        "x" * (TEXT_MAX_CHARS - 5) + SECRET,
        "call +14155550100 now",
        "From=%2B14155550100",
        ["+14155550100"],
    ],
)
def test_event_with_a_secret_or_a_number_anywhere_hides_it(lines, format, field):
    """In texts, tables, names, exceptions, encoded, cut off at the end."""
    written = lines(format)
    log.event("x", field=field)
    (line,) = written()
    for shown in ("0001", "en/", "short", "4155550100"):
        assert shown not in line
    assert "***" in line or "+1415•••••00" in line


def test_event_with_a_new_line_or_an_escape_stays_one_harmless_line(lines):
    """Nobody can forge a line or steer the terminal of who reads it."""
    for format in ("json", "text"):
        written = lines(format)
        count = len(written())
        log.event("a\nb", field="x\r\ny\x1b[2J\u2028z\x85\x9b\ud800")
        new = written()[count:]
        assert len(new) == 1
        assert all(char.isprintable() for char in new[0])


@hypothesis_settings(deadline=None)
@given(st.recursive(st.none() | st.floats() | st.text() | st.binary(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_redacted_value_of_any_shape_is_strict_json(value):
    """A reader of the log needs no tolerant parser."""
    json.dumps(Redactor(["a secret"]).value(value), allow_nan=False)


def test_event_with_an_object_that_cannot_be_shown_is_written_all_the_same(lines):
    """A log line must not break what it tells of."""

    class Broken:
        def __str__(self):
            raise ValueError

    written = lines()
    log.event("x", field=Broken(), more=b"1234")
    assert json.loads(written()[0])["field"] == "<Broken without a text>"
    assert json.loads(written()[0])["more"] == "<4 bytes>"


def test_event_with_a_field_named_like_ours_keeps_both(lines):
    """The head of a line cannot be overwritten."""
    written = lines()
    log.event("x", ts=1, event="y", message="z")
    assert json.loads(written()[0])["event"] == "x"
    assert json.loads(written()[0])["event_"] == "y"


def test_event_below_the_level_is_not_written(lines):
    """`[log] level` decides."""
    written = lines(level="warning")
    log.event("x")
    assert written() == []
    log.event("y", level="error")
    assert len(written()) == 1


def test_third_party_logging_goes_through_the_same_line_with_the_same_masking(lines):
    """Also arguments and tracebacks, also from a logger that had a handler of its own."""
    noisy = logging.getLogger("test_log.third_party")
    own = io.StringIO()
    noisy.addHandler(logging.StreamHandler(own))
    noisy.propagate = False
    written = lines()
    try:
        raise RuntimeError(f"+14155550100 {SECRET}")
    except RuntimeError:
        noisy.exception("GET %s", SECRET)
    noisy.info("a line for every request")
    (line,) = written()
    fields = json.loads(line)
    assert fields["logger"] == "test_log.third_party"
    assert fields["message"] == "GET ***"
    assert fields["error"] == "RuntimeError: +1415•••••00 ***"
    assert "RuntimeError: +1415•••••00 ***" in fields["traceback"]
    assert own.getvalue() == ""


def test_third_party_record_whose_arguments_do_not_fit_is_written_without_them(lines):
    """The standard handler would print the raw arguments to stderr."""
    written = lines()
    logging.getLogger("test_log.misfit").warning("%d calls", SECRET)
    assert json.loads(written()[0])["message"] == "%d calls"


def test_warnings_become_lines(lines):
    """Python's own warnings too."""
    written = lines()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn(f"about {SECRET}", UserWarning, stacklevel=1)
    assert "about ***" in json.loads(written()[0])["message"]


def test_stream_that_is_gone_loses_and_counts_the_line(lines, capsys):
    """stderr may be a pipe whose reader has died."""
    stream = io.StringIO()
    lines()
    handler = log.configure(level="info", format="json", stream=stream)
    stream.close()
    log.event("x")
    assert handler.lost_lines == 1
    assert capsys.readouterr().err == ""


def test_uncaught_exceptions_of_main_and_threads_are_masked_lines():
    """A real process: the interpreter's own traceback would show the secret."""
    program = (
        "import threading\nfrom control import log\n"
        "log.configure(level='info', format='json', secrets=['a-secret-0001'])\n"
        "log.install_exception_hooks()\n"
        "def fail(): raise ValueError('a-secret-0001')\n"
        "thread = threading.Thread(target=fail)\nthread.start()\nthread.join()\nfail()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["error"] for line in lines] == ["ValueError: ***"] * 2
    assert "a-secret" not in done.stderr
