"""Playout: pace, lead, catch-up, underruns, flush."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.playout import BYTES_PER_S, Playout
from gateway.settings import MediaSettings

SETTINGS = MediaSettings()
SECOND = bytes(range(200)) * 40


def play(playout, start_s, stop_s, step_s=0.02):
    """Tick on a 20 ms grid; returns [(time, bytes)] of what was sent."""
    sent = []
    steps = round((stop_s - start_s) / step_s)
    for n in range(steps + 1):
        now_s = start_s + n * step_s
        if playout.due_s <= now_s and (audio := playout.take(now_s)):
            sent.append((round(now_s - start_s, 3), audio))
    return sent


def test_empty_playout_is_never_due():
    """Nothing to play, nothing to do."""
    playout = Playout(SETTINGS)
    assert playout.due_s == math.inf
    assert playout.take(1.0) == b""


def test_first_take_builds_the_lead_at_once():
    """The first words leave in one message as long as the lead; then one frame a tick."""
    playout = Playout(SETTINGS)
    playout.push(SECOND, 5.0)
    sent = play(playout, 5.0, 5.2)
    assert [len(audio) for _, audio in sent[:4]] == [800, 160, 160, 160]
    assert [at for at, _ in sent[:4]] == [0.0, 0.02, 0.04, 0.06]


def test_audio_comes_out_whole_and_in_order():
    """Pacing neither loses, repeats nor changes a byte, whatever the chunks' lengths."""
    playout = Playout(SETTINGS)
    chunks = [SECOND[:1], SECOND[1:1234], SECOND[1234:1237], SECOND[1237:]]
    for chunk in chunks:
        playout.push(chunk, 0.0)
    assert b"".join(audio for _, audio in play(playout, 0.0, 2.0)) == SECOND


def test_chunk_that_completes_a_frame_keeps_the_lead_up():
    """A rest shorter than a frame may wait, but not once there is more behind it."""
    playout = Playout(SETTINGS)
    playout.push(SECOND[:900], 0.0)
    assert len(playout.take(0.0)) == 800
    playout.push(SECOND, 0.02)
    assert playout.due_s == 0.02
    assert len(playout.take(0.02)) == 160
    assert round(playout.horizon_s, 6) == 0.12


def test_enough_audio_lifts_the_hold_on_the_first_words():
    """The rest of the waiting time is not waited for."""
    playout = Playout(SETTINGS)
    playout.burstiness_s = 0.2
    playout.push(SECOND[:80], 1.0)
    assert playout.take(1.0) == b""
    assert playout.due_s == 1.2
    playout.push(SECOND, 1.05)
    assert playout.due_s == 1.05
    assert playout.take(1.05)


def test_underrun_in_a_turn_that_began_behind_another_is_counted():
    """The next reply often comes while the one before it is still queued; it may stall all the same."""
    playout = Playout(SETTINGS)
    playout.push(SECOND, 0.0)
    playout.end_turn()
    playout.push(SECOND, 0.5)
    play(playout, 0.0, 2.5)
    assert playout.queued_bytes == 0
    playout.push(SECOND, 2.6)
    assert playout.underruns == 1
    assert round(playout.underrun_ms) == 600


def test_jittering_ticks_do_not_alternate_between_none_and_two_frames():
    """A tick a little early or late still sends one frame."""
    playout = Playout(SETTINGS)
    playout.push(SECOND, 0.0)
    playout.take(0.0)
    sizes = [len(playout.take(0.02 * n + (0.003 if n % 2 else -0.003))) for n in range(1, 30)]
    assert sizes == [160] * 29


def test_lead_stays_at_its_target_in_steady_play():
    """Twilio never holds more than the lead, nor runs dry."""
    playout = Playout(SETTINGS)
    playout.push(SECOND * 5, 0.0)
    for n in range(200):
        playout.take(0.02 * n)
        assert 0.079 <= playout.horizon_s - 0.02 * n <= 0.101


