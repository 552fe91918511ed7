"""The named points at which a process is killed, and how each is armed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

REACHED_SUFFIX = ".reached"
"""What the daemon appends to the file in which a point is named: see `gateway.failpoints`."""

When: TypeAlias = Literal["any", "worker_lost", "control_returns", "control_away"]


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the code. `of_worker`: which of the two processes comes there.

    `when`: what has to be done for it: nothing, kill workers (Twilio asks how their calls go on), kill the control
    process and start another one, or kill it and leave it dead.
    """

    name: str
    of_worker: bool = False
    when: When = "any"


POINTS: Sequence[Point] = (
    Point("answer.before_commit"),
    Point("answer.after_commit"),
    Point("stream.attached"),
    Point("ledger.before_flush"),
    Point("ledger.flushed"),
    Point("dial.queued"),
    Point("dial.before_create"),
    Point("dial.after_create"),
    Point("dial.settled"),
    Point("end.before_rest"),
    Point("end.after_rest"),
    Point("end.closed"),
    Point("continue.asked", when="worker_lost"),
    Point("continue.resumed", when="worker_lost"),
    Point("opt_out.committed"),
    Point("outbox.claimed"),
    Point("outbox.settled"),
    Point("after_call.begun"),
    Point("analysis.applied"),
    Point("sms.meant"),
    Point("sms.sent"),
    Point("sms.created"),
    Point("worker.prepare", of_worker=True),
    Point("worker.attach", of_worker=True),
    Point("worker.ending", of_worker=True),
    Point("worker.report", of_worker=True),
    Point("worker.returned", of_worker=True, when="control_returns"),
    Point("worker.before_spool", of_worker=True, when="control_away"),
    Point("worker.spooled", of_worker=True, when="control_away"),
)


class Trigger:
    """The file by which the daemon knows at which point to die."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def arm(self, point: Point) -> None:
        """From now on the first process that comes there goes."""
        self._reached.unlink(missing_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(point.name)
        partial.rename(self.path)

    def disarm(self) -> None:
        self.path.unlink(missing_ok=True)

    def reached_by(self) -> int | None:
        """The process that has come to the point; None: none yet."""
        try:
            return int(self._reached.read_text())
        except (FileNotFoundError, ValueError):
            return None

    @property
    def _reached(self) -> Path:
        return self.path.with_name(self.path.name + REACHED_SUFFIX)
