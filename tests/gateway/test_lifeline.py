"""What a worker leaves on the disk when no control process came."""

from __future__ import annotations

import pytest

from control import returning
from gateway.lifeline import Lifeline
from gateway.link import CallReport, Heartbeat

REPORT = CallReport("call_1", "completed", None, "ok", 1, True, None, None, None, {}, {})


@pytest.fixture
def lifeline(tmp_path):
    made = Lifeline(str(tmp_path))
    yield made
    made.close()


def test_spool_of_a_later_worker_with_the_same_pid_leaves_the_former_one_alone(lifeline, tmp_path):
    """In a container pids begin anew with every start, and the store may be away while the first file waits."""
    lifeline.spool([REPORT])
    lifeline.spool([Heartbeat("w1", 0, {}), REPORT, REPORT])
    told = [returning.read_spool(path, lambda *_: None) for path in returning.spools(tmp_path)]
    assert sorted(map(len, told)) == [1, 2]
    assert all(message == REPORT for messages in told for message in messages)


def test_worker_with_nothing_to_tell_leaves_no_file(lifeline, tmp_path):
    """Neither a whole one nor one that was begun."""
    lifeline.spool([Heartbeat("w1", 0, {})])
    assert [path.suffix for path in tmp_path.iterdir()] == [".sock"]
