"""WAV files of 16-bit PCM: the header, its sizes once they are known, reading, and repair after a crash.

A recording is written as `wav_header(...)`, then audio, then `finish_wav(file)`. Until then the header tells
of no audio while the file is longer, which is how an unfinished file is recognised: its audio is whatever
follows, and `repair_wav` writes the sizes.

Source: Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, WAVE). The
file functions block; they belong off the media path.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from gateway.audio import PCM16_SAMPLE_BYTES
from gateway.errors import GatewayError

HEADER_BYTES = 44
DATA_MAX_BYTES = 0xFFFF_FFFF - HEADER_BYTES
"""What fits into the 32-bit sizes: 37 hours of stereo at 8 kHz."""

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_RIFF_SIZE_OFFSET, _DATA_SIZE_OFFSET = 4, 40
_FORMAT_BYTES = 16
_PCM, _EXTENSIBLE = 1, 0xFFFE
_RATE_MAX_HZ = 1_000_000
_SIZE_UNKNOWN = (0, 0xFFFF_FFFF)
"""What writers that cannot know the size yet put in its place."""


class WavError(GatewayError):
    """Not a WAV file of 16-bit PCM, or one that cannot be finished."""


class WavAudio(NamedTuple):
    """What `read_wav` found: `pcm16` holds whole frames of `channels` interleaved samples."""

    rate_hz: int
    channels: int
    pcm16: bytes


def wav_header(rate_hz: int, channels: int, data_bytes: int = 0) -> bytes:
    """The 44 bytes before the audio; `data_bytes=0` while its length is not known.

    Raises:
        WavError: more audio than the format's 32-bit sizes can tell, or neither one channel nor two.
    """
    if channels not in (1, 2):
        raise WavError(f"{channels} channels: only mono and stereo are written")
    if data_bytes > DATA_MAX_BYTES:
        raise WavError(f"{data_bytes} bytes of audio do not fit into a WAV file")
    frame_bytes = channels * PCM16_SAMPLE_BYTES
    riff_bytes = data_bytes + HEADER_BYTES - 8
    format_fields = (_PCM, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, 16)
    chunks = (b"WAVE", b"fmt ", _FORMAT_BYTES, *format_fields, b"data", data_bytes)
    return _HEADER.pack(b"RIFF", riff_bytes, *chunks)


def finish_wav(file: BinaryIO) -> int:
    """Write the sizes into the header of a file that began with `wav_header`; returns the bytes of audio.

    The position afterwards is the end of the file. May be called again after more audio was written.

    Raises:
        WavError: the file has no such header, or too much audio; the audio stays in the file.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    frame_bytes = _own_frame_bytes(file.read(HEADER_BYTES))
    data_bytes = size - HEADER_BYTES
    if data_bytes > DATA_MAX_BYTES:
        raise WavError(f"{data_bytes} bytes of audio do not fit into a WAV file")
    data_bytes -= data_bytes % frame_bytes
    file.truncate(HEADER_BYTES + data_bytes)
    for offset, value in (
        (_DATA_SIZE_OFFSET, data_bytes),
        (_RIFF_SIZE_OFFSET, data_bytes + HEADER_BYTES - 8),
    ):
        file.seek(offset)
        file.write(struct.pack("<I", value))
    file.seek(0, os.SEEK_END)
    return data_bytes


def repair_wav(path: str | os.PathLike[str]) -> bool:
    """Finish a file whose writer died. A part of a frame at the end is cut off. `True` = it was changed.

    Raises:
        WavError: the header is not one that `wav_header` writes; the file is left as it is.
        OSError: it cannot be read or written.
    """
    with open(path, "r+b") as file:
        head = file.read(HEADER_BYTES)
        _own_frame_bytes(head)
        data_bytes = file.seek(0, os.SEEK_END) - HEADER_BYTES
        found = (_size_at(head, _RIFF_SIZE_OFFSET), _size_at(head, _DATA_SIZE_OFFSET))
        if found == (data_bytes + HEADER_BYTES - 8, data_bytes):
            return False
        finish_wav(file)
    return True


def interleave(left_pcm16: bytes, right_pcm16: bytes) -> bytes:
    """Two channels of equal length as stereo frames, left first.

    Raises:
        ValueError: the lengths differ, or end in half a sample.
    """
    if len(left_pcm16) != len(right_pcm16):
        raise ValueError(f"left has {len(left_pcm16)} bytes, right has {len(right_pcm16)}")
    left, right = np.frombuffer(left_pcm16, "<i2"), np.frombuffer(right_pcm16, "<i2")
    return np.stack((left, right), axis=1).tobytes()


def read_wav(source: str | os.PathLike[str] | bytes) -> WavAudio:
    """Read a WAV file of 16-bit PCM, from a path or from its content; also an unfinished one.

    Raises:
        WavError: it is something else. The text says what.
        OSError: the path cannot be read.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise WavError("not a WAV file: no RIFF/WAVE at its start")
    rate_hz = channels = 0
    position = 12
    while position + 8 <= len(content):
        name, size = content[position : position + 4], _size_at(content, position + 4)
        position += 8
        if name == b"fmt ":
            rate_hz, channels = _pcm16_format(content[position : position + size])
        elif name == b"data":
            if not channels:
                raise WavError("no format before the audio")
            return WavAudio(rate_hz, channels, _audio(content, position, size, channels))
        position += size + size % 2  # chunks start at even positions
    raise WavError("no audio in the file")


def _audio(content: bytes, start: int, size: int, channels: int) -> bytes:
    end = min(start + size, len(content))
    # A size of zero is true in a finished file without audio: then the outer size is true as well.
    if size in _SIZE_UNKNOWN and _size_at(content, 4) != len(content) - 8:
        end = len(content)
    frame_bytes = channels * PCM16_SAMPLE_BYTES
    return content[start : end - (end - start) % frame_bytes]


def _pcm16_format(chunk: bytes) -> tuple[int, int]:
    """(rate_hz, channels) of a format chunk."""
    if len(chunk) < _FORMAT_BYTES:
        raise WavError("the format chunk is cut short")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        tag = struct.unpack_from("<H", chunk, 24)[0]  # the first field of the sub-format's GUID
    if tag != _PCM or bits != 16:
        raise WavError(f"not 16-bit PCM: format {tag}, {bits} bits")
    if not channels or not rate_hz:
        raise WavError(f"impossible format: {channels} channels at {rate_hz} Hz")
    return rate_hz, channels


def _own_frame_bytes(head: bytes) -> int:
    """Bytes per frame, from a header as `wav_header` writes it; sizes are not looked at."""
    if len(head) != HEADER_BYTES:
        raise WavError(f"no recording: {len(head)} bytes are less than a header")
    _, _, _, _, _, _, channels, rate_hz, _, _, _, _, _ = _HEADER.unpack(head)
    blank = wav_header(rate_hz, channels) if channels in (1, 2) and rate_hz < _RATE_MAX_HZ else b""
    same = all(head[part] == blank[part] for part in (slice(0, 4), slice(8, 40)))
    if not same:
        raise WavError("no recording: the header is another one")
    return int(channels) * PCM16_SAMPLE_BYTES


def _size_at(content: bytes, offset: int) -> int:
    return int.from_bytes(content[offset : offset + 4], "little")