def test_late_tick_catches_up_without_a_gap():
    """A stall shorter than the lead is made good with one longer message and no underrun."""
    playout = Playout(SETTINGS)
    playout.push(SECOND, 0.0)
    playout.take(0.0)
    assert len(playout.take(0.08)) == 4 * 160
    assert playout.late_underruns == 0


def test_tick_later_than_the_lead_is_an_underrun_of_ours():
    """Audio was there and Twilio ran dry: counted with its length, and blamed on lateness."""
    playout = Playout(SETTINGS)
    playout.push(SECOND, 0.0)
    playout.take(0.0)
    playout.take(0.25)
    assert playout.late_underruns == 1
    assert math.isclose(playout.late_ms, 150.0, abs_tol=0.1)
    assert playout.underruns == 0


def test_agent_that_is_late_in_mid_turn_is_an_underrun_of_the_agent():
    """The queue ran empty in the middle of a turn: counted when the next chunk of the turn comes."""
    playout = Playout(SETTINGS)
    playout.push(SECOND[:1600], 0.0)
    play(playout, 0.0, 0.3)
    playout.push(SECOND[:1600], 0.5)
    assert playout.underruns == 1
    assert math.isclose(playout.underrun_ms, 300.0, abs_tol=1.0)
    assert playout.late_underruns == 0


def test_silence_between_turns_is_no_underrun():
    """Running dry after the agent has finished is how conversations go."""
    playout = Playout(SETTINGS)
    playout.push(SECOND[:1600], 0.0)
    play(playout, 0.0, 0.3)
    playout.end_turn()
    playout.push(SECOND[:1600], 0.5)
    assert playout.underruns == 0


def test_pause_of_seconds_is_no_underrun_even_without_an_end_of_turn():
    """Older agents do not mark the end of a reply; a long silence is one."""
    playout = Playout(SETTINGS)
    playout.push(SECOND[:1600], 0.0)
    play(playout, 0.0, 0.3)
    playout.push(SECOND[:1600], 4.0)
    assert playout.underruns == 0


def test_bursty_agent_raises_the_lead_and_calm_lowers_it_again():
    """The lead follows the lateness that was seen, within its bound."""
    playout = Playout(SETTINGS)
    now_s = 0.0
    playout.push(SECOND[:1600], now_s)
    for _ in range(5):
        now_s += 0.35  # 200 ms of audio every 350 ms
        play(playout, now_s - 0.35, now_s)
        playout.push(SECOND[:1600], now_s)
    raised = playout.lead_s
    assert 0.1 < raised <= 0.4
    for _ in range(60):
        playout.push(SECOND[:1600], now_s)
        now_s += 0.1
        play(playout, now_s - 0.1, now_s)
    assert playout.lead_s < 0.105


def test_turn_after_a_stall_is_held_back_a_little():
    """An agent that stalled gets a cushion at the next turn, bounded by `prebuffer_max_ms`."""
    playout = Playout(SETTINGS)
    playout.push(SECOND[:800], 0.0)
    play(playout, 0.0, 0.2)
    playout.push(SECOND[:800], 0.3)
    play(playout, 0.3, 0.5)
    playout.end_turn()
    playout.push(SECOND[:400], 5.0)
    sent = play(playout, 5.0, 5.6)
    assert 0.1 <= sent[0][0] <= 0.2


def test_calm_agent_is_not_held_back():
    """Without a stall the first words leave in the instant they come."""
    playout = Playout(SETTINGS)
    playout.push(SECOND[:400], 5.0)
    assert playout.take(5.0) != b""


def test_rest_of_a_turn_shorter_than_a_frame_is_sent_before_twilio_runs_dry():
    """73 bytes are not kept for ever, and not padded: what the agent said is what is sent."""
    playout = Playout(SETTINGS)
    playout.push(SECOND[:1673], 0.0)
    sent = play(playout, 0.0, 0.5)
    assert b"".join(audio for _, audio in sent) == SECOND[:1673]
    assert playout.underruns == playout.late_underruns == 0


