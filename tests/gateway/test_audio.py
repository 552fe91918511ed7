"""Audio formats: names, sizes, durations."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.audio import FRAME_MS, ULAW_8000, ULAW_FRAME_BYTES, parse_format

NAMES = [
    ("ulaw_8000", "ulaw", 8000, 160),
    ("pcm_8000", "pcm", 8000, 320),
    ("pcm_16000", "pcm", 16000, 640),
    ("pcm_22050", "pcm", 22050, 882),
    ("pcm_24000", "pcm", 24000, 960),
    ("pcm_44100", "pcm", 44100, 1764),
    ("pcm_48000", "pcm", 48000, 1920),
]


@pytest.mark.parametrize(("name", "encoding", "rate_hz", "frame_bytes"), NAMES)
def test_parse_format_of_each_known_name_tells_encoding_rate_and_frame_size(
    name, encoding, rate_hz, frame_bytes
):
    """The seven formats of the conversation API are known with their sizes."""
    form = parse_format(name)
    assert (form.name, form.encoding, form.rate_hz) == (name, encoding, rate_hz)
    assert form.bytes_for_ms(FRAME_MS) == frame_bytes
    assert form.ms_of(frame_bytes) == pytest.approx(FRAME_MS)


@pytest.mark.parametrize(
    "name", ["", "pcm", "pcm_11025", "ulaw_16000", "mp3_44100_128", "PCM_16000"]
)
def test_parse_format_of_another_name_raises_and_lists_the_known_ones(name):
    """A format we cannot carry is an error that says what we can."""
    with pytest.raises(ValueError, match=r"unknown audio format .*ulaw_8000.*pcm_48000"):
        parse_format(name)


def test_parse_format_of_a_huge_name_raises_with_a_short_text():
    """What the peer sent is quoted, but not at any length."""
    with pytest.raises(ValueError, match="unknown") as caught:
        parse_format("x" * 10_000)
    assert len(str(caught.value)) < 250


def test_ulaw_8000_is_the_parsed_format_and_its_frame_has_160_bytes():
    """The constants and the parser agree."""
    assert parse_format("ulaw_8000") is ULAW_8000
    assert ULAW_8000.bytes_for_ms(FRAME_MS) == ULAW_FRAME_BYTES == 160


def test_bytes_for_ms_of_a_fraction_of_a_sample_gives_whole_samples():
    """5 ms at 22.05 kHz are 110.25 samples: 110 fit."""
    assert parse_format("pcm_22050").bytes_for_ms(5) == 220
    assert parse_format("pcm_48000").bytes_for_ms(0) == 0


def test_format_that_is_changed_raises():
    """Formats are values."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        ULAW_8000.rate_hz = 16000
