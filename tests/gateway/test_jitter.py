"""Caller audio placed by its media timestamps."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jitter import AGED, LATE, CallerTimeline
from gateway.settings import MediaSettings

SETTINGS = MediaSettings()


def place_steadily(timeline, count, *, start_ms=0, start_s=10.0):
    """Twenty-millisecond frames, each arriving exactly when it was spoken."""
    return [timeline.place(start_ms + 20 * n, 20.0, start_s + 0.02 * n) for n in range(count)]


def test_steady_frames_need_no_silence():
    """Frames in order and in time go through untouched."""
    timeline = CallerTimeline(SETTINGS)
    assert place_steadily(timeline, 100) == [0.0] * 100
    assert timeline.placed_frames == 100
    assert timeline.jitter_ms < 0.001


def test_first_frame_late_into_the_stream_is_no_gap():
    """What was said before we were there is not made up for with silence."""
    timeline = CallerTimeline(SETTINGS)
    assert timeline.place(2_000, 20.0, 1.0) == 0.0
    assert timeline.gap_ms == 0.0


def test_small_timestamp_wobble_is_not_filled():
    """Silence inside speech would end the caller's turn, so a few milliseconds are left alone."""
    timeline = CallerTimeline(SETTINGS)
    assert timeline.place(0, 20.0, 0.0) == 0.0
    assert timeline.place(25, 20.0, 0.02) == 0.0
    assert timeline.place(45, 20.0, 0.04) == 0.0
    assert timeline.gap_count == 0


def test_wobble_that_adds_up_is_filled_in_the_end():
    """Many small skips are a true loss of time and come back as one piece of silence."""
    timeline = CallerTimeline(SETTINGS)
    fills = [timeline.place(30 * n, 20.0, 0.03 * n) for n in range(12)]
    assert sum(fill for fill in fills if fill > 0) == 100.0


def test_skipped_frames_are_filled_with_their_length():
    """A jump of the timestamps is silence for exactly the missing time."""
    timeline = CallerTimeline(SETTINGS)
    place_steadily(timeline, 5)
    assert timeline.place(5 * 20 + 300, 20.0, 10.4) == 300.0
    assert timeline.gap_count == 1
    assert timeline.gap_ms == 300.0


def test_huge_jump_is_filled_up_to_its_bound():
    """A broken timestamp cannot make us send minutes of silence."""
    timeline = CallerTimeline(SETTINGS)
    place_steadily(timeline, 5)
    assert timeline.place(25_000, 20.0, 10.1) == SETTINGS.gap_fill_max_ms


def test_timestamp_from_the_far_future_is_dropped_and_harms_no_later_frame():
    """One broken number must not make repeats of all that follows, nor a recording of a day's silence."""
    timeline = CallerTimeline(SETTINGS)
    place_steadily(timeline, 5)
    assert timeline.place(86_400_000, 20.0, 10.1) == LATE
    assert place_steadily(timeline, 50, start_ms=100, start_s=10.1) == [0.0] * 50
    assert (timeline.late_frames, timeline.placed_frames) == (1, 55)


def test_gap_as_long_as_the_silence_on_the_wire_is_no_nonsense():
    """Five minutes without a frame, on the wire and by the timestamps: filled up to the bound."""
    timeline = CallerTimeline(SETTINGS)
    place_steadily(timeline, 5)
    assert timeline.place(300_000, 20.0, 310.0) == SETTINGS.gap_fill_max_ms


def test_delay_that_stays_is_accepted_after_two_seconds():
    """A caller whose every frame is five seconds old from now on must not stay unheard for minutes."""
    timeline = CallerTimeline(SETTINGS)
    place_steadily(timeline, 50)
    placed = place_steadily(timeline, 200, start_ms=1_000, start_s=16.0)
    assert placed[:100] == [AGED] * 100
    assert placed[102:] == [0.0] * 98


def test_repeated_frame_is_late():
    """A frame that was there already is dropped and counted."""
    timeline = CallerTimeline(SETTINGS)
    place_steadily(timeline, 10)
    assert timeline.place(20, 20.0, 10.2) == LATE
    assert timeline.late_frames == 1


def test_stall_then_burst_drops_the_oldest_and_keeps_the_newest_second():
    """After a network stall of 3 s the first two seconds of the backlog are not replayed."""
    timeline = CallerTimeline(SETTINGS)
    place_steadily(timeline, 50)
    results = [timeline.place(1_000 + 20 * n, 20.0, 14.0) for n in range(150)]
    aged = results.count(AGED)
    assert 95 <= aged <= 101
    assert AGED not in results[aged:]
    assert timeline.gap_ms == 0.0


def test_slow_clock_drift_is_not_taken_for_a_stall():
    """Two clocks 50 ppm apart are 0.7 s off after four hours; no frame is dropped for it."""
    timeline = CallerTimeline(SETTINGS)
    for n in range(0, 4 * 3600 * 50, 7):
        timeline.place(20 * n, 140.0, 0.02 * n * (1 + 50e-6))
    assert timeline.aged_frames == 0
    assert timeline.late_frames == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60_000), st.floats(0.0, 100.0)), min_size=1, max_size=60))
def test_every_frame_is_counted_once(frames):
    """Whatever comes in whatever order: placed + late + aged = frames in, and fills are bounded."""
    timeline = CallerTimeline(SETTINGS)
    results = [timeline.place(timestamp, 20.0, now_s) for timestamp, now_s in frames]
    counted = timeline.placed_frames + timeline.late_frames + timeline.aged_frames
    assert counted == len(frames)
    assert all(result <= SETTINGS.gap_fill_max_ms for result in results)
    assert sum(r for r in results if r > 0) == timeline.gap_ms
