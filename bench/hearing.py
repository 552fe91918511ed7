"""Whether some speech is on a line: bit for bit, but a gap, a clear or a lost frame may have cut it into pieces.

Pure. µ-law at 8 kHz: what the simulated caller heard, or what the simulated agent received.
"""

from __future__ import annotations

import functools

PIECE_BYTES = 80
"""Ten milliseconds."""
VOICED_VALUES_MIN = 20
"""A piece with fewer different values is a pause, which is on any line."""


@functools.lru_cache(maxsize=64)
def pieces(speech: bytes) -> tuple[bytes, ...]:
    """The pieces of `speech` by which it can be known."""
    found = (
        speech[at : at + PIECE_BYTES] for at in range(0, len(speech) - PIECE_BYTES + 1, PIECE_BYTES)
    )
    return tuple(piece for piece in found if len(set(piece)) > VOICED_VALUES_MIN)


def share(speech: bytes, line: bytes) -> float:
    """How much of `speech` is on `line`, in its order: 0.0 to 1.0. Raises ValueError for speech without a voice."""
    wanted = pieces(speech)
    if not wanted:
        raise ValueError("nothing in this speech can be told from silence")
    found = at = 0
    for piece in wanted:
        if (place := line.find(piece, at)) >= 0:
            found, at = found + 1, place + len(piece)
    return found / len(wanted)


def begins(speech: bytes, line: bytes) -> int | None:
    """The byte of `line` at which the first voiced piece of `speech` is; None when it is not there."""
    wanted = pieces(speech)
    place = line.find(wanted[0]) if wanted else -1
    return None if place < 0 else place
