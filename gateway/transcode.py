"""From one audio format to another, as a stream: G.711 decoded or encoded, the rate converted.

`ulaw_8000` on both sides is the normal case, and then audio passes through untouched. Pure.
"""

from __future__ import annotations

from gateway.audio import PCM16_SAMPLE_BYTES, AudioFormat
from gateway.g711 import pcm16_to_ulaw, ulaw_to_pcm16
from gateway.resample import Resampler


class Transcoder:
    """Converts a stream of `source` audio into `target` audio, chunk by chunk.

    A PCM chunk may end in the middle of a sample: its odd byte waits for the next chunk, and the chunk is
    counted in `odd_chunks`, because providers are not supposed to do that.

    Invariant: the output's bytes are the same however the input is cut into chunks.
    """

    __slots__ = ("_decode", "_encode", "_odd_byte", "_resampler", "identity", "odd_chunks")

    def __init__(self, source: AudioFormat, target: AudioFormat) -> None:
        self.identity = source == target
        """Nothing to do: `push` returns the very object it was given."""
        self.odd_chunks = 0
        self._decode = source.encoding == "ulaw"
        self._encode = target.encoding == "ulaw"
        self._resampler = Resampler(source.rate_hz, target.rate_hz)
        self._odd_byte = b""

    @property
    def delay_ms(self) -> float:
        """How much later sound comes out than it went in; G.711 adds nothing."""
        return self._resampler.delay_ms

    @property
    def fir(self) -> object | None:
        """The resampler's compiled filter, which the express lane shares."""
        return self._resampler.fir

    def push(self, data: bytes) -> bytes:
        """Take a chunk of `source` audio of any length, return the `target` audio that is ready."""
        if self.identity:
            return data
        pcm16 = ulaw_to_pcm16(data) if self._decode else self._whole_samples(data)
        return self._encoded(self._resampler.push(pcm16))

    def flush(self) -> bytes:
        """The end of the stream: what the filter still holds. An odd byte is dropped. Then as new."""
        self._odd_byte = b""
        return self._encoded(self._resampler.flush())

    def reset(self) -> None:
        """Forget what is held, without playing it; `odd_chunks` stays."""
        self._odd_byte = b""
        self._resampler.reset()

    def _encoded(self, pcm16: bytes) -> bytes:
        return pcm16_to_ulaw(pcm16) if self._encode else pcm16

    def _whole_samples(self, data: bytes) -> bytes:
        if len(data) % PCM16_SAMPLE_BYTES:
            self.odd_chunks += 1
        elif not self._odd_byte:
            return data
        data = self._odd_byte + data
        whole = len(data) - len(data) % PCM16_SAMPLE_BYTES
        self._odd_byte = data[whole:]
        return data[:whole]
