"""A neighbour of the calls: somebody who lists them over the control API, again and again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from bench.load.tally import spread
from bench.load.targets import Daemon, TargetFailed

REQUESTS_MAX = 100_000
PATH = "/v2/calls?limit=100"


class Lister:
    """One request behind the other, in a thread of the driver, from `start` to `stop`.

    It keeps to the cores of the generator: reading the answers is no work of the target's.
    """

    def __init__(self, daemon: Daemon, cores: AbstractSet[int]) -> None:
        self._cores = cores
        self._daemon = daemon
        self._stopping = threading.Event()
        self._ms: list[float] = []
        self._errors = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        """How many answers there were, how many errors, and how long the answers took."""
        self._stopping.set()
        self._thread.join()
        return {"errors": self._errors, **spread(np.array(self._ms))}

    def _run(self) -> None:
        os.sched_setaffinity(0, self._cores)  # of this thread
        while not self._stopping.is_set() and len(self._ms) < REQUESTS_MAX:
            began_s = time.monotonic()
            try:
                self._daemon.api("GET", PATH)
            except TargetFailed:
                self._errors += 1
                self._stopping.wait(0.1)
            else:
                self._ms.append((time.monotonic() - began_s) * 1000.0)
