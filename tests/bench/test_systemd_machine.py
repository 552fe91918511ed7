"""Commands of the systemd demo end, or are ended."""

from __future__ import annotations

import sys

import pytest

from bench import systemd_machine
from bench.systemd_machine import CannotRun, TooLate, finished

SAYS_AND_STAYS = ["sh", "-c", "echo half of it; exec sleep 600"]


def test_command_that_does_not_end_is_killed_and_named():
    """A systemd that hangs would have held up the demo, and whoever waits for it, for ever."""
    with pytest.raises(TooLate, match="killed after 2 s; it had said: half of it"):
        finished(SAYS_AND_STAYS, 2.0)


def test_command_that_ends_says_how():
    """Its code and its words, whatever they are."""
    command = "import sys; print('yes'); print('no', file=sys.stderr); sys.exit(3)"
    done = finished([sys.executable, "-c", command])
    assert (done.returncode, done.stdout, done.stderr) == (3, "yes\n", "no\n")


def test_namespaces_that_hang_are_none(monkeypatch):
    """What cannot be tried within its time cannot be used: the demo says so, and is skipped."""

    def hangs(*_):
        raise TooLate("`unshare` was killed after 20 s")

    monkeypatch.setattr(systemd_machine.os, "geteuid", lambda: 0)
    monkeypatch.setattr(systemd_machine.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(systemd_machine, "finished", hangs)
    with pytest.raises(CannotRun, match="unshare"):
        systemd_machine.check()
