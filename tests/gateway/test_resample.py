"""The resampler, measured from what it really puts out: response, images, aliases, delay, count, chunks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.resample import COEFFICIENT_SCALE, Resampler

TRUNK_HZ = 8000
AGENT_RATES_HZ = (16000, 22050, 24000, 44100, 48000)
PAIRS = [(rate, TRUNK_HZ) for rate in AGENT_RATES_HZ] + [
    (TRUNK_HZ, rate) for rate in AGENT_RATES_HZ
]
ODD_PAIRS = [(44100, 16000), (22050, 24000), (48000, 44100), (24000, 16000)]
PASS_HZ = (50, 300, 700, 1000, 1600, 2200, 2700, 3000, 3200, 3300, 3400)
AMPLITUDE = 16000

each_pair = pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
each_rate = pytest.mark.parametrize("rate_hz", AGENT_RATES_HZ)


def tone(hz: float, rate_hz: int, seconds: float = 0.3) -> bytes:
    n = np.arange(int(rate_hz * seconds))
    return np.rint(AMPLITUDE * np.cos(2 * np.pi * hz * n / rate_hz)).astype("<i2").tobytes()


def noise(n: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).integers(-32768, 32768, n).astype("<i2").tobytes()


def steady(pcm16: bytes, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample numbers and values once the filter has filled: after the first 20 ms."""
    values = np.frombuffer(pcm16, "<i2").astype(float)
    skip = rate_hz // 50
    return np.arange(skip, len(values)), values[skip:]


def fit(numbers: np.ndarray, values: np.ndarray, hz: float, rate_hz: int) -> tuple[complex, float]:
    """The least-squares tone in a signal, as amplitude and phase against a cosine; and the RMS of the rest."""
    angle = 2 * np.pi * hz * numbers / rate_hz
    basis = np.stack((np.cos(angle), -np.sin(angle)), axis=1)
    (real, imaginary), *_ = np.linalg.lstsq(basis, values, rcond=None)
    rest = values - basis @ (real, imaginary)
    return complex(real, imaginary), float(np.sqrt(np.mean(rest**2)))


def decibel(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-12))


def stop_band_hz(rate_hz: int) -> np.ndarray:
    return np.unique(
        np.concatenate((np.arange(4600, 8000, 100), np.arange(8000, rate_hz / 2 - 50, 487)))
    )


@each_pair
def test_tones_up_to_3400_hz_pass_within_half_a_decibel(from_hz, to_hz):
    """Flat over the telephone band, in both directions and at each rate."""
    for hz in PASS_HZ:
        found, _ = fit(*steady(Resampler(from_hz, to_hz).push(tone(hz, from_hz)), to_hz), hz, to_hz)
        assert abs(decibel(abs(found) / AMPLITUDE)) < 0.05, f"{hz} Hz"


@each_rate
def test_tones_from_4600_hz_are_gone_after_the_way_down(rate_hz):
    """Nothing a telephone cannot carry folds back into what it can: at least 50 dB less."""
    for hz in stop_band_hz(rate_hz):
        if hz < rate_hz / 2:
            pcm16 = Resampler(rate_hz, TRUNK_HZ).push(tone(hz, rate_hz))
            _, values = steady(pcm16, TRUNK_HZ)
            alias_rms = float(np.sqrt(np.mean(values**2)))
            assert decibel(alias_rms * math.sqrt(2) / AMPLITUDE) < -50, f"{hz} Hz"


@each_rate
def test_tones_on_the_way_up_have_no_images(rate_hz):
    """The tone apart, all that comes out is at least 50 dB less; images of this band lie above 4.6 kHz."""
    for hz in PASS_HZ:
        pcm16 = Resampler(TRUNK_HZ, rate_hz).push(tone(hz, TRUNK_HZ))
        _, rest_rms = fit(*steady(pcm16, rate_hz), hz, rate_hz)
        assert decibel(rest_rms * math.sqrt(2) / AMPLITUDE) < -50, f"{hz} Hz"


