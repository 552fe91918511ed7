"""Signatures of the simulated Twilio against published and own vectors, and against the official SDK."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from bench.sim_twilio.signing import signature, stream_url_as_signed, url_as_signed

TOKEN = "0123456789abcdef0123456789abcdef"
FORM = [
    ("CallSid", "CA00000000000000000000000000000001"),
    ("CallStatus", "ringing"),
    ("CallerName", "Ann  Example"),
    ("From", "+14155550100"),
    ("FromZip", ""),
    ("To", "+14155550199"),
]


def test_signature_of_documented_vector_matches():
    """The vector of Twilio's documentation comes out."""
    params = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    url = "https://example.com/myapp.php?foo=1&bar=2"
    assert signature("12345", url, params.items()) == "L/OH5YylLD5NRKLltdqwSvS0BnU="


def test_signature_of_form_keeps_blank_values():
    """A blank parameter is part of the signed text."""
    url = "https://gw.example.com/twilio/voice?tenant=acme"
    assert signature(TOKEN, url, FORM) == "1r+wS8SsxtlgQ9mt+HUH1C7Fshw="
    without = [item for item in FORM if item[1]]
    assert signature(TOKEN, url, without) == "CLroTUFhAZcUtT+i+Ivgj8aI6Do="


@pytest.mark.parametrize(
    ("url", "slash", "expected"),
    [
        ("wss://gw.example.com/media/s/abc123", False, "Q+UkE7kwz4eE6sJhxApfdbeA3aM="),
        ("wss://gw.example.com/media/s/abc123", True, "14/TUkoLkXantIJxaGpo9703Ou8="),
        ("https://gw.example.com/media/s/abc123", False, "O8kwZ5KPs3GPcXAwlGQsCupOSFY="),
    ],
    ids=["wss", "wss-slash", "https"],
)
def test_signature_of_stream_url_matches_vector(url, slash, expected):
    """The handshake signs the URL alone, with a slash appended on request."""
    assert signature(TOKEN, stream_url_as_signed(url, trailing_slash=slash)) == expected


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://gw.example.com:8443/a?b=c#rc=3", "https://gw.example.com/a?b=c"),
        ("http://gw.example.com:8080/a", "http://gw.example.com:8080/a"),
        ("https://user:pw@gw.example.com/a", "https://gw.example.com/a"),
    ],
    ids=["https-drops-port-and-fragment", "http-keeps-port", "credentials-dropped"],
)
def test_url_as_signed_follows_documented_rules(url, signed):
    """What is signed differs from what is written in port, fragment and credentials."""
    assert url_as_signed(url) == signed


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=6))
def test_signature_of_any_form_satisfies_the_sdk(params):
    """The SDK's validator accepts every form that the simulator signs."""
    url = "https://gw.example.com/twilio/voice?tenant=acme"
    made = signature(TOKEN, url, params.items())
    assert RequestValidator(TOKEN).validate(url, params, made)
