"""A point kills the process that is meant, once, and nobody when it is not named."""

import os
import signal
import subprocess
import sys

import pytest

from gateway.failpoints import REACHED_SUFFIX, VARIABLE, reach

_REACHES = (
    "from gateway.failpoints import reach; reach('a'); reach('b'); print('lived'); reach('b')"
)


def _run(value):
    environment = {**os.environ, VARIABLE: value}
    return subprocess.run(
        [sys.executable, "-c", _REACHES], env=environment, capture_output=True, check=False
    )


@pytest.mark.parametrize(("value", "lived"), [("b", b""), ("b@2", b"lived\n"), ("a", b"")])
def test_point_in_the_environment_kills_at_its_turn(value, lived):
    """SIGKILL, without a word."""
    done = _run(value)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, lived)


def test_point_in_a_file_kills_one_process_and_says_which(tmp_path):
    """The next one that comes there finds nothing."""
    path = tmp_path / "point"
    path.write_text("b")
    assert _run(str(path)).returncode == -signal.SIGKILL
    assert not path.exists()
    assert (tmp_path / ("point" + REACHED_SUFFIX)).read_text().isdecimal()
    assert _run(str(path)).returncode == 0


def test_point_that_is_not_named_does_nothing(tmp_path, monkeypatch):
    """Unset, or another one."""
    monkeypatch.delenv(VARIABLE, raising=False)
    reach("a")
    monkeypatch.setenv(VARIABLE, "b")
    reach("a")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no_such_file"))
    reach("a")
