"""Sample rate conversion with a short delay: a polyphase FIR whose state is the last few samples.

One prototype low-pass serves both directions of a pair of rates: symmetric, Kaiser window, centred on half
of the lower rate, 11 samples of the lower rate to each side (45 taps at 16 kHz). With a telephone on one
side it is flat within 0.02 dB to 3.4 kHz, is down by 53 dB from 4.6 kHz on, and holds audio for 1.375 ms.
Between the two it folds a little of what lies around 4 kHz back into 3.4 to 4 kHz; to prevent that takes
a longer filter, and a telephone has nothing there. That the delay is a whole number of telephone samples has
a use: G.711 that is converted up and down again comes back almost to the code, not coded a second time.

The coefficients are multiples of 2**-24, so every product with a 16-bit sample and every sum of them is
exact in double precision. The output therefore depends neither on how the input was cut into chunks nor on
the order in which a BLAS, a processor or a numpy release adds up. It saturates, and is not dithered.

Pure. PCM is signed 16 bit, little endian, one channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway import flow
from gateway.audio import PCM16_SAMPLE_BYTES

if TYPE_CHECKING:
    from gateway import _express

Floats: TypeAlias = NDArray[np.float64]

KAISER_BETA = 5.0
"""With the length below: -53.5 dB or better from the stop band's edge on, at any ratio."""
DELAY_PERIODS = 11
"""The filter's half length, which is its delay, in samples of the lower rate."""
COEFFICIENT_SCALE = float(1 << 24)
MAX_PHASES = 1000
"""Bound of the coefficient tables; 22.05 and 44.1 kHz against the others need at most 441."""

_GROUP_MIN = 16
"""Fewer outputs per product cost calls, more cost multiplications by zero; 8 to 40 measured alike."""
_SLAB_MS = 100
"""Long input is worked off in pieces: bounds memory, and keeps each matrix product below the size at which
OpenBLAS wakes its threads, which would spin on the cores of other workers."""
_LOWEST, _HIGHEST = np.array(-32768.0), np.array(32767.0)  # arrays save a conversion per call


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything about a pair of rates that does not change, shared by all its resamplers.

    Outputs are computed in groups of `group`, `groups` of which make a period, after which the phases
    repeat. Group p of a period is the product of tables[p] with the inputs at offsets[p], counted from the
    oldest input that the period reads.
    """

    up: int
    down: int
    delay_ms: float
    delay_in: int
    """The delay in samples of the input, rounded up."""
    history: int
    """Inputs before a period's first one that its first output needs."""
    period_in: int
    period_out: int
    span: int
    """Inputs that one period reads, history included."""
    width: int
    offsets: NDArray[np.intp]
    """(groups, width)"""
    tables: Floats
    """(groups, width, group)"""


