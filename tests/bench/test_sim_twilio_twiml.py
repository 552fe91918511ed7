"""Parsing of TwiML documents."""

from __future__ import annotations

import pytest

from bench.sim_twilio import twiml


def test_parse_keeps_verbs_attributes_and_text():
    """Nested nouns and relative URLs come out as written."""
    document = twiml.parse(
        '<?xml version="1.0" encoding="UTF-8"?><Response><Connect action="/next"><Stream url='
        '"wss://gw/m/1"><Parameter name="a" value="b &amp; c"/></Stream></Connect>'
        "<Say>Sorry.</Say></Response>",
        url="https://gw.example.com/twilio/voice?x=1",
    )
    connect, say = document.verbs
    stream = connect.child("Stream")
    assert stream is not None
    assert stream.attributes == {"url": "wss://gw/m/1"}
    assert stream.children[0].attributes == {"name": "a", "value": "b & c"}
    assert (say.name, say.text) == ("Say", "Sorry.")
    assert document.resolve("/next") == "https://gw.example.com/next"
    assert document.warnings == ()


def test_parse_warns_of_unknown_verbs_and_attributes():
    """What the schema does not know is reported and left out."""
    document = twiml.parse('<Response><Dance/><Say pitch="high">x</Say></Response>')
    assert [verb.name for verb in document.verbs] == ["Say"]
    assert len(document.warnings) == 2


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        ("<Response>", "text/xml", 12100),
        ("", "text/xml", 12100),
        ("<html/>", "text/xml", 12102),
        ("<Response/>", "application/json", 12300),
        ("<Response><Say>" + "x" * 66_000 + "</Say></Response>", "text/xml", 11750),
    ],
    ids=["broken", "empty", "root", "content-type", "too-large"],
)
def test_parse_of_bad_document_has_twilios_code(body, content_type, code):
    """Each way to be wrong has its own code."""
    with pytest.raises(twiml.TwimlError) as caught:
        twiml.parse(body, content_type=content_type)
    assert caught.value.code == code
