"""The simulated agent understands a recording because it heard it, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from bench.sim_elevenlabs import prompt, speech, words

CALLER = ("caller_complaint", "caller_barge_in", "caller_sorry", "caller_stop_calling")
SILENCE = bytes(2 * 4000)


@pytest.mark.parametrize("name", CALLER)
def test_recording_is_understood_through_a_telephone_and_any_other_is_not(name):
    """µ-law, silence around it; the other three recordings are not taken for it."""
    clip = prompt(name)
    sound = SILENCE + speech.ulaw_to_pcm16(clip.ulaw) + SILENCE
    assert words.understood(sound, CALLER) == clip.text
    assert words.understood(sound, set(CALLER) - {name}) == words.NOT_UNDERSTOOD


@pytest.mark.parametrize("rate_hz", [16000, 24000, 48000])
def test_recording_is_understood_when_it_was_resampled(rate_hz):
    """An agent may listen in another format."""
    clip = prompt("caller_stop_calling")
    wide = speech.resample(clip.pcm16, 8000, rate_hz)
    assert words.understood(speech.resample(wide, rate_hz, 8000), CALLER) == clip.text


def test_two_recordings_are_understood_in_the_order_in_which_they_were_said():
    """Whichever order they are known in."""
    one, two = prompt("caller_stop_calling"), prompt("caller_sorry")
    assert words.understood(one.pcm16 + two.pcm16, CALLER) == f"{one.text} {two.text}"
    assert words.understood(two.pcm16 + one.pcm16, CALLER) == f"{two.text} {one.text}"


def test_recording_with_a_frame_lost_is_understood_and_half_of_one_or_one_backwards_is_not():
    """What did not come was not heard."""
    clip = prompt("caller_stop_calling")
    middle = len(clip.pcm16) // 4 * 2
    lost = clip.pcm16[:middle] + bytes(320) + clip.pcm16[middle + 320 :]
    assert words.understood(lost, CALLER) == clip.text
    assert words.understood(clip.pcm16[:middle] + bytes(middle), CALLER) == words.NOT_UNDERSTOOD
    backwards = np.frombuffer(clip.pcm16, "<i2")[::-1].tobytes()
    assert words.understood(backwards, CALLER) == words.NOT_UNDERSTOOD
    assert words.understood(b"", CALLER) == words.NOT_UNDERSTOOD
