"""Comfort noise: what a caller hears while the agent is away, so that the line does not sound dead.

White noise at about -60 dBov, µ-law at 8 kHz: the level of a quiet room, and 15 dB below what the silence
descriptors of RFC 3389 usually carry. It is the same four seconds for every call, made once from a fixed seed, so
that a recording can be told apart from what the agent said. Pure.
"""

from __future__ import annotations

import numpy as np

from gateway.g711 import pcm16_to_ulaw

LEVEL_DBOV = -60.0
"""RMS below a square wave of full scale (RFC 6464: 0 dBov is the overload point)."""
_PERIOD_BYTES = 32_000
_SEED = 3389


def _noise() -> bytes:
    rms = 32768 * 10 ** (LEVEL_DBOV / 20)
    samples = np.random.default_rng(_SEED).normal(0.0, rms, _PERIOD_BYTES)
    return pcm16_to_ulaw(samples.round().astype("<i2").tobytes())


NOISE = _noise()


class ComfortNoise:
    """A place in the noise; pieces join without a seam."""

    __slots__ = ("_at", "bytes")

    def __init__(self) -> None:
        self._at = 0
        self.bytes = 0
        """Taken so far."""

    def take(self, size: int) -> bytes:
        """The next `size` bytes of µ-law, at most four seconds."""
        begin, end = self._at, self._at + size
        piece = NOISE[begin:end]
        if end >= _PERIOD_BYTES:
            end -= _PERIOD_BYTES
            piece += NOISE[:end]
        self._at = end
        self.bytes += size
        return piece
