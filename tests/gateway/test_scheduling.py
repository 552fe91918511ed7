"""Each in a process of its own: what is given away here, a process without privileges does not get back."""

from __future__ import annotations

import subprocess
import sys

import pytest

GIVE_WAY = """
import os, subprocess, sys, threading
from gateway import scheduling
stop = threading.Event()
threading.Thread(target=stop.wait, daemon=True).start()
scheduling.give_way(5)
tasks = [int(task) for task in os.listdir("/proc/self/task")]
assert len(tasks) == 2, tasks
assert {os.sched_getscheduler(task) for task in tasks} == {os.SCHED_BATCH}
assert {os.getpriority(os.PRIO_PROCESS, task) for task in tasks} == {5}
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
PREFER_AUDIO = """
import os
from gateway import scheduling
assert os.sched_getscheduler(0) == os.SCHED_BATCH
scheduling.prefer_audio()
assert os.sched_getscheduler(0) == os.SCHED_OTHER
"""
WEIGHT = """
import os
from gateway import scheduling
before = os.getpriority(os.PRIO_PROCESS, 0)
try:
    os.setpriority(os.PRIO_PROCESS, 0, scheduling.AUDIO_NICENESS)
    expected = scheduling.AUDIO_NICENESS
    os.setpriority(os.PRIO_PROCESS, 0, before)
except PermissionError:
    expected = before
scheduling.prefer_audio()
assert os.getpriority(os.PRIO_PROCESS, 0) == expected
"""
NO_WEIGHT = """
import os
from gateway import scheduling
def only_more(which, who, niceness):
    if niceness < 0: raise PermissionError(1, "not here")
    taken.append(niceness)
taken = []
os.setpriority = only_more
scheduling.prefer_audio()
assert taken == [0], taken
"""
REFUSED = """
import os
from gateway import scheduling
def refuse(*args): raise PermissionError(1, "not here")
os.setpriority = os.sched_setscheduler = scheduling._set_slice = refuse
scheduling.give_way(5)
scheduling.prefer_audio()
"""
SLICE = """
from gateway import scheduling
scheduling._set_slice(scheduling.AUDIO_SLICE_NS)
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param([GIVE_WAY, PREFER_AUDIO], id="control-gives-way-and-a-worker-does-not"),
        pytest.param([WEIGHT], id="a-worker-takes-the-weight-it-may-have"),
        pytest.param([NO_WEIGHT], id="a-worker-without-the-right-takes-none"),
        pytest.param([REFUSED], id="refused"),
        pytest.param([SLICE], id="slice-is-understood"),
    ],
)
def test_scheduling(program):
    """Asserted inside."""
    command = [sys.executable, "-c", *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
