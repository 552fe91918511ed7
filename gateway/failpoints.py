"""Places where a test may have the process killed, to prove that everything goes on afterwards.

`TANDEM_FAIL_POINT=name` in the environment: the process that comes to `reach(name)` kills itself there with
SIGKILL, as a power cut would; nothing is cleaned up. `name@2` means the second time that the point is reached.
`TANDEM_FAIL_POINT=/path`: the point's name stands in that file, so that it can be chosen while we run. Of all
processes that come there one takes it: the file is renamed to `/path.reached` and holds the process's id.

Unset, as it always is outside tests, `reach` does nothing. No point lies in the path of a frame.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "TANDEM_FAIL_POINT"
REACHED_SUFFIX = ".reached"

_reached: Counter[str] = Counter()


def reach(name: str) -> None:
    """Does not return when this point is the one that is named."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    if wanted.startswith("/"):
        if _named_in(wanted) == name and _take(wanted):
            os.kill(os.getpid(), signal.SIGKILL)
        return
    point, _, count = wanted.partition("@")
    _reached[name] += 1
    if name == point and _reached[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def _named_in(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _take(path: str) -> bool:
    """Whether this process is the one that goes. Others may have come to the point at the same time."""
    mine = f"{path}.{os.getpid()}"
    try:
        os.rename(path, mine)
    except FileNotFoundError:
        return False
    with open(mine, "w", encoding="utf-8") as file:
        file.write(str(os.getpid()))
    os.rename(mine, path + REACHED_SUFFIX)
    return True
