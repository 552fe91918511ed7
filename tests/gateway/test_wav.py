"""WAV files: written, finished, repaired and read, checked with the standard library's `wave`."""

from __future__ import annotations

import io
import struct
import wave

import pytest

from gateway import wav
from gateway.wav import (
    HEADER_BYTES,
    WavError,
    finish_wav,
    interleave,
    read_wav,
    repair_wav,
    wav_header,
)

STEREO = bytes(range(200))  # 50 frames


def stdlib_read(content: bytes) -> tuple[int, int, int, bytes]:
    with wave.open(io.BytesIO(content)) as reader:
        return (
            reader.getframerate(),
            reader.getnchannels(),
            reader.getsampwidth(),
            reader.readframes(reader.getnframes()),
        )


def stdlib_written(rate_hz: int, channels: int, pcm: bytes, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, width, rate_hz, 0, "NONE", ""))
        writer.writeframes(pcm)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


FORMAT_BODY = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8000, 48000])
def test_header_with_sizes_is_the_one_the_standard_library_writes(rate_hz, channels):
    """Known size: byte for byte the usual file."""
    content = wav_header(rate_hz, channels, len(STEREO)) + STEREO
    assert content == stdlib_written(rate_hz, channels, STEREO)


@pytest.mark.parametrize("channels", [1, 2])
def test_finished_file_is_read_by_the_standard_library(channels):
    """Header, audio, sizes: a file any player opens."""
    file = io.BytesIO()
    file.write(wav_header(8000, channels))
    file.write(STEREO)
    assert finish_wav(file) == len(STEREO)
    assert file.tell() == HEADER_BYTES + len(STEREO)
    assert stdlib_read(file.getvalue()) == (8000, channels, 2, STEREO)


def test_finish_after_more_audio_writes_the_new_sizes():
    """A recording may be finished more than once."""
    file = io.BytesIO()
    file.write(wav_header(8000, 2))
    finish_wav(file)
    assert stdlib_read(file.getvalue())[3] == b""
    file.write(STEREO)
    finish_wav(file)
    assert stdlib_read(file.getvalue())[3] == STEREO


def test_finish_of_a_file_that_is_no_recording_raises_and_leaves_it():
    """Sizes are never written into the middle of something else."""
    for content in (
        b"",
        b"RIFF",
        b"x" * 100,
        riff(chunk(b"LIST", b"abcd"), chunk(b"fmt ", FORMAT_BODY)),
    ):
        file = io.BytesIO(content)
        with pytest.raises(WavError, match="no recording"):
            finish_wav(file)
        assert file.getvalue() == content


def test_audio_beyond_32_bits_raises(monkeypatch):
    """A size that the format cannot tell is an error, not a wrong size; the audio stays."""
    with pytest.raises(WavError, match="do not fit"):
        wav_header(8000, 2, wav.DATA_MAX_BYTES + 1)
    assert stdlib_read(wav_header(8000, 2, 0))[3] == b""
    monkeypatch.setattr(wav, "DATA_MAX_BYTES", 100)
    file = io.BytesIO(wav_header(8000, 2) + STEREO)
    with pytest.raises(WavError, match="do not fit"):
        finish_wav(file)
    assert file.getvalue() == wav_header(8000, 2) + STEREO


@pytest.mark.parametrize("channels", [0, 3])
def test_header_of_other_than_mono_or_stereo_raises(channels):
    """Recordings have one channel or two."""
    with pytest.raises(WavError, match="channels"):
        wav_header(8000, channels)


@pytest.mark.parametrize("torn", [0, 1, 2, 3])
def test_repair_of_an_unfinished_file_makes_it_readable(tmp_path, torn):
    """After a crash all whole frames are there, and a torn one is cut off."""
    path = tmp_path / "call.wav"
    path.write_bytes(wav_header(8000, 2) + STEREO + b"x" * torn)
    assert repair_wav(path)
    assert stdlib_read(path.read_bytes()) == (8000, 2, 2, STEREO)
    assert not repair_wav(path), "a second repair has nothing to do"


def test_repair_of_a_file_whose_writer_died_between_the_sizes_completes_it(tmp_path):
    """Any mixture of old and new sizes is put right from the file's length."""
    path = tmp_path / "call.wav"
    content = bytearray(wav_header(8000, 1, 100) + STEREO)
    content[4:8] = bytes(4)
    path.write_bytes(content)
    assert repair_wav(path)
    assert stdlib_read(path.read_bytes())[3] == STEREO


