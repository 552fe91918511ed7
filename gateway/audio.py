"""Audio formats by name, and the few constants that every part of the audio path shares.

The names are those of ElevenLabs' conversation metadata (`agent_output_audio_format`,
`user_input_audio_format`). Audio is always one channel; PCM is signed 16 bit, little endian. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FRAME_MS = 20
TRUNK_RATE_HZ = 8000
ULAW_FRAME_BYTES = TRUNK_RATE_HZ * FRAME_MS // 1000
ULAW_SILENCE = 0xFF
"""Positive zero, which is also what Twilio sends for silence."""

PCM16_SAMPLE_BYTES = 2


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """One channel of audio: how a sample is written and how many come in a second."""

    name: str
    encoding: Literal["ulaw", "pcm"]
    rate_hz: int

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample: 1 for G.711, 2 for PCM."""
        return 1 if self.encoding == "ulaw" else PCM16_SAMPLE_BYTES

    def bytes_for_ms(self, ms: float) -> int:
        """Bytes of the whole samples that fit into `ms` milliseconds; never half a sample."""
        return int(self.rate_hz * ms // 1000) * self.sample_bytes

    def ms_of(self, n_bytes: int) -> float:
        """How long `n_bytes` of this audio last, in milliseconds."""
        return n_bytes * 1000 / (self.rate_hz * self.sample_bytes)


ULAW_8000 = AudioFormat("ulaw_8000", "ulaw", TRUNK_RATE_HZ)
PCM_RATES_HZ = (8000, 16000, 22050, 24000, 44100, 48000)

_FORMATS = {
    form.name: form
    for form in (ULAW_8000, *(AudioFormat(f"pcm_{rate}", "pcm", rate) for rate in PCM_RATES_HZ))
}


def parse_format(name: str) -> AudioFormat:
    """The format of this name.

    Raises:
        ValueError: the name is none of the seven formats of ElevenLabs' conversation API.
    """
    try:
        return _FORMATS[name]
    except KeyError:
        known = ", ".join(_FORMATS)
        raise ValueError(f"unknown audio format {name[:40]!r}; known: {known}") from None
