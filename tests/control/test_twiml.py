"""TwiML documents, read back by an XML parser."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.twilio import twiml

NASTY = st.text(max_size=40)


def _verbs(document):
    root = ElementTree.fromstring(document.encode())
    assert root.tag == "Response"
    return list(root)


def test_connect_stream_has_no_action_and_trailing_verbs():
    """The stream has no `action`; an apology and a redirect stand behind it."""
    connect, say, redirect = _verbs(
        twiml.connect_stream(
            stream_url="wss://gw.example/media/T",
            name="call_1",
            status_callback="https://gw.example/twilio/stream?call_id=call_1&x=1",
            apology="Sorry. One moment.",
            continue_url="https://gw.example/twilio/continue?call_id=call_1&y=2",
        )
    )
    assert (connect.tag, connect.attrib) == ("Connect", {})
    (stream,) = connect
    assert stream.attrib == {
        "url": "wss://gw.example/media/T",
        "name": "call_1",
        "statusCallback": "https://gw.example/twilio/stream?call_id=call_1&x=1",
        "statusCallbackMethod": "POST",
    }
    assert (say.tag, say.text) == ("Say", "Sorry. One moment.")
    assert (redirect.tag, redirect.attrib) == ("Redirect", {"method": "POST"})
    assert redirect.text == "https://gw.example/twilio/continue?call_id=call_1&y=2"


def test_say_hangup_says_then_hangs_up():
    """Two verbs, in this order."""
    say, hangup = _verbs(twiml.say_hangup("Good <bye> & thanks"))
    assert (say.tag, say.text, hangup.tag) == ("Say", "Good <bye> & thanks", "Hangup")


def test_say_redirect_says_then_asks():
    """Two verbs, in this order."""
    say, redirect = _verbs(twiml.say_redirect("Moment", "https://gw.example/c?a=1&b=2"))
    assert (say.text, redirect.text) == ("Moment", "https://gw.example/c?a=1&b=2")


@pytest.mark.parametrize("reason", ["busy", "rejected"])
def test_reject_is_the_only_verb(reason):
    """`<Reject>` works only as the first verb."""
    (reject,) = _verbs(twiml.reject(reason))
    assert (reject.tag, reject.attrib) == ("Reject", {"reason": reason})


def test_reject_unknown_reason_raises():
    """Twilio knows two reasons."""
    with pytest.raises(ValueError, match="tired"):
        twiml.reject("tired")


@settings(deadline=None)
@given(text=NASTY, url=NASTY, name=NASTY)
def test_documents_any_text_stays_well_formed(text, url, name):
    """No text can break out of its place or make the document unreadable."""
    _, say, _ = _verbs(
        twiml.connect_stream(
            stream_url="wss://x/", name="n", status_callback="s", apology=text, continue_url="c"
        )
    )
    assert list(say) == []
    assert len(_verbs(twiml.say_hangup(text))) == 2


def test_say_long_text_is_cut():
    """Twilio refuses a longer text (13521)."""
    say, _ = _verbs(twiml.say_hangup("a" * 5000))
    assert len(say.text) == twiml.SAY_MAX_CHARS
