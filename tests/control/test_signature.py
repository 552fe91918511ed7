"""Request validation: the documented vectors, and the official SDK's validator as the second opinion."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from control.twilio import signature

TOKEN = "0123456789abcdef0123456789abcdef"
FORM = {
    "CallSid": ["CA00000000000000000000000000000001"],
    "CallStatus": ["ringing"],
    "CallerName": ["Ann  Example"],
    "From": ["+14155550100"],
    "FromZip": [""],
    "To": ["+14155550199"],
}
VOICE_URL = "https://gw.example.com/twilio/voice?tenant=acme"
JSON_BODY = b'{"event":"ping","n":1}'
JSON_URL = (
    "https://gw.example.com/twilio/events"
    "?bodySHA256=9239c422a41b555493841e492401a13c6081045f49bd7223f575c7e1f7d86f7f"
)


def test_valid_documentation_vector_accepted():
    """The example of Twilio's security page."""
    form = {
        "CallSid": ["CA1234567890ABCDE"],
        "Caller": ["+14158675310"],
        "Digits": ["1234"],
        "From": ["+14158675310"],
        "To": ["+18005551212"],
    }
    url = "https://example.com/myapp.php?foo=1&bar=2"
    assert signature.sign(url, form, "12345") == "L/OH5YylLD5NRKLltdqwSvS0BnU="
    assert signature.valid(url, form, "L/OH5YylLD5NRKLltdqwSvS0BnU=", ["12345"])


@pytest.mark.parametrize(
    ("url", "body", "given", "accepted"),
    [
        pytest.param(VOICE_URL, FORM, "1r+wS8SsxtlgQ9mt+HUH1C7Fshw=", True, id="blank value"),
        pytest.param(VOICE_URL, FORM, "CLroTUFhAZcUtT+i+Ivgj8aI6Do=", False, id="blank dropped"),
        pytest.param(
            "wss://gw.example.com/media/s/abc123",
            None,
            "Q+UkE7kwz4eE6sJhxApfdbeA3aM=",
            True,
            id="stream",
        ),
        pytest.param(
            "wss://gw.example.com/media/s/abc123",
            None,
            "14/TUkoLkXantIJxaGpo9703Ou8=",
            True,
            id="stream, slash signed",
        ),
        pytest.param(
            "wss://gw.example.com/media/s/abc123/",
            None,
            "Q+UkE7kwz4eE6sJhxApfdbeA3aM=",
            True,
            id="stream, slash asked for",
        ),
        pytest.param(
            "wss://gw.example.com/media/s/abc123",
            None,
            "O8kwZ5KPs3GPcXAwlGQsCupOSFY=",
            False,
            id="stream, signed as https",
        ),
        pytest.param(JSON_URL, JSON_BODY, "wLGU3yBR8kSNuiLfp4/WDy7smSk=", True, id="json"),
        pytest.param(
            JSON_URL, JSON_BODY + b" ", "wLGU3yBR8kSNuiLfp4/WDy7smSk=", False, id="json changed"
        ),
        pytest.param(VOICE_URL, FORM, "", False, id="empty signature"),
        pytest.param(VOICE_URL, FORM, None, False, id="no signature"),
        pytest.param(VOICE_URL, FORM, "1r+wS8SsxtlgQ9mt+HUH1C7Fshw", False, id="cut"),
        pytest.param(VOICE_URL, FORM, "\udcff\xff", False, id="not ascii"),
    ],
)
def test_valid_vectors(url, body, given, accepted):
    """Every vector of the reference is answered as it says."""
    assert signature.valid(url, body, given, [TOKEN]) is accepted


def test_valid_old_and_new_token_both_accepted():
    """While a token is rotated, either signs."""
    given = signature.sign(VOICE_URL, FORM, "old")
    assert signature.valid(VOICE_URL, FORM, given, ["new", "old"])
    assert not signature.valid(VOICE_URL, FORM, given, ["new"])


@pytest.mark.parametrize(
    ("signed", "asked"),
    [
        ("https://h.example/a?b=1", "https://h.example:443/a?b=1"),
        ("https://h.example:8443/a", "https://h.example/a"),
        ("wss://h.example/m/t", "wss://h.example:443/m/t"),
        ("wss://h.example:8443/m/t", "wss://h.example/m/t"),
        ("http://h.example:80/a", "http://h.example/a"),
    ],
)
def test_valid_either_port_form_accepted(signed, asked):
    """The back ends differ in whether they sign the port."""
    explicit = signed if ":8443" in signed else asked
    other = asked if explicit is signed else signed
    assert signature.valid(explicit, None, signature.sign(other, None, TOKEN), [TOKEN])


