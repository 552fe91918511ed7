"""G.711 mu-law to and from 16-bit linear PCM.

Decoding is `audioop`'s. Encoding is a table of all 65,536 samples, because `audioop` rounds negative
samples down before it looks for their step: 508 of them get another code than ITU-T G.711 gives (as in
the software of ITU-T G.191), among them -1 to -4, so that the last bit of a quiet voice would come out as
idle noise on the line.

Pure. PCM is signed 16 bit, little endian; the 14-bit scale of G.711 is its upper 14 bits.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from gateway.audio import ULAW_SILENCE

with warnings.catch_warnings():
    # Python 3.11 and 3.12 announce the removal that `audioop-lts` makes up for from 3.13 on.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

FLOOR_DBFS = -96.0
"""What `level_dbfs` says of digital silence: the bottom of the 16-bit scale."""

_SILENCE = bytes((ULAW_SILENCE,))


def ulaw_to_pcm16(ulaw: bytes) -> bytes:
    """Decode: two bytes for each byte. Both zeros of mu-law (0x7F, 0xFF) become 0."""
    return audioop.ulaw2lin(ulaw, 2)


def pcm16_to_ulaw(pcm16: bytes) -> bytes:
    """Encode: one byte for each sample. Beyond +-32,635 the outermost code is given.

    Raises:
        ValueError: half a sample at the end.
    """
    return _CODES.take(np.frombuffer(pcm16, "<u2")).tobytes()


def silence_ulaw(n: int) -> bytes:
    """`n` samples of silence."""
    return _SILENCE * n


def level_dbfs(ulaw: bytes) -> float:
    """The RMS level in dB of full scale (a square wave of +-32,768 is 0), at least `FLOOR_DBFS`."""
    rms = audioop.rms(audioop.ulaw2lin(ulaw, 2), 2)
    return max(FLOOR_DBFS, 20 * math.log10(rms / 32768)) if rms else FLOOR_DBFS


def _all_codes() -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The code of each sample, indexed by the sample's bits as an unsigned number."""
    positive = audioop.lin2ulaw(np.arange(32768, dtype="=i2").tobytes(), 2)
    # A negative sample has the code of its one's complement with the sign bit off, as in G.191; the
    # complement of 0x8000 ... 0xFFFF runs from 32767 down to 0.
    negative = bytes(code & 0x7F for code in reversed(positive))
    return np.frombuffer(positive + negative, np.uint8)


_CODES = _all_codes()
