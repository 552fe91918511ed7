"""A line for systemd's journal, and what a worker says of itself."""

import json
import os

import pytest

from gateway import journal
from gateway.voice import Voice

AT_S = 1_795_917_915.315
TOKEN = "sk_0a1b2c3d4e5f6a7b8c9d0e1f"


def test_stream_of_the_journal_is_known_by_device_and_inode(tmp_path):
    """A redirected stderr is not the journal, whatever the environment says."""
    with (tmp_path / "a").open("w") as ours, (tmp_path / "b").open("w") as other:
        found = os.fstat(ours.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert journal.goes_to_journal(ours, environ)
        assert not journal.goes_to_journal(other, environ)
        assert not journal.goes_to_journal(ours, {})
        assert not journal.goes_to_journal(ours, {"JOURNAL_STREAM": "nonsense"})
    assert not journal.goes_to_journal(ours, environ)


@pytest.mark.parametrize(
    ("level", "number"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3)]
)
def test_priority_stands_in_front(level, number):
    """The numbers of syslog(3)."""
    assert journal.prefixed("{}", level) == f"<{number}>{{}}"


def test_worker_line_has_time_level_event_and_masks_what_others_said():
    """The same fields in front as control's lines; call ids stay whole."""
    error = f"KeyError('+14155550100 {TOKEN} ConnectionRefusedErrorOfSomebody')"
    call_id = "call_01M8JGS940CWBJQWQW0ERCWA3F"
    fields = {"call_id": call_id, "error": error}
    line = json.loads(journal.worker_line(AT_S, "error", "call_crashed", fields, as_text=False))
    assert list(line) == ["ts", "level", "event", "process", "call_id", "error"]
    assert (line["ts"], line["level"]) == ("2026-11-29T02:05:15.315Z", "error")
    assert line["call_id"] == call_id
    assert line["error"] == "KeyError('+1415•••••00 *** ConnectionRefusedErrorOfSomebody')"


def test_worker_line_as_text_is_like_controls():
    """`log.format = "text"`."""
    text = journal.worker_line(AT_S, "warning", "spooled", {"messages": 3}, as_text=True)
    assert text == '2026-11-29T02:05:15.315Z WARNING spooled process="worker" messages=3'


def test_worker_speaks_on_stderr_with_a_priority_where_that_is_the_journal(capfd, monkeypatch):
    """Workers inherit control's stderr and its environment."""
    voice = Voice()
    voice("control_lost", calls=2)
    line = json.loads(capfd.readouterr().err)
    assert (line["event"], line["level"], line["calls"]) == ("control_lost", "warning", 2)
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    voice.configure("text")
    voice("control_returned", level="info", calls=2)
    said = capfd.readouterr().err
    assert said.startswith("<6>")
    assert said.endswith('INFO    control_returned process="worker" calls=2\n')
