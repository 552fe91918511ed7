"""The simulator's own G.711 and WAV, against the standard implementation."""

from __future__ import annotations

import audioop
import struct
import wave

import numpy as np
import pytest

from bench.sim_twilio.sound import decode_ulaw, encode_ulaw, level, load, write_stereo


def test_encode_ulaw_of_every_sample_matches_reference():
    """All 65,536 samples are compressed as the C implementation does it."""
    samples = np.arange(-32768, 32768).astype("<i2")
    assert encode_ulaw(samples) == audioop.lin2ulaw(samples.tobytes(), 2)


def test_decode_ulaw_of_every_code_matches_reference():
    """All 256 codes are expanded as the C implementation does it."""
    codes = bytes(range(256))
    assert decode_ulaw(codes).astype("<i2").tobytes() == audioop.ulaw2lin(codes, 2)


def test_level_of_silence_is_zero_and_of_loud_square_is_high():
    """µ-law silence has no level; full scale has."""
    assert level(b"\xff" * 160) == 0.0
    assert level(b"\x80\x00" * 80) > 30_000


def test_load_pcm_wav_gives_ulaw(tmp_path):
    """A PCM16 WAV file is read by path and by bytes."""
    samples = (np.sin(np.arange(800) / 5) * 9000).astype("<i2")
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(samples.tobytes())
    assert load(path) == load(str(path)) == load(path.read_bytes()) == encode_ulaw(samples)


def test_load_ulaw_wav_gives_its_bytes():
    """A µ-law WAV file is taken as it is."""
    body = bytes(range(200))
    form = struct.pack("<HHIIHH", 7, 1, 8000, 8000, 1, 8)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 200) + body
    assert load(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks) == body


def test_load_of_other_rate_names_the_rate():
    """Speech at 16 kHz is refused, not played at half speed."""
    form = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 2) + b"\0\0"
    with pytest.raises(ValueError, match="16000 Hz"):
        load(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)


def test_write_stereo_puts_caller_left_and_pads_the_shorter(tmp_path):
    """The file is stereo PCM16 and as long as the longer channel."""
    path = tmp_path / "call.wav"
    write_stereo(path, b"\x80" * 4, b"\x00" * 2)
    with wave.open(str(path)) as found:
        assert (found.getnchannels(), found.getframerate(), found.getnframes()) == (2, 8000, 4)
        pair = np.frombuffer(found.readframes(4), "<i2").reshape(-1, 2)
    assert pair[:, 0].tolist() == [32124] * 4
    assert pair[:, 1].tolist() == [-32124, -32124, 0, 0]
