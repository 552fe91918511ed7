"""Twilio's outbound buffer, with explicit time."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.sim_twilio.playout import Playout

FRAME = b"\x10" * 160


def test_playout_of_media_is_heard_in_real_time():
    """Half a second of audio pushed at 100 ms is heard from 100 to 600 ms, silence around it."""
    playout = Playout()
    playout.push(b"\x10" * 4000, 0.1)
    playout.advance(0.35)
    assert playout.queued_bytes == 2000
    playout.advance(1.0)
    assert playout.heard == b"\xff" * 800 + b"\x10" * 4000 + b"\xff" * 3200


def test_mark_after_media_is_echoed_when_it_was_played():
    """The echo is due at the end of the audio before it, not earlier."""
    playout = Playout()
    playout.push(FRAME * 10, 0.0)
    playout.mark("end", 0.0)
    assert playout.next_echo_s() == 0.2
    assert playout.advance(0.199) == []
    assert playout.advance(0.2) == ["end"]
    assert playout.next_echo_s() == math.inf


def test_mark_between_media_is_echoed_between():
    """Two marks come back at their own places."""
    playout = Playout()
    playout.push(FRAME, 0.0)
    playout.mark("a", 0.0)
    playout.push(FRAME, 0.0)
    playout.mark("b", 0.0)
    assert playout.advance(0.02) == ["a"]
    assert playout.advance(0.04) == ["b"]


def test_mark_on_empty_buffer_is_echoed_at_once():
    """Nothing is queued, so nothing has to be waited for."""
    playout = Playout()
    playout.advance(1.0)
    playout.mark("now", 1.0)
    assert playout.next_echo_s() <= 1.0
    assert playout.advance(1.0) == ["now"]


def test_clear_empties_the_buffer_and_returns_every_mark():
    """Marks of thrown-away audio come back at once, in order; what follows plays normally."""
    playout = Playout()
    playout.push(FRAME * 50, 0.0)
    playout.mark("a", 0.0)
    playout.push(FRAME * 50, 0.0)
    playout.mark("b", 0.0)
    playout.clear(0.5)
    assert playout.advance(0.5) == ["a", "b"]
    (clear,) = playout.clears
    assert (clear.at_s, clear.discarded_ms, clear.marks) == (0.5, 1500, 2)
    playout.push(b"\x20" * 160, 0.5)
    playout.advance(0.6)
    assert playout.heard == b"\x10" * 4000 + b"\x20" * 160 + b"\xff" * 640


def test_clear_of_empty_buffer_returns_marks_that_wait():
    """A clear when nothing is queued is counted and harmless."""
    playout = Playout()
    playout.clear(0.1)
    assert playout.advance(0.1) == []
    assert playout.clears[0].discarded_ms == 0


def test_gap_inside_an_utterance_is_an_underrun():
    """Audio that comes 60 ms after the buffer ran dry leaves a gap of 60 ms."""
    playout = Playout()
    playout.push(FRAME, 0.0)
    playout.push(FRAME, 0.08)
    (gap,) = playout.underruns
    assert (gap.at_s, gap.ms) == (0.02, 60)


def test_gap_between_utterances_or_after_clear_is_no_underrun():
    """A pause of a second is a pause; a clear ends the utterance."""
    playout = Playout()
    playout.push(FRAME, 0.0)
    playout.push(FRAME, 1.0)
    assert playout.underruns == []
    assert len(playout.gaps) == 1
    playout.clear(1.1)
    playout.push(FRAME, 1.2)
    assert len(playout.gaps) == 1


def test_lead_is_what_was_unplayed_when_audio_came():
    """The lead of every arrival is on record."""
    playout = Playout()
    playout.push(FRAME * 5, 0.0)
    playout.push(FRAME, 0.04)
    assert [(a.at_s, a.lead_ms, a.ms) for a in playout.arrivals] == [(0, 0, 100), (0.04, 60, 20)]


def test_audio_beyond_ten_minutes_is_dropped():
    """What fits is kept, the rest is dropped and reported."""
    playout = Playout()
    assert playout.push(b"\x10" * 4_799_000, 0.0) == 0
    assert playout.push(b"\x10" * 2_000, 0.0) == 1_000
    assert playout.queued_bytes == 4_800_000
    assert playout.dropped_bytes == 1_000


def test_playout_without_audio_kept_holds_a_bounded_tail():
    """A load run keeps the last second, still addressed by absolute position."""
    playout = Playout(keep_audio=False)
    playout.push(b"\x10" * 80_000, 0.0)
    for step in range(500):
        playout.advance(step * 0.02)
    assert len(playout.heard) <= 16_000
    assert playout.heard_between(79_000, 79_160) == b"\x10" * 160


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "mark", "clear", "wait"]), st.integers(0, 3000)),
        max_size=40,
    )
)
def test_playout_of_any_history_keeps_its_books(steps):
    """No byte is lost or invented, no mark is lost or reordered, heard follows the clock."""
    playout = Playout(capacity_bytes=8_000)
    now_s, sent, back = 0.0, [], []
    for number, (step, amount) in enumerate(steps):
        if step == "push":
            playout.push(b"\x10" * amount, now_s)
        elif step == "mark":
            sent.append(str(number))
            playout.mark(sent[-1], now_s)
        elif step == "clear":
            playout.clear(now_s)
        else:
            now_s += amount / 8000
        back += playout.advance(now_s)
        books = playout.played_bytes + playout.discarded_bytes + playout.dropped_bytes
        assert books + playout.queued_bytes == playout.received_bytes
        assert playout.queued_bytes <= 8_000
        assert back == sent[: len(back)]
        assert len(playout.heard) == math.floor(now_s * 8000 + 1e-3)
    now_s += 2
    assert back + playout.advance(now_s) == sent
    assert playout.heard.count(0x10) == playout.played_bytes
