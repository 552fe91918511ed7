"""What a PCM agent costs in speech quality and CPU, against plain G.711.

    python -m bench.quality [--bound MOS] [WAV ...]

Speech (8 kHz, mono, 16 bit; by default `bench/speech/*.wav`) goes the way of a call with a PCM agent: G.711,
converted up to the agent's rate, converted down, G.711. PESQ (ITU-T P.862, narrow band) rates the result and
the plain G.711 coding of the same speech against the original; the difference is what the conversion costs.
Exits with 1 when a rate loses more than the bound on any file, with 2 when there is nothing to measure.

The converter's delay is a whole number of telephone samples, so the second G.711 coding finds almost the
values of the first and does little harm. A last row shows what coding twice costs when it cannot: the same
speech, moved by half a sample by an ideal filter. Conversion itself can be no better than that for an agent
that makes its audio at another phase.

This is the one bench that imports the gateway: it measures a function, not the daemon.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gateway.audio import (
    FRAME_MS,
    PCM_RATES_HZ,
    TRUNK_RATE_HZ,
    ULAW_8000,
    AudioFormat,
    parse_format,
)
from gateway.g711 import pcm16_to_ulaw, ulaw_to_pcm16
from gateway.transcode import Transcoder
from gateway.wav import WavError, read_wav

LOSS_BOUND_MOS = 0.05
"""About ten times what the shipped speech loses: a regression shows, another recording passes."""

_SPEECH = Path(__file__).parent / "speech"
_TIMED_FRAMES = 500
_TIMED_ROUNDS = 5


class CannotMeasureError(Exception):
    """Something that the measurement needs is missing; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--bound", type=float, default=LOSS_BOUND_MOS, help="worst loss allowed (MOS)"
    )
    parser.add_argument("wav", nargs="*", type=Path, help="8 kHz mono speech")
    options = parser.parse_args(arguments)
    try:
        pesq = load_pesq()
        speech = load_speech(options.wav or sorted(_SPEECH.glob("*.wav")))
        return measure(pesq, speech, options.bound)
    except CannotMeasureError as error:
        print(f"bench.quality: {error}", file=sys.stderr)
        return 2


def load_pesq() -> Any:
    """The `pesq` module; it is an extra because it is compiled at installation."""
    try:
        return importlib.import_module("pesq")
    except ImportError:
        raise CannotMeasureError("PESQ is not installed: pip install 'tandem[bench]'") from None


def load_speech(paths: Sequence[Path]) -> dict[str, bytes]:
    """PCM16 by file name."""
    if not paths:
        raise CannotMeasureError(f"no speech in {_SPEECH.name}/; name WAV files")
    speech = {}
    for path in paths:
        try:
            rate_hz, channels, pcm16 = read_wav(path)
        except (OSError, WavError) as error:
            raise CannotMeasureError(f"{path}: {error}") from None
        if (rate_hz, channels) != (TRUNK_RATE_HZ, 1):
            raise CannotMeasureError(f"{path}: {rate_hz} Hz, {channels} channels; need 8 kHz mono")
        speech[str(path)] = pcm16
    return speech


def measure(pesq: Any, speech: dict[str, bytes], bound_mos: float) -> int:
    """Score each rate on each file; 1 when one loses more than `bound_mos`, else 0."""
    plain = {name: score(pesq, name, pcm16, _g711(pcm16)) for name, pcm16 in speech.items()}
    plain_mos = sum(plain.values()) / len(plain)
    print(f"PESQ (MOS-LQR, narrow band), {len(speech)} files; plain G.711: {plain_mos:.3f}\n")
    print("format        MOS    mean loss  worst loss  delay ms  up us/frame  down us/frame")
    too_much = []
    for rate_hz in PCM_RATES_HZ:
        agent = parse_format(f"pcm_{rate_hz}")
        losses = {
            name: plain[name] - score(pesq, name, pcm16, _round_trip(pcm16, agent))
            for name, pcm16 in speech.items()
        }
        up = Transcoder(ULAW_8000, agent)
        columns = f"{up.delay_ms:8.3f}  {frame_us(ULAW_8000, agent):11.1f}  {frame_us(agent, ULAW_8000):13.1f}"
        print(f"{_row(agent.name, plain_mos, losses)}  {columns}")
        too_much += [(agent.name, name, loss) for name, loss in losses.items() if loss > bound_mos]
    off_grid = {
        name: plain[name] - score(pesq, name, pcm16, _coded_twice_off_grid(pcm16))
        for name, pcm16 in speech.items()
    }
    print(_row("coded twice", plain_mos, off_grid))
    for form, name, loss in too_much:
        print(f"LOST {loss:.3f} MOS, more than {bound_mos}: {form}, {name}")
    print(
        f"\n{'worse than' if too_much else 'within'} the bound of {bound_mos} MOS below plain G.711"
    )
    return 1 if too_much else 0


def score(pesq: Any, name: str, original: bytes, heard: bytes) -> float:
    """MOS-LQR of `heard`; PESQ finds the delay itself."""
    try:
        samples = (np.frombuffer(original, "<i2"), np.frombuffer(heard, "<i2"))
        return float(pesq.pesq(TRUNK_RATE_HZ, *samples, "nb"))
    except (pesq.PesqError, ValueError) as error:
        raise CannotMeasureError(f"{name}: PESQ cannot rate it: {error}") from None


def frame_us(source: AudioFormat, target: AudioFormat) -> float:
    """CPU of transcoding one 20 ms frame, microseconds: the best of some rounds."""
    transcoder = Transcoder(source, target)
    frame = np.random.default_rng(1).bytes(source.bytes_for_ms(FRAME_MS))
    return min(_seconds(transcoder.push, frame) for _ in range(_TIMED_ROUNDS)) * 1e6


def _seconds(push: Callable[[bytes], bytes], frame: bytes) -> float:
    start = time.perf_counter()
    for _ in range(_TIMED_FRAMES):
        push(frame)
    return (time.perf_counter() - start) / _TIMED_FRAMES


def _row(label: str, plain_mos: float, losses: dict[str, float]) -> str:
    mean = sum(losses.values()) / len(losses)
    return f"{label:<12} {plain_mos - mean:5.3f}  {mean:9.3f}  {max(losses.values()):10.3f}"


def _g711(pcm16: bytes) -> bytes:
    return ulaw_to_pcm16(pcm16_to_ulaw(pcm16))


def _round_trip(pcm16: bytes, agent: AudioFormat) -> bytes:
    up, down = Transcoder(ULAW_8000, agent), Transcoder(agent, ULAW_8000)
    audio = up.push(pcm16_to_ulaw(pcm16)) + up.flush()
    return ulaw_to_pcm16(down.push(audio) + down.flush())


def _coded_twice_off_grid(pcm16: bytes) -> bytes:
    samples = np.frombuffer(_g711(pcm16), "<i2").astype(float)
    spectrum = np.fft.rfft(samples)
    spectrum *= np.exp(-1j * np.pi * np.fft.rfftfreq(len(samples)))
    moved = np.fft.irfft(spectrum, len(samples))
    return _g711(np.clip(np.rint(moved), -32768, 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    sys.exit(main())
