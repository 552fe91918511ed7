"""A little of what `make chaos` does a lot of: kills under calls, and the checker afterwards."""

import os
import subprocess
import sys

import pytest
import trio

from bench.chaos import processes
from bench.chaos.points import POINTS
from bench.chaos.run import Plan, run

PATIENCE_S = 540.0
FEW = ("answer.after_commit", "dial.after_create", "worker.report")


async def test_kills_at_random_and_at_named_points_lose_nothing(tmp_path):
    """Four and three, under five calls: every kill hits a process that lives, every point is reached."""
    points = [point for point in POINTS if point.name in FEW]
    with trio.fail_after(PATIENCE_S):
        outcome = await run(
            tmp_path, Plan(kills=4, named=3, calls=5, workers=2, seed=7, points=points)
        )
    assert outcome.problems == []
    assert outcome.worker_kills + outcome.control_kills == 4
    assert outcome.worker_kills >= 1
    assert outcome.named_kills == [point.name for point in points]
    assert outcome.records > 0


def _sleeper():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


async def test_process_that_is_dead_already_is_not_killed_again():
    """A zombie has a place in /proc and a state that tells."""
    child = _sleeper()
    assert await processes.kill(child.pid)
    found = processes.stat(child.pid)
    assert found is not None
    assert not found.is_alive
    assert not await processes.kill(child.pid)
    child.wait()
    assert processes.stat(child.pid) is None
    assert not await processes.kill(child.pid)


async def test_orphans_come_to_us_and_are_buried():
    """Their parent was killed: under a subreaper they are our children, living or dead."""
    script = (
        "import subprocess, sys, time;"
        "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', 'gateway' + '.worker']);"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    with processes.subreaper(), trio.fail_after(30):
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        orphan = int(parent.stdout.readline())
        assert processes.living_workers(parent.pid) == [orphan]
        assert await processes.kill(parent.pid)
        parent.wait()
        parent.stdout.close()
        assert processes.stat(orphan).parent == os.getpid()
        assert processes.living_workers(parent.pid) == [orphan]
        assert await processes.kill(orphan)
        assert processes.living_workers(parent.pid) == []
        while not processes.bury():
            await trio.sleep(0.01)
        assert processes.stat(orphan) is None


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_every_named_point_is_in_the_code(point):
    """A point that was renamed would be waited for in vain."""
    package = "gateway" if point.of_worker else "control"
    found = subprocess.run(
        ["grep", "-rqF", "--include=*.py", f'reach("{point.name}")', package], check=False
    )
    assert found.returncode == 0