def test_overrun_drops_the_newest_and_counts_it():
    """More than the bound is refused, what is queued stays whole."""
    playout = Playout(MediaSettings(playout_max_ms=1_000))
    assert playout.push(SECOND + SECOND, 0.0) == 8_000
    assert playout.push(b"x", 0.0) == 0
    assert playout.overrun_bytes == 8_001
    assert b"".join(audio for _, audio in play(playout, 0.0, 2.0)) == SECOND


def test_flush_empties_queue_and_lead():
    """A barge-in leaves nothing to play; the next turn starts at once."""
    playout = Playout(SETTINGS)
    playout.push(SECOND, 0.0)
    play(playout, 0.0, 0.1)
    assert playout.flush(0.1) == (8_000 - 800 - 5 * 160, 800)
    assert playout.take(0.12) == b""
    playout.push(SECOND, 0.2)
    assert len(playout.take(0.2)) == 800
    assert playout.underruns == 0


def test_frames_of_60_ms_are_sent_a_third_as_often():
    """Longer frames mean fewer messages with the same audio."""
    playout = Playout(MediaSettings(frame_ms=60, lead_ms=120))
    playout.push(SECOND, 0.0)
    sent = play(playout, 0.0, 2.0)
    assert b"".join(audio for _, audio in sent) == SECOND
    assert {len(audio) for _, audio in sent[1:-1]} == {480}


class PlayoutMachine(RuleBasedStateMachine):
    """Playout against a model of a few lines: a byte string, and Twilio's clock."""

    def __init__(self):
        super().__init__()
        self.settings = MediaSettings(playout_max_ms=2_000)
        self.playout = Playout(self.settings)
        self.now_s = 100.0
        self.queue = b""
        self.twilio_until_s = 0.0
        self.counter = 0

    @rule(size=st.integers(0, 6_000))
    def push(self, size):
        chunk = bytes((self.counter + n) % 251 for n in range(size))
        self.counter += size
        accepted = self.playout.push(chunk, self.now_s)
        assert accepted == min(size, 16_000 - len(self.queue))
        self.queue += chunk[:accepted]

    @rule(ms=st.floats(0.1, 400.0))
    def wait_and_take(self, ms):
        self.now_s += ms / 1000.0
        due = self.playout.due_s <= self.now_s
        audio = self.playout.take(self.now_s)
        assert self.queue.startswith(audio)
        assert due or not audio
        self.queue = self.queue[len(audio) :]
        self.twilio_until_s = max(self.twilio_until_s, self.now_s) + len(audio) / BYTES_PER_S
        lead_s = self.twilio_until_s - self.now_s
        assert lead_s <= self.settings.lead_max_ms / 1000 + 0.02 + 1e-6

    @rule()
    def flush(self):
        self.playout.flush(self.now_s)
        self.queue = b""
        self.twilio_until_s = min(self.twilio_until_s, self.now_s)

    @rule()
    def end_turn(self):
        self.playout.end_turn()

    @invariant()
    def bytes_balance(self):
        playout = self.playout
        assert playout.queued_bytes == len(self.queue)
        assert playout.pushed_bytes == (
            playout.sent_bytes
            + playout.queued_bytes
            + playout.overrun_bytes
            + playout.flushed_bytes
        )

    @invariant()
    def something_queued_is_always_due(self):
        if self.queue:
            assert self.playout.due_s < self.now_s + 1.0


TestPlayoutMachine = PlayoutMachine.TestCase
TestPlayoutMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


@settings(deadline=None)
@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=20))
def test_take_on_a_grid_never_leaves_twilio_dry(sizes):
    """On a true grid, audio that is here on time never underruns."""
    playout = Playout(SETTINGS)
    for size in sizes:
        playout.push(bytes(size), 0.0)
    total = sum(sizes)
    sent = play(playout, 0.0, total / BYTES_PER_S + 0.5)
    assert sum(len(audio) for _, audio in sent) == total
    assert playout.late_underruns == 0
    assert playout.underruns == 0
