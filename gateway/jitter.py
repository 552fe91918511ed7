"""Caller audio in its true order and time: gaps, repeats and stale bursts.

Media Streams runs over TCP, so frames are not reordered; what happens is that Twilio skips some
(timestamps jump) or that the network stalls and then delivers a backlog at once. Audio is placed by its
media timestamp, never by its arrival. Pure.
"""

from __future__ import annotations

from math import isnan, nan

from gateway.flow import CallerFlow
from gateway.settings import MediaSettings

LATE = -1
"""`place()`: this audio was there already (a repeat), or its time stamp makes no sense; drop it."""
AGED = -2
"""`place()`: the network held it for so long that the talk has moved on; drop it."""

FUTURE_MAX_MS = 30_000.0
"""Audio cannot be further ahead of the clock than the first frame was late; beyond this it is nonsense."""
AGED_MAX_S = 2.0
"""A backlog arrives within moments. Audio that stays old for so long is none: the delay is here to stay."""

# Slow upward leak of the smallest seen delay, so that two clocks that drift apart (50 ppm are 0.7 s in four
# hours) do not look like a stall. One frame in 50 a second: a time constant of 200 s.
_BASE_LEAK = 1e-4


class CallerTimeline(CallerFlow):
    """Decides for each piece of caller audio: play it, fill a gap before it, or drop it.

    Invariant: every frame is counted in exactly one of `placed_frames`, `late_frames`, `aged_frames`.
    """

    __slots__ = (
        "_fill_max_ms",
        "_fill_min_ms",
        "aged_frames",
        "aged_ms",
        "gap_count",
        "gap_ms",
        "late_frames",
    )

    def __init__(self, settings: MediaSettings) -> None:
        super().__init__(float(settings.caller_audio_max_ms))
        self._fill_min_ms = float(settings.gap_fill_min_ms)
        self._fill_max_ms = float(settings.gap_fill_max_ms)
        self.late_frames = 0
        self.aged_frames = 0
        self.aged_ms = 0.0
        self.gap_count = 0
        self.gap_ms = 0.0

    def place(self, timestamp_ms: int, duration_ms: float, now_s: float) -> float:
        """Place audio that begins at media time `timestamp_ms` and arrived at `now_s`.

        Returns the milliseconds of silence to put before it (0.0 nearly always), or LATE, or AGED.
        Small deviations of the timestamps are not filled: silence inside speech makes an agent believe
        that the caller has finished.
        """
        transit_ms = now_s * 1000.0 - timestamp_ms
        expected_ms = self.next_ms
        if expected_ms == timestamp_ms and isnan(self.aged_since_s):
            # The usual frame: exactly where it was expected. (Kept flat: it comes 50 times a second.)
            lag_ms = transit_ms - self.base_ms
            if 0.0 <= lag_ms <= self.lag_max_ms and lag_ms <= self.aged_max_ms:
                self.jitter_ms += (abs(transit_ms - self.last_transit_ms) - self.jitter_ms) / 16.0
                self.last_transit_ms = transit_ms
                self.base_ms += lag_ms * _BASE_LEAK
                self.next_ms = timestamp_ms + duration_ms
                self.placed_frames += 1
                return 0.0
        if isnan(expected_ms):
            self.next_ms = timestamp_ms + duration_ms
            self.base_ms = self.last_transit_ms = transit_ms
            self.placed_frames += 1
            return 0.0
        if transit_ms < self.base_ms - FUTURE_MAX_MS:
            # Believing it would make everything that follows a repeat.
            self.late_frames += 1
            return LATE
        lag_ms = self._lag(transit_ms)
        ahead_ms = timestamp_ms - expected_ms
        if ahead_ms + duration_ms <= -self._fill_min_ms:
            self.late_frames += 1
            return LATE
        if self._is_aged(lag_ms, transit_ms, now_s):
            # The time it stood for is gone as well: no silence is put in its place.
            self.next_ms = timestamp_ms + duration_ms
            self.aged_frames += 1
            self.aged_ms += duration_ms
            return AGED
        self.placed_frames += 1
        if ahead_ms < self._fill_min_ms:
            self.next_ms = expected_ms + duration_ms
            return 0.0
        self.next_ms = timestamp_ms + duration_ms
        fill_ms = min(ahead_ms, self._fill_max_ms)
        self.gap_count += 1
        self.gap_ms += fill_ms
        return fill_ms

    def _is_aged(self, lag_ms: float, transit_ms: float, now_s: float) -> bool:
        if lag_ms <= self.aged_max_ms:
            self.aged_since_s = nan
            return False
        if isnan(self.aged_since_s):
            self.aged_since_s = now_s
        if now_s - self.aged_since_s < AGED_MAX_S:
            return True
        self.aged_since_s = nan
        self.base_ms = transit_ms
        return False

    def _lag(self, transit_ms: float) -> float:
        """How much later than the quickest frame this one came; keeps jitter (RFC 3550, 6.4.1) too."""
        self.jitter_ms += (abs(transit_ms - self.last_transit_ms) - self.jitter_ms) / 16.0
        self.last_transit_ms = transit_ms
        lag_ms = transit_ms - self.base_ms
        if lag_ms <= 0.0:
            self.base_ms = transit_ms
            return 0.0
        self.base_ms += lag_ms * _BASE_LEAK
        if lag_ms > self.lag_max_ms:
            self.lag_max_ms = lag_ms
        return lag_ms
