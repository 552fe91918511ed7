"""Speech for the simulators: recorded prompts, µ-law, resampling, and an ear that hears a caller talk.

Independent of the gateway's codecs on purpose: an error there must not cancel out against the same
error here. Clarity over speed; everything that is expensive is computed once per prompt and kept.
"""

from __future__ import annotations

import functools
import io
import tomllib
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SPEECH_FOLDER = Path(__file__).resolve().parent.parent / "speech"
FORMATS = (
    "ulaw_8000",
    "pcm_8000",
    "pcm_16000",
    "pcm_22050",
    "pcm_24000",
    "pcm_44100",
    "pcm_48000",
)
SOURCE_HZ = 8000


def split_format(name: str) -> tuple[str, int]:
    """`("ulaw" | "pcm", rate in Hz)` of one of the seven ElevenLabs formats; ValueError otherwise."""
    if name not in FORMATS:
        raise ValueError(f"no such audio format: {name!r}")
    coding, rate = name.rsplit("_", 1)
    return coding, int(rate)


def bytes_per_second(name: str) -> int:
    coding, rate = split_format(name)
    return rate if coding == "ulaw" else 2 * rate


def _ulaw_table() -> npt.NDArray[np.int16]:
    """The 256 decoder output values of ITU-T G.711 Table 2a, scaled to 16 bits."""
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    value = magnitude - 0x84
    return np.where(code & 0x80, -value, value).astype(np.int16)


_ULAW_TO_PCM = _ulaw_table()


def _bytes(sample: npt.NDArray[Any]) -> bytes:
    data: bytes = sample.astype("<i2").tobytes()
    return data


def ulaw_to_pcm16(data: bytes) -> bytes:
    """Decode µ-law bytes to 16-bit little-endian samples."""
    return _bytes(_ULAW_TO_PCM[np.frombuffer(data, np.uint8)])


def pcm16_to_ulaw(data: bytes) -> bytes:
    """Encode 16-bit little-endian samples (an even number of bytes) as µ-law."""
    sample = np.frombuffer(data, "<i2").astype(np.int32)
    sign = np.where(sample < 0, 0x80, 0)
    # G.711 works on 14 bits; shifting before taking the magnitude is what the ITU reference code
    # and `audioop` do, so that both give the same byte for every one of the 65,536 inputs.
    folded = np.where(sample < 0, -(sample >> 2), sample >> 2)
    biased = np.minimum(folded + 0x21, 0x1FFF)
    segment = np.clip(np.floor(np.log2(biased)).astype(np.int32) - 5, 0, 7)
    code = (segment << 4) | ((biased >> (segment + 1)) & 0x0F)
    return bytes((~(sign | code) & 0xFF).astype(np.uint8))


