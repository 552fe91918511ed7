"""G.711 mu-law, held against arithmetic written from ITU-T G.711 (table 2a) for all codes and all samples."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest

from gateway.audio import ULAW_SILENCE
from gateway.g711 import FLOOR_DBFS, level_dbfs, pcm16_to_ulaw, silence_ulaw, ulaw_to_pcm16

ALL_CODES = bytes(range(256))
ALL_SAMPLES = range(-32768, 32768)


def samples_of(pcm16: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(pcm16) // 2}h", pcm16)


def pcm16_of(samples) -> bytes:
    samples = list(samples)
    return struct.pack(f"<{len(samples)}h", *samples)


def itu_value(code: int) -> int:
    """The quantized value of a character signal, 14-bit scale of G.711 times 4."""
    inverted = code ^ 0xFF
    segment, step = inverted >> 4 & 7, inverted & 15
    magnitude = ((2 * step + 33) << segment) - 33
    return -4 * magnitude if inverted & 0x80 else 4 * magnitude


def itu_decision(segment: int, step: int) -> int:
    """The decision value (14-bit scale) at which the interval of a character signal begins."""
    return max(0, ((2 * step + 32) << segment) - 33)


def itu_code(sample: int) -> int:
    """The character signal of a 16-bit sample; negative ones by their one's complement, as in G.191."""
    magnitude = (sample if sample >= 0 else ~sample) // 4
    biased = min(magnitude, 8158) + 33
    segment = biased.bit_length() - 6
    step = (biased - (32 << segment)) // (2 << segment)
    return (segment << 4 | step) ^ (0xFF if sample >= 0 else 0x7F)


def test_the_reference_arithmetic_agrees_with_figures_printed_in_g711():
    """Guards the guard: values of table 2a of G.711 (ends of the segments, first and last values)."""
    assert [itu_decision(s, 0) for s in range(1, 8)] == [31, 95, 223, 479, 991, 2015, 4063]
    assert [itu_value(code) // 4 for code in (0xFF, 0xFE, 0xEF, 0xDF, 0x80)] == [0, 2, 33, 99, 8031]
    assert [itu_value(code) // 4 for code in (0x7F, 0x7E, 0x00)] == [0, -2, -8031]


def test_decode_of_all_codes_gives_the_values_of_the_standard():
    """Each of the 256 codes has the value that G.711 gives it."""
    assert samples_of(ulaw_to_pcm16(ALL_CODES)) == tuple(itu_value(code) for code in ALL_CODES)


def test_encode_of_all_samples_gives_the_codes_of_the_standard():
    """Each of the 65,536 samples has the code that G.711 gives it."""
    assert pcm16_to_ulaw(pcm16_of(ALL_SAMPLES)) == bytes(map(itu_code, ALL_SAMPLES))


def test_encode_of_all_samples_keeps_between_the_decision_values():
    """The same from the other end: each sample lies in its code's interval."""
    codes = pcm16_to_ulaw(pcm16_of(ALL_SAMPLES))
    for sample, code in zip(ALL_SAMPLES, codes, strict=True):
        inverted = code ^ 0xFF
        assert (sample < 0) == bool(inverted & 0x80)
        segment, step = inverted >> 4 & 7, inverted & 15
        # A sample exactly on a decision value belongs to the upper interval when positive.
        distance = sample if sample >= 0 else -sample - 1
        assert distance >= 4 * itu_decision(segment, step)
        upper = itu_decision(segment, step + 1)
        assert distance < 4 * upper or inverted & 0x7F == 0x7F


def test_encode_of_the_last_bit_of_a_quiet_voice_gives_a_zero():
    """No idle noise: what is below the first decision value is a zero of either sign."""
    assert pcm16_to_ulaw(pcm16_of(range(-4, 4))) == b"\x7f" * 4 + b"\xff" * 4


def test_encode_beyond_the_top_of_the_scale_gives_the_outermost_codes():
    """Loud audio saturates; the sign never turns."""
    assert pcm16_to_ulaw(pcm16_of([32767, 32636, -32768, -32637])) == b"\x80\x80\x00\x00"


def test_decode_and_encode_of_all_codes_is_identity_but_for_the_two_zeros():
    """Audio that was mu-law is not harmed by a second coding; minus zero becomes zero."""
    expected = ALL_CODES.replace(b"\x7f", b"\xff")
    assert pcm16_to_ulaw(ulaw_to_pcm16(ALL_CODES)) == expected


def test_silence_is_the_code_of_zero():
    """Silence is 0xFF and decodes to zeros."""
    assert ULAW_SILENCE == 0xFF
    assert silence_ulaw(160) == b"\xff" * 160
    assert ulaw_to_pcm16(silence_ulaw(3)) == bytes(6)
    assert pcm16_to_ulaw(bytes(6)) == silence_ulaw(3)


def test_nothing_encodes_and_decodes_to_nothing():
    """Empty chunks are allowed."""
    assert pcm16_to_ulaw(b"") == ulaw_to_pcm16(b"") == silence_ulaw(0) == b""


def test_encode_of_half_a_sample_raises():
    """An odd number of bytes is no PCM16."""
    with pytest.raises(ValueError, match="multiple"):
        pcm16_to_ulaw(b"\x00\x00\x00")


def test_level_of_known_signals_is_right():
    """Loudest square wave: just under 0 dB; a tenth of it: 20 dB less; silence: the floor."""
    assert level_dbfs(b"\x80\x00" * 80) == pytest.approx(-0.17, abs=0.01)
    assert level_dbfs(pcm16_to_ulaw(pcm16_of([3276, -3276] * 80))) == pytest.approx(-20, abs=0.3)
    assert level_dbfs(silence_ulaw(160)) == level_dbfs(b"") == FLOOR_DBFS


def test_import_with_warnings_as_errors_is_silent():
    """Nobody who starts the program sees that Python 3.11 deprecates `audioop`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import gateway.g711"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