def test_valid_unreadable_port_refused():
    """A URL that is no URL is refused, not raised."""
    assert not signature.valid("https://h.example:port/", None, "x", [TOKEN])


def test_valid_body_without_hash_refused():
    """A body that is neither form nor hashed is not covered by any signature."""
    url = "https://gw.example.com/twilio/events"
    assert not signature.valid(url, b"{}", signature.sign(url, None, TOKEN), [TOKEN])


def test_parse_form_keeps_blank_and_repeated():
    """Blank values and repeated names are part of what was signed."""
    assert signature.parse_form(b"A=&B=1&B=2&C=a+b%2B") == {
        "A": [""],
        "B": ["1", "2"],
        "C": ["a b+"],
    }


def test_parse_form_too_many_fields_refused():
    """The number of fields is bounded."""
    with pytest.raises(ValueError, match="fields"):
        signature.parse_form(b"&".join(b"a=1" for _ in range(signature.MAX_FORM_FIELDS + 1)))


class _MultiDict(dict):
    """The SDK asks a multi-dict for its lists by this name."""

    def getlist(self, name):
        return self[name]


names = st.text(max_size=8)
forms = st.dictionaries(names, st.lists(st.text(max_size=12), min_size=1, max_size=3), max_size=6)
# No `;`: urlparse cuts a path there, so that "with a slash behind it" has no one meaning.
paths = st.from_regex(r"(/[a-zA-Z0-9_.~%-]{0,6}){0,3}/?", fullmatch=True)
queries = st.one_of(st.just(""), st.from_regex(r"\?[a-z]{1,3}=[a-zA-Z0-9%+]{0,5}", fullmatch=True))
ports = st.sampled_from(["", ":443", ":80", ":8443"])
schemes = st.sampled_from(["https", "http", "wss"])


def _sdk_accepts(url, form, given, token):
    path, _, query = url.partition("?")
    other = path[:-1] if path.endswith("/") else path + "/"
    spellings = [url, other + ("?" + query if query else "")]
    validator = RequestValidator(token)
    return any(bool(validator.validate(one, _MultiDict(form), given)) for one in spellings)


@settings(deadline=None, max_examples=300)
@given(
    scheme=schemes, port=ports, signed_port=ports, path=paths, query=queries, form=forms,
    slash=st.booleans(), token=st.text(min_size=1, max_size=8), right=st.booleans(),
)  # fmt: skip
def test_valid_agrees_with_official_validator(
    scheme, port, signed_port, path, query, form, slash, token, right
):
    """Whatever the official validator accepts we accept, and nothing else (but wss on port 443)."""
    url = f"{scheme}://gw.example.com{port}{path}{query}"
    signed_path = path + "/" if slash else path
    signed_url = f"{scheme}://gw.example.com{signed_port}{signed_path}{query}"
    key = token if right else token + "x"
    given = RequestValidator(key).compute_signature(signed_url, _MultiDict(form))
    expected = _sdk_accepts(url, form, given, token)
    if scheme == "wss" and port == "":
        expected = expected or _sdk_accepts(
            f"wss://gw.example.com:443{path}{query}", form, given, token
        )
    assert signature.valid(url, form, given, [token]) is expected


@settings(deadline=None)
@given(body=st.text(max_size=60), changed=st.booleans())
def test_valid_json_agrees_with_official_validator(body, changed):
    """A JSON body is covered by its hash in the query, as the SDK has it."""
    hashed = hashlib.sha256((body + ("x" if changed else "")).encode()).hexdigest()
    url = f"https://gw.example.com/twilio/events?bodySHA256={hashed}"
    given = signature.sign(url, None, TOKEN)
    expected = RequestValidator(TOKEN).validate(url, body, given)
    assert signature.valid(url, body.encode(), given, [TOKEN]) is expected


@settings(deadline=None)
@given(url=st.text(max_size=40), given=st.text(max_size=40), body=st.one_of(forms, st.binary()))
def test_valid_any_text_never_raises(url, given, body):
    """Bad input is a no."""
    assert signature.valid(url, body, given, [TOKEN]) in (True, False)
