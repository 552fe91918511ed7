"""How the C library of this process keeps the memory that it was given back.

glibc gives threads heaps of their own, up to eight a core, and what is freed in one is of no use to another: a
control process that reads its store in threads grew by 25 KiB with each call, for hours. One heap for all of them
stays as large as it has to be; the threads wait for the interpreter's lock anyway, not for the heap's.
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8
"""mallopt(3), malloc.h."""


def share_one() -> bool:
    """Before the first thread is started. False where the C library knows no such thing (musl)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_ARENA_MAX, 1) == 1
