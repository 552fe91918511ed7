"""Transcoding between G.711 and PCM at each rate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audio import PCM_RATES_HZ, ULAW_8000, parse_format
from gateway.g711 import pcm16_to_ulaw, silence_ulaw, ulaw_to_pcm16
from gateway.resample import Resampler
from gateway.transcode import Transcoder

FORMATS = [ULAW_8000, *(parse_format(f"pcm_{rate}") for rate in PCM_RATES_HZ)]
PCM_FORMATS = FORMATS[1:]
PCM_8000, PCM_16000 = FORMATS[1], FORMATS[2]


def noise(n_bytes: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(n_bytes)


def ulaw_tone(hz: float = 1000, seconds: float = 0.5) -> bytes:
    n = np.arange(int(8000 * seconds))
    return pcm16_to_ulaw(np.rint(8000 * np.sin(2 * np.pi * hz * n / 8000)).astype("<i2").tobytes())


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_equal_formats_return_the_very_object(form):
    """Pass-through copies nothing, and does not look at odd lengths either."""
    transcoder = Transcoder(form, form)
    data = noise(161)
    assert transcoder.identity
    assert transcoder.push(data) is data
    assert (transcoder.delay_ms, transcoder.odd_chunks, transcoder.flush()) == (0.0, 0, b"")


def test_ulaw_to_pcm_8000_is_plain_g711():
    """At 8 kHz there is no filter, so no delay, and the way back is exact."""
    ulaw = ulaw_tone()
    up, down = Transcoder(ULAW_8000, PCM_8000), Transcoder(PCM_8000, ULAW_8000)
    assert not up.identity
    assert not down.identity
    pcm16 = up.push(ulaw)
    assert pcm16 == ulaw_to_pcm16(ulaw)
    assert down.push(pcm16) == pcm16_to_ulaw(pcm16) == ulaw
    assert up.delay_ms == down.delay_ms == 0


@pytest.mark.parametrize("form", PCM_FORMATS[1:], ids=lambda form: form.name)
def test_each_direction_is_g711_around_the_resampler(form):
    """A transcoder is its parts in the right order, and states the filter's delay."""
    ulaw, pcm16 = ulaw_tone(), noise(form.bytes_for_ms(200))
    up, down = Transcoder(ULAW_8000, form), Transcoder(form, ULAW_8000)
    assert up.push(ulaw) == Resampler(8000, form.rate_hz).push(ulaw_to_pcm16(ulaw))
    assert down.push(pcm16) == pcm16_to_ulaw(Resampler(form.rate_hz, 8000).push(pcm16))
    assert up.delay_ms == down.delay_ms == Resampler(8000, form.rate_hz).delay_ms > 0


@pytest.mark.parametrize("form", PCM_FORMATS, ids=lambda form: form.name)
def test_20_ms_in_is_20_ms_out_from_the_first_frame(form):
    """Every rate turns whole frames into whole frames, so playout never waits for a part of one."""
    up, down = Transcoder(ULAW_8000, form), Transcoder(form, ULAW_8000)
    for _ in range(10):
        pcm16 = up.push(ulaw_tone(seconds=0.02))
        assert len(pcm16) == form.bytes_for_ms(20)
        assert len(down.push(pcm16)) == 160


@pytest.mark.parametrize("form", PCM_FORMATS[1:], ids=lambda form: form.name)
def test_speech_band_comes_back_from_a_round_trip_nearly_to_the_code(form):
    """Two whole-sample delays later the same tone, within G.711's own steps."""
    ulaw = ulaw_tone()
    up, down = Transcoder(ULAW_8000, form), Transcoder(form, ULAW_8000)
    back = down.push(up.push(ulaw) + up.flush())
    late = round((up.delay_ms + down.delay_ms) * 8)
    sent = np.frombuffer(ulaw_to_pcm16(ulaw), "<i2").astype(float)
    heard = np.frombuffer(ulaw_to_pcm16(back), "<i2").astype(float)[late:]
    sent, heard = sent[400:3600], heard[400:3600]
    assert np.sqrt(np.mean((sent - heard) ** 2) / np.mean(sent**2)) < 0.01


def test_silence_stays_silence_in_both_directions():
    """No idle noise from the filter."""
    up, down = Transcoder(ULAW_8000, PCM_16000), Transcoder(PCM_16000, ULAW_8000)
    pcm16 = up.push(silence_ulaw(800))
    assert pcm16 == bytes(3200)
    assert down.push(pcm16) == silence_ulaw(800)


def test_odd_chunk_keeps_its_byte_for_the_next_and_is_counted():
    """Nothing is lost and nothing is shifted when a provider cuts a sample in two."""
    pcm16 = noise(1000)
    transcoder = Transcoder(PCM_8000, ULAW_8000)
    pieces = [transcoder.push(part) for part in (pcm16[:3], pcm16[3:5], pcm16[5:6], pcm16[6:])]
    assert [len(piece) for piece in pieces] == [1, 1, 1, 497]
    assert b"".join(pieces) == pcm16_to_ulaw(pcm16)
    assert transcoder.odd_chunks == 2


@pytest.mark.parametrize("end", ["flush", "reset"])
def test_odd_byte_is_dropped_at_the_end_of_a_stream(end):
    """Half a sample does not shift the next turn by a byte."""
    transcoder = Transcoder(PCM_16000, ULAW_8000)
    transcoder.push(noise(321))
    getattr(transcoder, end)()
    pcm16 = noise(640, seed=2)
    assert transcoder.push(pcm16) == Transcoder(PCM_16000, ULAW_8000).push(pcm16)
    assert transcoder.odd_chunks == 1


def test_flush_returns_encoded_audio_and_resets():
    """The tail of the filter comes out in the target format."""
    transcoder = Transcoder(PCM_16000, ULAW_8000)
    transcoder.push(noise(640))
    assert len(transcoder.flush()) == 11
    assert transcoder.flush() == b""


@settings(deadline=None)
@given(
    st.sampled_from([(a, b) for a in FORMATS for b in FORMATS]),
    st.integers(0, 4000),
    st.lists(st.integers(0, 4000), max_size=10),
    st.integers(0, 1000),
)
def test_output_is_identical_however_the_bytes_are_cut(formats, n_bytes, cuts, seed):
    """Any two formats, cuts between and within samples: the bytes of the whole."""
    source, target = formats
    data = noise(n_bytes, seed)
    whole, parts = Transcoder(source, target), Transcoder(source, target)
    edges = [0, *sorted(min(cut, n_bytes) for cut in cuts), n_bytes]
    pieces = [parts.push(data[start:end]) for start, end in itertools.pairwise(edges)]
    assert b"".join(pieces) == whole.push(data)
    assert parts.flush() == whole.flush()
