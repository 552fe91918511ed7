"""Speech on a line, whole, in pieces and not at all."""

import pytest

from bench.hearing import begins, share
from bench.sim_elevenlabs import prompt

SILENCE = b"\xff" * 4_000
SPEECH = prompt("agent_hold").ulaw
OTHER = prompt("caller_sorry").ulaw


def test_share_of_whole_speech_is_one_and_of_other_speech_nearly_nothing():
    """Ten milliseconds of two voices are hardly ever the same to the bit."""
    assert share(SPEECH, SILENCE + SPEECH + SILENCE) == 1.0
    assert share(SPEECH, SILENCE + OTHER) < 0.05


def test_share_of_speech_with_a_gap_in_it_is_only_a_little_less():
    """A gap costs the piece that it cuts."""
    line = SPEECH[:9_999] + SILENCE + SPEECH[9_999:]
    assert 0.98 < share(SPEECH, line) < 1.0


def test_share_of_a_half_is_a_half_and_order_counts():
    """The second half in front of the first one is half of the speech."""
    half = len(SPEECH) // 2
    assert 0.35 < share(SPEECH, SPEECH[:half]) < 0.65
    assert share(SPEECH, SPEECH[half:] + SPEECH[:half]) < 0.7


def test_begins_is_the_first_voiced_piece():
    """Where somebody begins to be heard; silence has no beginning."""
    place = begins(SPEECH, SILENCE + SPEECH)
    assert place is not None
    assert len(SILENCE) <= place < len(SILENCE) + 4_000
    assert begins(SPEECH, SILENCE) is None


def test_silence_cannot_be_looked_for():
    """It is on every line."""
    with pytest.raises(ValueError, match="silence"):
        share(SILENCE, SILENCE)