@each_pair
def test_delay_from_the_phase_of_tones_is_what_delay_ms_states(from_hz, to_hz):
    """All frequencies come out equally late: by `delay_ms`, to the microsecond, and under 2 ms."""
    resampler = Resampler(from_hz, to_hz)
    assert 0 < resampler.delay_ms <= 2
    for hz in PASS_HZ:
        resampler.reset()
        found, _ = fit(*steady(resampler.push(tone(hz, from_hz)), to_hz), hz, to_hz)
        # Tones up to 363 Hz turn less than half a circle in 1.375 ms, so the delay is not ambiguous.
        expected = np.exp(-2j * np.pi * hz * resampler.delay_ms / 1000)
        late_us = -np.angle(found / abs(found) / expected) / (2 * np.pi * hz) * 1e6
        assert abs(late_us) < 1, f"{hz} Hz"


@each_pair
def test_an_impulse_comes_out_delay_ms_later(from_hz, to_hz):
    """The same in time: the strongest output is the one nearest to impulse plus delay."""
    at = from_hz // 10
    samples = np.zeros(from_hz // 5, "<i2")
    samples[at] = 30000
    resampler = Resampler(from_hz, to_hz)
    values = np.frombuffer(resampler.push(samples.tobytes()), "<i2").astype(int)
    peak_ms = int(np.argmax(np.abs(values))) * 1000 / to_hz
    assert abs(peak_ms - at * 1000 / from_hz - resampler.delay_ms) <= 500 / to_hz + 1e-6
    before = int(at * to_hz / from_hz)
    assert not values[:before].any(), "heard before it was said"


@each_pair
def test_a_constant_passes_unchanged(from_hz, to_hz):
    """No hum of the phases on a steady level."""
    pcm16 = Resampler(from_hz, to_hz).push(np.full(from_hz // 5, 10000, "<i2").tobytes())
    _, values = steady(pcm16, to_hz)
    assert np.abs(values - 10000).max() <= 10000 * 10 ** (-50 / 20)


@each_pair
def test_full_scale_square_wave_saturates_and_never_wraps(from_hz, to_hz):
    """The filter overshoots at the steps: the tops are cut flat, no sample turns its sign."""
    n = np.arange(from_hz // 2)
    positive = n * 200 // from_hz % 2 == 0  # 100 Hz
    square = np.where(positive, 32767, -32768).astype("<i2").tobytes()
    resampler = Resampler(from_hz, to_hz)
    numbers, values = steady(resampler.push(square), to_hz)
    assert (values.max(), values.min()) == (32767, -32768)
    half_period_ms = (numbers * 1000 / to_hz - resampler.delay_ms) % 10
    inside = (half_period_ms % 5 > 1.5) & (half_period_ms % 5 < 3.5)
    expected_sign = np.where(half_period_ms < 5, 1, -1)
    assert (values[inside] * expected_sign[inside] > 30000).all()


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS + ODD_PAIRS)
def test_count_over_a_long_stream_is_exact_after_every_frame(from_hz, to_hz):
    """A minute of 20 ms frames: after each, ceil(in * to / from) samples; after the flush the delay's more."""
    resampler = Resampler(from_hz, to_hz)
    frame = noise(from_hz // 50)
    received = produced = 0
    for _ in range(3000):
        produced += len(resampler.push(frame)) // 2
        received += len(frame) // 2
        assert produced == -(-received * to_hz // from_hz)
    produced += len(resampler.flush()) // 2
    surplus = produced - received * to_hz / from_hz
    assert 0 <= surplus - resampler.delay_ms * to_hz / 1000 < to_hz / from_hz + 1


@st.composite
def cut_streams(draw):
    from_hz, to_hz = draw(st.sampled_from(PAIRS + ODD_PAIRS))
    n = draw(st.integers(0, 3000))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=12)))
    return from_hz, to_hz, noise(n, draw(st.integers(0, 1000))), cuts


@settings(deadline=None)
@given(cut_streams())
def test_output_is_identical_however_the_input_is_cut(stream):
    """Chunks of any length, empty ones too, give the very bytes of the whole."""
    from_hz, to_hz, pcm16, cuts = stream
    whole = Resampler(from_hz, to_hz)
    parts = Resampler(from_hz, to_hz)
    edges = [0, *cuts, len(pcm16) // 2]
    pieces = [parts.push(pcm16[2 * start : 2 * end]) for start, end in itertools.pairwise(edges)]
    expected = whole.push(pcm16)
    assert b"".join(pieces) == expected
    assert parts.flush() == whole.flush()


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS + ODD_PAIRS)
def test_sums_of_products_are_exact_in_double_precision(from_hz, to_hz):
    """Why chunks cannot matter on any machine: integers below 2**53 add up alike in any order."""
    scaled = Resampler(from_hz, to_hz)._plan.tables * COEFFICIENT_SCALE
    assert (scaled == np.rint(scaled)).all()
    assert np.abs(scaled).sum(axis=1).max() * 32768 < 2**53


@each_pair
def test_output_of_single_samples_is_that_of_the_whole(from_hz, to_hz):
    """The extreme cut, over several periods of the filter's phases."""
    pcm16 = noise(1500)
    parts = Resampler(from_hz, to_hz)
    pieces = [parts.push(pcm16[i : i + 2]) for i in range(0, len(pcm16), 2)]
    assert b"".join(pieces) == Resampler(from_hz, to_hz).push(pcm16)


@each_pair
def test_output_of_one_long_chunk_is_that_of_frames(from_hz, to_hz):
    """Several seconds at once, worked off in pieces inside, give what 20 ms frames give."""
    size = from_hz // 50 * 2
    pcm16 = noise(from_hz * 3)
    frames = Resampler(from_hz, to_hz)
    pieces = [frames.push(pcm16[i : i + size]) for i in range(0, len(pcm16), size)]
    assert b"".join(pieces) == Resampler(from_hz, to_hz).push(pcm16)


@each_pair
def test_state_stays_small_however_long_the_stream(from_hz, to_hz):
    """What is carried across chunks is bounded by the filter and one period, not by the stream."""
    resampler = Resampler(from_hz, to_hz)
    for _ in range(100):
        resampler.push(noise(from_hz // 50 + 7))
        assert len(resampler._tail) < 1500


@each_pair
def test_output_after_reset_or_flush_is_that_of_a_new_resampler(from_hz, to_hz):
    """Nothing of an old turn is heard in the next."""
    pcm16 = noise(from_hz // 10, seed=2)
    expected = Resampler(from_hz, to_hz).push(pcm16)
    resampler = Resampler(from_hz, to_hz)
    resampler.push(noise(333))
    resampler.reset()
    assert resampler.push(pcm16) == expected
    resampler.flush()
    assert resampler.push(pcm16) == expected


def test_flush_brings_out_the_end_of_the_speech():
    """The last sample pushed has its peak in what the flush returns, and a second flush is empty."""
    resampler = Resampler(16000, 8000)
    samples = np.zeros(320, "<i2")
    samples[-2] = 20000
    held = np.frombuffer(resampler.push(samples.tobytes()), "<i2")
    rest = np.frombuffer(resampler.flush(), "<i2")
    assert rest.max() > 9000 > 10 * np.abs(held).max()
    assert resampler.flush() == Resampler(16000, 8000).flush() == b""


def test_equal_rates_pass_the_object_through_without_delay():
    """8 kHz PCM agents cost nothing."""
    resampler = Resampler(8000, 8000)
    pcm16 = noise(160)
    assert resampler.push(pcm16) is pcm16
    assert (resampler.delay_ms, resampler.flush()) == (0.0, b"")


def test_half_a_sample_raises_and_leaves_the_stream_as_it_was():
    """A wrong chunk harms nothing but itself."""
    pcm16 = noise(640)
    resampler = Resampler(16000, 8000)
    first = resampler.push(pcm16[:640])
    with pytest.raises(ValueError, match="641 bytes"):
        resampler.push(bytes(641))
    assert first + resampler.push(pcm16[640:]) == Resampler(16000, 8000).push(pcm16)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(0, 8000), (8000, -1), (44101, 8000), (8000, 47999)]
)
def test_impossible_rates_raise(from_hz, to_hz):
    """Rates that are none, or whose tables would be huge, are refused."""
    with pytest.raises(ValueError, match=f"{from_hz} Hz and {to_hz} Hz"):
        Resampler(from_hz, to_hz)
