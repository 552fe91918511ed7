"""Places where a test may have the process killed, to prove that it goes on afterwards.

`TANDEM_FAIL_POINT=name` in the environment: the process that comes to `reach(name)` kills itself there with
SIGKILL, as a power cut would; nothing is cleaned up. Unset, as it always is outside tests, `reach` does
nothing. `name@2` means the second time that the point is reached.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "TANDEM_FAIL_POINT"

_reached: Counter[str] = Counter()


def reach(name: str) -> None:
    """Does not return when this point is the one that is named."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    point, _, count = wanted.partition("@")
    _reached[name] += 1
    if name == point and _reached[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
