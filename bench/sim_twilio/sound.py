"""Telephone sound for the simulator: G.711 µ-law by own tables, WAV in and out, level.

Deliberately not the product's codec, so that one mistake cannot sit on both ends of a wire. Everything
is 8 kHz mono; µ-law is one byte per sample. Pure, except that paths are read and written.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

RATE_HZ = 8_000
FRAME_MS = 20
FRAME_S = FRAME_MS / 1000
FRAME_BYTES = RATE_HZ * FRAME_MS // 1000
ULAW_SILENCE = 0xFF
"""Positive zero of µ-law: what a quiet telephone line carries."""
SILENCE_FRAME = bytes([ULAW_SILENCE]) * FRAME_BYTES

Audio: TypeAlias = bytes | str | Path
"""Speech for a caller: a WAV file (path or bytes; PCM16 or µ-law, 8 kHz, mono) or raw µ-law bytes."""

_WAVE_PCM = 1
_WAVE_ULAW = 7
_SEGMENT_ENDS = np.array([0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF, 0x1FFF])


def _encode_table() -> npt.NDArray[np.uint8]:
    """µ-law code of every 16-bit sample, index `sample + 32768`. Source: ITU-T G.711, table 2a."""
    samples = np.arange(-32768, 32768) >> 2
    magnitude = np.minimum(np.abs(samples), 8159) + 33
    segment = np.searchsorted(_SEGMENT_ENDS, magnitude)
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    code = np.where(segment >= 8, 0x7F, code)
    return (code ^ np.where(samples < 0, 0x7F, 0xFF)).astype(np.uint8)


def _decode_table() -> npt.NDArray[np.int16]:
    """16-bit sample of every µ-law code. Source: ITU-T G.711, table 2a."""
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


_ENCODE = _encode_table()
_DECODE = _decode_table()


def encode_ulaw(samples: npt.NDArray[np.int16]) -> bytes:
    """Compress 16-bit samples to µ-law, one byte each."""
    return _ENCODE[samples.astype(np.int32) + 32768].tobytes()


def decode_ulaw(ulaw: bytes | bytearray) -> npt.NDArray[np.int16]:
    """Expand µ-law to 16-bit samples, ±32,124."""
    return _DECODE[np.frombuffer(ulaw, np.uint8)]


def level(ulaw: bytes | bytearray) -> float:
    """Root mean square of µ-law audio on the 16-bit scale; 0.0 when empty or silent."""
    if not ulaw or ulaw == SILENCE_FRAME:
        return 0.0
    samples = decode_ulaw(ulaw).astype(np.float64)
    return float(np.sqrt(np.mean(samples * samples)))


def load(audio: Audio) -> bytes:
    """µ-law bytes of `audio`.

    Raises: ValueError for a WAV file of another rate, channel count or encoding, or a broken one.
    """
    data = audio if isinstance(audio, bytes) else Path(audio).read_bytes()
    return _ulaw_of_wav(data) if data[:4] == b"RIFF" else data


def _chunks(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        found.setdefault(name, data[at + 8 : at + 8 + size])
        at += 8 + size + (size & 1)
    return found


def _ulaw_of_wav(data: bytes) -> bytes:
    chunks = _chunks(data)
    if b"fmt " not in chunks or b"data" not in chunks or len(chunks[b"fmt "]) < 16:
        raise ValueError("not a WAV file: no fmt or data chunk")
    encoding, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    if rate_hz != RATE_HZ or channels != 1:
        raise ValueError(f"speech must be 8000 Hz mono, not {rate_hz} Hz with {channels} channels")
    if encoding == _WAVE_ULAW and bits == 8:
        return chunks[b"data"]
    if encoding == _WAVE_PCM and bits == 16:
        body = chunks[b"data"]
        return encode_ulaw(np.frombuffer(body[: len(body) & ~1], "<i2").astype(np.int16))
    raise ValueError(f"speech must be PCM16 or µ-law, not WAV encoding {encoding} with {bits} bits")


def write_stereo(path: Path | str, left: bytes, right: bytes) -> None:
    """Write two µ-law channels as a stereo PCM16 WAV file; the shorter one is filled with silence."""
    length = max(len(left), len(right))
    pair = np.zeros((length, 2), "<i2")
    pair[: len(left), 0] = decode_ulaw(left)
    pair[: len(right), 1] = decode_ulaw(right)
    body = pair.tobytes()
    form = struct.pack("<HHIIHH", _WAVE_PCM, 2, RATE_HZ, RATE_HZ * 4, 4, 16)
    head = (
        b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body))
    )
    Path(path).write_bytes(b"RIFF" + struct.pack("<I", len(head) + len(body)) + head + body)