def resample(pcm16: bytes, from_hz: int, to_hz: int) -> bytes:
    """Band-limited resampling of a whole recording by zeroing or adding spectrum (no streaming)."""
    if from_hz == to_hz:
        return pcm16
    sample = np.frombuffer(pcm16, "<i2").astype(np.float64)
    ratio_step = from_hz // np.gcd(from_hz, to_hz)
    wanted = round(len(sample) * to_hz / from_hz)
    # 50 ms of zeros keep the end of the recording from ringing into its beginning.
    padded = -(-(len(sample) + from_hz // 20) // ratio_step) * ratio_step
    spectrum = np.fft.rfft(sample, padded)
    length = padded * to_hz // from_hz
    shaped = np.zeros(length // 2 + 1, np.complex128)
    common = min(len(spectrum), len(shaped))
    shaped[:common] = spectrum[:common]
    result = np.fft.irfft(shaped, length) * (to_hz / from_hz)
    return _bytes(np.clip(np.rint(result[:wanted]), -32768, 32767))


def encode(pcm16_8k: bytes, name: str) -> bytes:
    """8 kHz samples in any of the seven formats."""
    coding, rate = split_format(name)
    return pcm16_to_ulaw(pcm16_8k) if coding == "ulaw" else resample(pcm16_8k, SOURCE_HZ, rate)


def level_dbfs(pcm16: bytes) -> float:
    """Root mean square in dB below full scale; -120 for silence and for nothing."""
    if len(pcm16) < 2:
        return -120.0
    sample = np.frombuffer(pcm16, "<i2").astype(np.float64)
    power = float(np.mean(sample * sample)) / 32768.0**2
    return 10.0 * float(np.log10(power)) if power > 1e-12 else -120.0


def read_wav(data: bytes) -> bytes:
    """Samples of an 8 kHz, 16-bit, mono WAV file; ValueError for any other kind."""
    with wave.open(io.BytesIO(data)) as wav:
        shape = (wav.getframerate(), wav.getsampwidth(), wav.getnchannels())
        if shape != (SOURCE_HZ, 2, 1):
            raise ValueError(f"expected 8 kHz 16-bit mono, found (rate, width, channels) {shape}")
        pcm16: bytes = wav.readframes(wav.getnframes())
        return pcm16


@dataclass(frozen=True, slots=True)
class Prompt:
    """A recorded sentence: its text, its samples (16 bit, 8 kHz) and the same as µ-law."""

    name: str
    text: str
    pcm16: bytes
    ulaw: bytes

    @property
    def duration_s(self) -> float:
        return len(self.ulaw) / SOURCE_HZ


@functools.cache
def prompt(name: str) -> Prompt:
    """One of the recordings in `bench/speech/prompts.toml`; KeyError names the ones there are."""
    table = tomllib.loads((SPEECH_FOLDER / "prompts.toml").read_text(encoding="utf-8"))
    if name not in table:
        raise KeyError(f"no prompt {name!r}; there are {', '.join(sorted(table))}")
    pcm16 = read_wav((SPEECH_FOLDER / table[name]["file"]).read_bytes())
    return Prompt(name, table[name]["text"], pcm16, pcm16_to_ulaw(pcm16))


class Ear:
    """Hears by level when somebody begins and stops talking, in 20 ms steps of *audio* time.

    `speech_ms` of loud frames begin an utterance (a quiet frame takes one loud frame back, so that
    clicks do not add up); `silence_ms` of quiet frames end it. As with the real service, no audio
    means no time: a stream that stops never ends an utterance.
    """

    STEP_MS = 20

    def __init__(
        self,
        input_format: str,
        *,
        threshold_dbfs: float = -35.0,
        speech_ms: int = 120,
        silence_ms: int = 500,
    ) -> None:
        coding, rate = split_format(input_format)
        self._ulaw = coding == "ulaw"
        self._step_bytes = rate * self.STEP_MS // 1000 * (1 if self._ulaw else 2)
        self._threshold_dbfs = threshold_dbfs
        self._speech_ms, self._silence_ms = speech_ms, silence_ms
        self._rest = b""
        self._loud_ms = self._quiet_ms = 0
        self.talking = False

    def hear(self, audio: bytes) -> list[str]:
        """Feed audio of any length; returns what happened: "began" and "ended", in order."""
        data = self._rest + audio
        whole = len(data) // self._step_bytes * self._step_bytes
        self._rest = data[whole:]
        steps = (data[at : at + self._step_bytes] for at in range(0, whole, self._step_bytes))
        return [event for step in steps if (event := self._step(step))]

    def _step(self, frame: bytes) -> str | None:
        pcm16 = ulaw_to_pcm16(frame) if self._ulaw else frame
        loud = level_dbfs(pcm16) > self._threshold_dbfs
        if not self.talking:
            self._loud_ms = max(0, self._loud_ms + (self.STEP_MS if loud else -self.STEP_MS))
            if self._loud_ms < self._speech_ms:
                return None
            self.talking, self._quiet_ms = True, 0
            return "began"
        self._quiet_ms = 0 if loud else self._quiet_ms + self.STEP_MS
        if self._quiet_ms < self._silence_ms:
            return None
        self.talking, self._loud_ms = False, 0
        return "ended"
