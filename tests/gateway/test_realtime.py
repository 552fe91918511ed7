"""Each in a process of its own: a policy is for good where it cannot be given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import os, resource, threading
from gateway import realtime
said = []
def complain(event, **fields): said.append(event)
def policy(task=0): return os.sched_getscheduler(task) & ~os.SCHED_RESET_ON_FORK
"""
TAKEN = """
mode = realtime.Realtime(complain)
assert mode.take() and said == []
assert policy() == os.SCHED_RR
assert os.sched_getparam(0).sched_priority == realtime.PRIORITY
found = []
thread = threading.Thread(target=lambda: found.append(policy(threading.get_native_id())))
thread.start(); thread.join()
assert found == [os.SCHED_OTHER], found
assert resource.getrlimit(resource.RLIMIT_RTTIME) == (1_000_000, 5_000_000)
"""
OVERRUN = """
mode = realtime.Realtime(complain, run_max_s=0.05)
assert mode.take()
while policy() == os.SCHED_RR: pass
assert policy() == os.SCHED_OTHER and said == []
mode.beat(100.0)
assert said == ["realtime_given_up"]
mode.beat(100.0 + realtime.AGAIN_AFTER_S - 0.1)
assert policy() == os.SCHED_OTHER
mode.beat(100.0 + realtime.AGAIN_AFTER_S)
assert policy() == os.SCHED_RR
while policy() == os.SCHED_RR: pass
assert policy() == os.SCHED_OTHER
"""
HANGS = """
realtime.RUN_END_S = 0.3
assert realtime.Realtime(complain, run_max_s=0.1).take()
sum(range(10**12))
"""
REFUSED = """
def refuse(*_): raise PermissionError(1, "not here")
os.sched_setscheduler = refuse
mode = realtime.Realtime(complain)
assert not mode.take()
mode.beat(0.0); mode.beat(1000.0)
assert said == ["realtime_refused"]
"""
MAY = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def allowed() -> None:
    if run(MAY).returncode:
        pytest.skip("this machine allows no realtime policy here")


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("program", [TAKEN, OVERRUN], ids=["taken", "given-up-and-taken-again"])
def test_realtime(program):
    """Asserted inside."""
    done = run(BEGIN + program)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("allowed")
def test_worker_that_hangs_under_it_is_ended():
    """In C, where no handler of Python's runs: it would hold the core for good."""
    done = run(BEGIN + HANGS)
    assert done.returncode == -9, (done.returncode, done.stderr)


def test_refused_is_said_and_nothing_else_happens():
    done = run(BEGIN + REFUSED)
    assert done.returncode == 0, done.stderr