def _group_size(up: int) -> int:
    """Outputs per product: whole rounds of few phases, or a divisor of many for about ten products."""
    if up <= _GROUP_MIN:
        return up * math.ceil(_GROUP_MIN / up)
    return next(size for size in range(max(_GROUP_MIN, up // 10), up + 1) if up % size == 0)


def _prototype(up: int, from_hz: int, to_hz: int) -> Floats:
    """The symmetric low-pass at `from_hz * up`; its gain at 0 Hz is `up`, to make up for stuffed zeros."""
    rate_hz = from_hz * up
    cutoff_hz = min(from_hz, to_hz) / 2
    half = DELAY_PERIODS * rate_hz // min(from_hz, to_hz)
    taps = np.sinc(2 * cutoff_hz / rate_hz * np.arange(-half, half + 1))
    taps *= np.kaiser(2 * half + 1, KAISER_BETA)
    return np.asarray(taps * (up / taps.sum()), np.float64)


@lru_cache(maxsize=64)
def _plan(from_hz: int, to_hz: int) -> _Plan:
    common = math.gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    if up > MAX_PHASES:
        raise ValueError(f"no practical ratio between {from_hz} Hz and {to_hz} Hz")
    prototype = _prototype(up, from_hz, to_hz)
    history = math.ceil(len(prototype) / up) - 1
    group = _group_size(up)
    groups = up // math.gcd(up, group)
    starts = [p * group * down // up for p in range(groups)]
    lasts = [((p + 1) * group - 1) * down // up for p in range(groups)]
    width = history + 1 + max(last - start for start, last in zip(starts, lasts, strict=True))
    return _Plan(
        up=up,
        down=down,
        delay_ms=DELAY_PERIODS * 1000 / min(from_hz, to_hz),
        delay_in=-(-DELAY_PERIODS * from_hz // min(from_hz, to_hz)),
        history=history,
        period_in=groups * group * down // up,
        period_out=groups * group,
        span=starts[-1] + width,
        width=width,
        offsets=np.add.outer(np.array(starts, np.intp), np.arange(width, dtype=np.intp)),
        tables=np.stack(
            [_table(prototype, up, down, p * group, group, width, history) for p in range(groups)]
        ),
    )


def _table(
    prototype: Floats, up: int, down: int, first: int, group: int, width: int, history: int
) -> Floats:
    """The (width, group) matrix that makes the outputs `first` to `first + group - 1` of a period."""
    exact = np.rint(prototype * COEFFICIENT_SCALE) / COEFFICIENT_SCALE
    table = np.zeros((width, group))
    for column in range(group):
        newest, phase = divmod((first + column) * down, up)
        taps = exact[phase::up]
        row = history + newest - first * down // up
        table[row - len(taps) + 1 : row + 1, column] = taps[::-1]
    return table


class Resampler:
    """Converts a stream of PCM from one rate to another, chunk by chunk.

    Output appears as soon as the input it needs is there: after n inputs there are exactly
    ceil(n * to_hz / from_hz) outputs, the first of them zeros of the filter's delay. Equal rates pass
    through untouched.

    Invariant: the output's bytes are the same however the input is cut into chunks.
    """

    __slots__ = ("_keep_from", "_plan", "_produced", "_received", "_slab_bytes", "_tail", "fir")

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Raises: ValueError for rates that are not positive, or without a practical ratio."""
        if from_hz <= 0 or to_hz <= 0:
            raise ValueError(f"sample rates must be positive, not {from_hz} Hz and {to_hz} Hz")
        self._plan = None if from_hz == to_hz else _plan(from_hz, to_hz)
        self._slab_bytes = max(1, from_hz * _SLAB_MS // 1000) * PCM16_SAMPLE_BYTES
        self.fir = None if self._plan is None else new_fir(from_hz, to_hz)
        """The same filter, compiled; None where that was not built."""
        self.reset()

    @property
    def delay_ms(self) -> float:
        """The group delay, the same at all frequencies: how much later sound comes out than it went in."""
        return self._plan.delay_ms if self._plan else 0.0

    def reset(self) -> None:
        """Forget all that was pushed: the next sample is the first of a new stream."""
        if self.fir is not None:
            self.fir.reset()
        self._received = 0
        self._produced = 0
        # `_tail` holds the inputs from position `_keep_from` (of the whole stream) up to `_received`.
        self._keep_from = -self._plan.history if self._plan else 0
        self._tail = bytes(-self._keep_from * PCM16_SAMPLE_BYTES)

    def push(self, pcm16: bytes) -> bytes:
        """Take any number of samples and return those that are ready, both as 16-bit PCM.

        Raises:
            ValueError: half a sample at the end; the state is as before.
        """
        if len(pcm16) % PCM16_SAMPLE_BYTES:
            raise ValueError(f"{len(pcm16)} bytes are no whole number of 16-bit samples")
        plan = self._plan
        if plan is None:
            return pcm16
        if self.fir is not None:
            return self.fir.push(pcm16)
        size = self._slab_bytes
        if len(pcm16) <= size:
            return self._slab(plan, pcm16) if pcm16 else b""
        starts = range(0, len(pcm16), size)
        return b"".join([self._slab(plan, pcm16[start : start + size]) for start in starts])

    def flush(self) -> bytes:
        """The rest of the stream, by pushing silence for the filter's delay; then `reset`."""
        rest = b""
        if self._plan and (self.fir.received if self.fir is not None else self._received):
            rest = self.push(bytes(self._plan.delay_in * PCM16_SAMPLE_BYTES))
        self.reset()
        return rest

    def _slab(self, plan: _Plan, pcm16: bytes) -> bytes:
        self._received += len(pcm16) // PCM16_SAMPLE_BYTES
        # Output m needs the input at floor(m * down / up) and older ones, so all below this are ready.
        ready = -(-self._received * plan.up // plan.down)
        first_period = self._produced // plan.period_out
        periods = -(-ready // plan.period_out) - first_period
        # Inputs that have not come count as zero here; the outputs that need them are cut off below and
        # made again when they have come.
        needed = (periods - 1) * plan.period_in + plan.span
        held = self._tail + pcm16
        missing = needed * PCM16_SAMPLE_BYTES - len(held)
        samples = np.frombuffer(held + bytes(missing) if missing > 0 else held, "<i2")
        outputs = _products(plan, samples.astype(np.float64), periods)
        skip = first_period * plan.period_out
        pcm = _to_pcm16(outputs[self._produced - skip : ready - skip])
        self._keep(plan, held, ready)
        return pcm

    def _keep(self, plan: _Plan, held: bytes, ready: int) -> None:
        """Drop the inputs that no output from `ready` on can need."""
        keep_from = ready // plan.period_out * plan.period_in - plan.history
        self._tail = held[(keep_from - self._keep_from) * PCM16_SAMPLE_BYTES :]
        self._keep_from = keep_from
        self._produced = ready


def new_fir(from_hz: int, to_hz: int) -> _express.Fir | None:
    """The filter of this pair of rates in its compiled form; None where that was not built."""
    if not flow.IS_COMPILED:
        return None
    from gateway import _express

    up, down, taps, length = _phases(from_hz, to_hz)
    return _express.Fir(up, down, taps, length)


@lru_cache(maxsize=64)
def _phases(from_hz: int, to_hz: int) -> tuple[int, int, bytes, int]:
    """Ratio, and each phase's taps as doubles, the newest sample's first, all of one length."""
    plan = _plan(from_hz, to_hz)
    exact = np.rint(_prototype(plan.up, from_hz, to_hz) * COEFFICIENT_SCALE) / COEFFICIENT_SCALE
    length = math.ceil(len(exact) / plan.up)
    table = np.zeros((plan.up, length))
    for phase in range(plan.up):
        taps = exact[phase :: plan.up]
        table[phase, : len(taps)] = taps
    return plan.up, plan.down, table.tobytes(), length


def _products(plan: _Plan, samples: Floats, periods: int) -> Floats:
    """The outputs of `periods` whole periods; `samples` starts with the history of the first."""
    step = plan.period_in * samples.itemsize
    if len(plan.tables) == 1:
        windows: Floats = np.ndarray(
            (periods, plan.width), np.float64, samples, 0, (step, samples.itemsize)
        )
        # BLAS takes no overlapping rows; without the copy numpy falls back to a slow loop.
        outputs: Floats = np.dot(windows.copy(), plan.tables[0])
        return outputs.ravel()
    spans: Floats = np.ndarray(
        (periods, plan.span), np.float64, samples, 0, (step, samples.itemsize)
    )
    windows = spans.take(plan.offsets, axis=1)
    return (windows[:, :, None, :] @ plan.tables).ravel()


def _to_pcm16(values: Floats) -> bytes:
    """Round and saturate; `values` is overwritten."""
    np.rint(values, out=values)
    np.minimum(values, _HIGHEST, out=values)
    np.maximum(values, _LOWEST, out=values)
    return values.astype("<i2").tobytes()
