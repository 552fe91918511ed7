"""Whether the host's clock can be believed: what the kernel says, and whether it was set lately."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any

_TIMEX_BYTES = 512
"""More than any kernel's `struct timex`; all zero asks and sets nothing."""
_TIME_ERROR = 5


def kernel_says_synchronised() -> bool | None:
    """adjtimex(2): false when no time service keeps the clock; None where that cannot be asked."""
    call = _adjtimex()
    if call is None:
        return None
    state = call(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _TIME_ERROR


@lru_cache(maxsize=1)
def _adjtimex() -> Any:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "adjtimex", None)
