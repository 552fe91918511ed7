"""On which worker a new call is placed: the rules, over the workers as the pool holds them.

A worker has room by count (`media.max_calls_per_worker`) and headroom by what it measures (`control.headroom`).
"""

from __future__ import annotations

from collections.abc import Iterable

from control.worker_process import Worker


class PoolFull(Exception):
    """No worker takes the call; the text says why."""

    def __init__(self, why: str = "all media workers are full") -> None:
        super().__init__(why)


class PoolBusy(PoolFull):
    """There would be room, but no worker has headroom for a new call: see `control.headroom`."""

    def __init__(self) -> None:
        super().__init__("all media workers are busy to their limit")


def choose(workers: Iterable[Worker], limit: int, now_s: float, *, goes_on: bool) -> Worker:
    """The worker with the least load of those with less than `limit` calls. Raises PoolFull, PoolBusy.

    `goes_on`: somebody is on the line already, so a worker that takes no new calls will do as well.
    """
    free = with_room(workers, limit)
    if not free:
        raise PoolFull
    if not goes_on:
        free = [worker for worker in free if worker.headroom.takes(now_s)]
        if not free:
            raise PoolBusy
    return min(
        free,
        key=lambda candidate: (
            not candidate.headroom.takes(now_s),
            candidate.headroom.expected_percent(now_s),
            len(candidate.calls),
        ),
    )


def room(workers: Iterable[Worker], limit: int, now_s: float) -> int:
    """How many new calls may be placed now, as far as one can tell."""
    return sum(
        limit - len(worker.calls)
        for worker in with_room(workers, limit)
        if worker.headroom.takes(now_s)
    )


def with_room(workers: Iterable[Worker], limit: int) -> list[Worker]:
    """By count. What they measure is another matter."""
    return [worker for worker in workers if not worker.is_draining and len(worker.calls) < limit]
