"""Rules that the cases do not reach, one sentence of a rule a test: text messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy.facts import Sms
from tests.policy.families_rig import DAY, MINUTE, NOON, NY, fires
from tests.policy.worlds import at, express

TEXT = Sms("a2p_10dlc", stopped=False, is_first=True, names_sender=True, has_opt_out_text=True)


@pytest.mark.parametrize(
    ("sms", "expected"),
    [
        (TEXT, ()),
        (replace(TEXT, sender="unregistered"), ("SMS-SENDER",)),
        (replace(TEXT, stopped=True), ("SMS-STOP",)),
        (replace(TEXT, has_opt_out_text=False), ("SMS-TEXT",)),
        (replace(TEXT, has_opt_out_text=False, is_first=False), ()),
        (None, ("SMS-SENDER", "SMS-STOP", "SMS-TEXT")),
    ],
)
def test_message_keeps_what_only_messages_have_to(sms, expected):
    """The rules of calls about lists, consent and hours bind it beside these."""
    assert fires(replace(NY, channel="sms", sms=sms)) == expected


def test_message_at_night_or_without_consent_is_refused_like_a_call():
    """Quiet hours are the same; the consent has to name messages."""
    night = replace(NY, channel="sms", sms=TEXT, at=at("2027-01-13T05:00:00Z"))
    assert fires(night) == ("TIME-FED",)
    by_voice = (express(NOON - DAY, channels=frozenset({"voice_ai"})),)
    assert "CON-NONE" in fires(replace(NY, channel="sms", sms=TEXT, consents=by_voice))


def test_confirmation_of_a_stop_goes_out_at_night_to_whom_opted_out_and_only_at_once():
    """One text, within five minutes."""
    from policy.facts import OptOut

    reply = replace(TEXT, stopped=True, is_reply="stop_confirmation", in_reply_to_at=NOON - MINUTE)
    facts = replace(
        NY, channel="sms", sms=reply, consents=(), opt_out=OptOut(NY.to_number, NOON, "sms")
    )
    assert fires(facts) == ()
    assert fires(replace(facts, at=NOON + 5 * MINUTE)) == ("SMS-REPLY",)
