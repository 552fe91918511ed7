"""What a simulated agent understands: the recordings that it knows, found in the sound that it was sent.

No speech recognition, and no script either: a sentence is understood because its recording really came, sample by
sample, through telephone, gateway and socket. Whatever else was said is not understood.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bench.sim_elevenlabs import speech

ALIKE_MIN = 0.8
"""Correlation from which on two sounds are the same words of the same speaker: 1.0 bit for bit; µ-law, resampling
and a lost frame take some of it; another sentence stays below 0.3."""
NOT_UNDERSTOOD = "…"


def understood(pcm16_8k: bytes, known: Iterable[str]) -> str:
    """The texts of the known recordings in the sound, in the order in which they come; `…` when there is none."""
    heard = _samples(pcm16_8k)
    found = []
    for name in known:
        clip = speech.prompt(name)
        likeness, at = best_match(heard, _samples(clip.pcm16))
        if likeness >= ALIKE_MIN:
            found.append((at, clip.text))
    return " ".join(text for _, text in sorted(found)) or NOT_UNDERSTOOD


def best_match(heard: npt.NDArray[np.float64], clip: npt.NDArray[np.float64]) -> tuple[float, int]:
    """`(correlation, sample)` where the clip fits best; 0.0 where the sound is too short or silent."""
    clip = _trimmed(clip)
    length = len(clip)
    if length == 0 or len(heard) < length:
        return 0.0, 0
    size = 1 << (len(heard) + length - 1).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(clip, size))
    product = np.fft.irfft(spectrum, size)[: len(heard) - length + 1]
    power = np.concatenate(([0.0], np.cumsum(heard * heard)))
    energy = (power[length:] - power[:-length]) * float(clip @ clip)
    likeness = np.where(energy > 0, product / np.sqrt(np.maximum(energy, 1e-9)), 0.0)
    at = int(np.argmax(likeness))
    return float(likeness[at]), at


def _samples(pcm16: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(pcm16, "<i2").astype(np.float64)


def _trimmed(clip: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Without the silence at both ends: an ear that hears the end of a sentence does not wait for it."""
    loud = np.flatnonzero(np.abs(clip) > 500)
    return clip[loud[0] : loud[-1] + 1] if len(loud) else clip[:0]