def test_repair_of_a_finished_file_leaves_it(tmp_path):
    """Also when it holds no audio."""
    for audio in (STEREO, b""):
        path = tmp_path / "call.wav"
        path.write_bytes(stdlib_written(8000, 2, audio))
        assert not repair_wav(path)
        assert path.read_bytes() == stdlib_written(8000, 2, audio)


@pytest.mark.parametrize("content", [b"", wav_header(8000, 2)[:43], b"not audio" * 20])
def test_repair_of_something_else_raises_and_leaves_it(tmp_path, content):
    """A file that was not written here is not touched."""
    path = tmp_path / "call.wav"
    path.write_bytes(content)
    with pytest.raises(WavError, match="no recording"):
        repair_wav(path)
    assert path.read_bytes() == content


def test_interleave_puts_left_first():
    """Caller left, agent right."""
    left, right = struct.pack("<3h", 1, 2, 3), struct.pack("<3h", -1, -2, -32768)
    assert struct.unpack("<6h", interleave(left, right)) == (1, -1, 2, -2, 3, -32768)
    assert interleave(b"", b"") == b""


def test_interleave_of_unequal_or_odd_channels_raises():
    """The recorder pads; this function does not guess."""
    with pytest.raises(ValueError, match="left has 4 bytes, right has 2"):
        interleave(bytes(4), bytes(2))
    with pytest.raises(ValueError, match="multiple"):
        interleave(bytes(3), bytes(3))


@pytest.mark.parametrize("channels", [1, 2])
def test_read_of_a_path_or_of_content_gives_rate_channels_and_audio(tmp_path, channels):
    """Both ways in, checked against a file of the standard library."""
    content = stdlib_written(16000, channels, STEREO)
    path = tmp_path / "speech.wav"
    path.write_bytes(content)
    expected = (16000, channels, STEREO)
    assert read_wav(content) == read_wav(path) == read_wav(str(path)) == expected


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_read_of_an_unfinished_file_gives_what_is_there(size):
    """A recording in the making can be listened to."""
    content = wav_header(8000, 2)[:40] + struct.pack("<I", size) + STEREO + b"xy"
    assert read_wav(content) == (8000, 2, STEREO)


def test_read_of_a_file_cut_short_gives_the_whole_frames():
    """The size says more than there is."""
    assert read_wav(stdlib_written(8000, 2, STEREO)[:-3]).pcm16 == STEREO[:-4]


def test_read_passes_over_other_chunks_and_their_padding():
    """Notes before and after the audio, of odd length too, are not audio."""
    content = riff(
        chunk(b"LIST", b"odd"),
        chunk(b"fmt ", FORMAT_BODY),
        chunk(b"data", STEREO),
        chunk(b"id3 ", b"abc"),
    )
    assert read_wav(content) == (8000, 1, STEREO)
    empty = riff(chunk(b"fmt ", FORMAT_BODY), chunk(b"data", b""), chunk(b"LIST", b"abcd"))
    assert read_wav(empty).pcm16 == b""


def test_read_of_the_extensible_form_of_pcm_works():
    """Some editors write it for ordinary PCM."""
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    body = (
        struct.pack("<HHIIHH", 0xFFFE, 1, 8000, 16000, 2, 16)
        + struct.pack("<HHI", 22, 16, 4)
        + guid
    )
    assert read_wav(riff(chunk(b"fmt ", body), chunk(b"data", STEREO))) == (8000, 1, STEREO)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not a WAV file"),
        (b"RIFX" + bytes(40), "not a WAV file"),
        (riff(), "no audio"),
        (riff(chunk(b"fmt ", FORMAT_BODY)), "no audio"),
        (riff(chunk(b"data", STEREO)), "no format before"),
        (riff(chunk(b"fmt ", FORMAT_BODY[:10])), "cut short"),
        (riff(chunk(b"fmt ", struct.pack("<HHIIHH", 7, 1, 8000, 8000, 1, 8))), "format 7, 8 bits"),
        (riff(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 0, 8000, 0, 0, 16))), "0 channels"),
        (stdlib_written(8000, 1, STEREO, width=1), "format 1, 8 bits"),
    ],
)
def test_read_of_something_else_raises_and_says_what_it_is(content, text):
    """Each refusal names its reason."""
    with pytest.raises(WavError, match=text):
        read_wav(content)
