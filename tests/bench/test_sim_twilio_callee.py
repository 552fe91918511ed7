"""The behaviour of a simulated caller, in explicit time."""

from __future__ import annotations

import pytest

from bench.sim_twilio import Caller, HangsUp, Presses, Says
from bench.sim_twilio.callee import Behaviour
from bench.sim_twilio.sound import SILENCE_FRAME

LOUD = b"\x10\x90" * 80
WORD = b"\x20\xa0" * 800  # 200 ms


def live(behaviour: Behaviour, agent: list[tuple[float, float]], until_s: float):
    """Run for `until_s` with the agent heard in the given intervals; returns what happened."""
    said, keys, hung_up_s = [], [], None
    for step in range(round(until_s / 0.02)):
        now_s = step * 0.02
        if step:
            speaking = any(a <= now_s - 0.02 + 1e-9 and now_s <= b + 1e-9 for a, b in agent)
            behaviour.ear.hear(LOUD if speaking else SILENCE_FRAME, now_s)
        keys += [(round(now_s, 2), key) for key in behaviour.keys_due(now_s)]
        if hung_up_s is None and behaviour.hangs_up(now_s):
            hung_up_s = round(now_s, 2)
        said.append(behaviour.speak(now_s))
    return b"".join(said), keys, hung_up_s


def begun(behaviour: Behaviour) -> list[float]:
    return [round(at_s, 2) for at_s, _ in behaviour.said]


def test_speech_at_a_time_is_said_there_between_silence():
    """A word at 0.5 s occupies exactly its place; the rest is µ-law silence."""
    behaviour = Behaviour(Caller(says=[Says(audio=WORD, at_s=0.5)]))
    said, _, _ = live(behaviour, [], 1.0)
    assert said == b"\xff" * 4000 + WORD + b"\xff" * 2400


def test_speech_of_odd_length_is_padded_with_silence():
    """The last frame is filled up."""
    behaviour = Behaviour(Caller(says=[Says(audio=WORD[:200], at_s=0)]))
    said, _, _ = live(behaviour, [], 0.06)
    assert said == WORD[:200] + b"\xff" * 280


def test_barge_in_waits_until_the_agent_was_heard_for_so_long():
    """Speech begins when the second utterance has been heard for a second."""
    says = [Says(audio=WORD, after_agent_speaking_s=1.0, utterance=2)]
    behaviour = Behaviour(Caller(says=says))
    live(behaviour, [(0.2, 1.6), (3.0, 6.0)], 6.0)
    assert begun(behaviour) == [4.0]


def test_speech_after_silence_needs_the_agent_to_have_spoken():
    """Silence counts from the end of what the agent said, and each answer waits for new speech."""
    says = [Says(audio=WORD, after_agent_silence_s=0.6) for _ in range(2)]
    behaviour = Behaviour(Caller(says=says))
    live(behaviour, [(1.0, 2.0), (4.0, 5.0)], 8.0)
    assert begun(behaviour) == [2.6, 5.6]


def test_speech_with_latest_time_does_not_wait_for_ever():
    """An agent that never speaks does not hang the script."""
    says = [Says(audio=WORD, after_agent_silence_s=0.6, latest_s=3.0)]
    behaviour = Behaviour(Caller(says=says))
    live(behaviour, [], 4.0)
    assert begun(behaviour) == [3.0]


def test_clear_ends_an_utterance():
    """After an interruption the next audio is a new utterance, however soon it comes."""
    behaviour = Behaviour(Caller())
    behaviour.ear.hear(LOUD, 0.02)
    behaviour.ear.cut()
    assert behaviour.ear.speaking_for_s(0.04) is None
    behaviour.ear.hear(LOUD, 0.06)
    assert behaviour.ear.utterance == 2


def test_keys_are_pressed_one_after_another():
    """Digits come a quarter of a second apart, `w` waits half a second."""
    behaviour = Behaviour(Caller(presses=[Presses(digits="1w#", at_s=0.1)]))
    _, keys, _ = live(behaviour, [], 2.0)
    assert keys == [(0.1, "1"), (0.86, "#")]


def test_hang_up_after_silence_waits_for_the_last_word():
    """The caller says all there is to say, hears the answer, and then hangs up."""
    caller = Caller(says=[Says(audio=WORD, at_s=2.0)], hangs_up=HangsUp(after_agent_silence_s=0.5))
    _, _, hung_up_s = live(Behaviour(caller), [(0.5, 1.0), (3.0, 4.0)], 6.0)
    assert hung_up_s == 4.5


def test_hang_up_at_a_time_interrupts_speech():
    """A time is a time."""
    caller = Caller(says=[Says(audio=WORD * 10, at_s=0)], hangs_up=HangsUp(at_s=1.0))
    _, _, hung_up_s = live(Behaviour(caller), [], 2.0)
    assert hung_up_s == 1.0


def test_when_without_or_with_two_moments_is_refused():
    """A script that cannot be followed is an error at once."""
    with pytest.raises(ValueError, match="exactly one"):
        Says(audio=WORD)
    with pytest.raises(ValueError, match="exactly one"):
        HangsUp(at_s=1, after_agent_silence_s=1)
    with pytest.raises(ValueError, match="result must be"):
        Caller(result="maybe")
