"""The webhooks' application: signature first, then one call to the switchboard, and bodies that say nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest

from control.hooks.app import BODY_MAX_BYTES, create_hooks
from control.metrics import Metrics
from control.store import StoreUnavailable
from control.twilio import signature

URL = "https://gw.example.com"
TOKEN = "token"
FORM = {
    "CallSid": "CA1",
    "From": "+14155550100",
    "To": "+14155550199",
    "FromZip": "",
    "Name": "A  b",
}


@dataclass
class FakeSwitchboard:
    asked: list[Any] = field(default_factory=list)
    raises: Exception | None = None

    async def answer(self, form, call_id=None):
        return self._note("answer", form, call_id)

    async def continue_call(self, form, call_id):
        return self._note("continue", form, call_id)

    async def call_status(self, form, call_id=None):
        self._note("status", form, call_id)

    async def stream_status(self, form, call_id=None):
        self._note("stream", form, call_id)

    async def machine_detected(self, form, call_id=None):
        self._note("amd", form, call_id)

    async def leg_status(self, form, call_id):
        self._note("leg", form, call_id)

    def _note(self, what, form, call_id):
        self.asked.append((what, dict(form), call_id))
        if self.raises is not None:
            raise self.raises
        return f"<Response>{len(self.asked)}</Response>"


@dataclass
class Rig:
    switchboard: FakeSwitchboard
    metrics: Metrics
    client: Any

    async def post(self, path, form=FORM, *, signed=None, headers=None, body=None, **more):
        """Signed for the public URL unless told otherwise."""
        sent = urlencode(form) if body is None else body
        parsed = {name: [value] for name, value in form.items()}
        given = signature.sign(URL + path, parsed, TOKEN) if signed is None else signed
        all_headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        if given:
            all_headers["X-Twilio-Signature"] = given
        return await self.client.post(path, data=sent, headers=all_headers, **more)

    def count(self, path, outcome):
        return self.metrics.webhooks.labels(path, outcome)._value.get()


@pytest.fixture
def rig():
    switchboard, metrics = FakeSwitchboard(), Metrics()
    app = create_hooks(switchboard, public_url=URL, tokens=(TOKEN,), metrics=metrics)
    return Rig(switchboard, metrics, app.test_client())


async def test_voice_signed_is_answered_with_twiml(rig):
    """The form reaches the switchboard as it was sent, blank values too."""
    response = await rig.post("/twilio/voice?call_id=call_1")
    assert response.status_code == 200
    assert response.content_type == "text/xml; charset=utf-8"
    assert await response.get_data(as_text=True) == "<Response>1</Response>"
    assert rig.switchboard.asked == [("answer", FORM, "call_1")]
    assert rig.count("/twilio/voice", "200") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/twilio/voice",
        "/twilio/voice/fallback",
        "/twilio/status",
        "/twilio/stream",
        "/twilio/continue",
    ],
)
@pytest.mark.parametrize("signed", ["", "wrong", "é"], ids=["missing", "wrong", "not ascii"])
async def test_any_path_without_signature_is_refused_without_a_word(rig, path, signed):
    """403, empty, counted, and nothing reaches the switchboard."""
    response = await rig.post(path, signed=signed)
    assert (response.status_code, await response.get_data()) == (403, b"")
    assert rig.switchboard.asked == []
    assert rig.metrics.signature_failures._value.get() == 1
    assert rig.count(path, "403") == 1


async def test_voice_host_header_is_not_believed(rig):
    """The URL comes from the configuration."""
    form = {name: [value] for name, value in FORM.items()}
    forged = signature.sign("https://evil.example/twilio/voice", form, TOKEN)
    response = await rig.post("/twilio/voice", signed=forged, headers={"Host": "evil.example"})
    assert response.status_code == 403


async def test_voice_changed_value_is_refused(rig):
    """Every value is covered."""
    form = {name: [value] for name, value in FORM.items()}
    given = signature.sign(URL + "/twilio/voice", form, TOKEN)
    assert (
        await rig.post("/twilio/voice", FORM | {"FromZip": "1"}, signed=given)
    ).status_code == 403


@pytest.mark.parametrize("path", ["/twilio/voice/", "/twilio/voice"])
async def test_voice_trailing_slash_is_the_same_place(rig, path):
    """Twilio signs and asks either spelling."""
    form = {name: [value] for name, value in FORM.items()}
    other = "/twilio/voice" if path.endswith("/") else "/twilio/voice/"
    given = signature.sign(URL + other, form, TOKEN)
    assert (await rig.post(path, signed=given)).status_code == 200


async def test_voice_explicit_port_signed_is_accepted(rig):
    """Either port form."""
    form = {name: [value] for name, value in FORM.items()}
    given = signature.sign(URL + ":443/twilio/voice", form, TOKEN)
    assert (await rig.post("/twilio/voice", signed=given)).status_code == 200


async def test_voice_query_is_signed_as_it_was_sent(rig):
    """Escapes in the query are not rewritten."""
    path = "/twilio/voice?call_id=a%2Fb&x=%41"
    assert (await rig.post(path)).status_code == 200
    assert rig.switchboard.asked[0][2] == "a/b"


async def test_voice_repeated_delivery_gets_the_same_document(rig):
    """The same idempotency token: one question, one answer."""
    headers = {"I-Twilio-Idempotency-Token": "t-1"}
    first = await rig.post("/twilio/continue?call_id=call_1", headers=headers)
    again = await rig.post("/twilio/continue?call_id=call_1", headers=headers)
    other = await rig.post(
        "/twilio/continue?call_id=call_1", headers={"I-Twilio-Idempotency-Token": "t-2"}
    )
    texts = [await response.get_data(as_text=True) for response in (first, again, other)]
    assert texts == ["<Response>1</Response>", "<Response>1</Response>", "<Response>2</Response>"]


async def test_fallback_says_sorry_without_the_switchboard(rig):
    """It is asked for when everything else failed."""
    response = await rig.post("/twilio/voice/fallback?call_id=call_1")
    text = await response.get_data(as_text=True)
    assert "<Say>" in text
    assert "<Hangup/>" in text
    assert rig.switchboard.asked == []


@pytest.mark.parametrize("path", ["/twilio/status", "/twilio/stream", "/twilio/amd"])
async def test_callbacks_are_noted_without_content(rig, path):
    """204."""
    response = await rig.post(path + "?call_id=call_1")
    assert (response.status_code, await response.get_data()) == (204, b"")
    assert rig.switchboard.asked == [(path.rpartition("/")[2], FORM, "call_1")]


async def test_callback_about_a_person_names_the_transfer_that_its_url_was_made_for(rig):
    """The number is in what Twilio signs; one that Twilio's form had under that name would not count."""
    response = await rig.post("/twilio/leg?call_id=call_1&transfer=2", FORM | {"transfer": "9"})
    assert response.status_code == 204
    assert rig.switchboard.asked == [("leg", FORM | {"transfer": "2"}, "call_1")]


@pytest.mark.parametrize("path", ["/twilio/status", "/twilio/stream", "/twilio/amd"])
async def test_callbacks_store_away_asks_for_repetition(rig, path):
    """503: the callback's URL has Twilio send it again."""
    rig.switchboard.raises = StoreUnavailable("away")
    assert (await rig.post(path)).status_code == 503


async def test_form_without_call_sid_is_refused(rig):
    """Signed, but nothing that we can answer."""
    assert (await rig.post("/twilio/voice", {"From": "+1"})).status_code == 400


async def test_json_body_signed_by_hash_is_no_call(rig):
    """A JSON body passes the signature but carries no CallSid."""
    body = b'{"a":1}'
    path = f"/twilio/voice?bodySHA256={hashlib.sha256(body).hexdigest()}"
    given = signature.sign(URL + path, None, TOKEN)
    headers = {"Content-Type": "application/json"}
    response = await rig.post(path, signed=given, headers=headers, body=body)
    assert response.status_code == 400
    response = await rig.post(path, signed=given, headers=headers, body=body + b" ")
    assert response.status_code == 403


async def test_body_too_large_is_refused(rig):
    """413 before anything is looked at."""
    response = await rig.post("/twilio/voice", {"CallSid": "x" * BODY_MAX_BYTES})
    assert response.status_code == 413
    assert rig.switchboard.asked == []


async def test_unknown_path_and_method_say_nothing(rig):
    """Empty bodies, one label for all of them."""
    response = await rig.client.get("/wp-login.php")
    assert (response.status_code, await response.get_data()) == (404, b"")
    response = await rig.client.get("/twilio/voice")
    assert (response.status_code, await response.get_data()) == (405, b"")
    assert "POST" in response.headers["Allow"]
    assert rig.count("other", "404") == 1


async def test_switchboard_raising_is_an_empty_500(rig):
    """Twilio then takes the fallback; nothing of ours is shown."""
    rig.switchboard.raises = RuntimeError("secret")
    response = await rig.post("/twilio/voice")
    assert (response.status_code, await response.get_data()) == (500, b"")


CALLBACKS = {
    "as it comes": {},
    "of no call": {"path": "/twilio/status"},
    "call named twice": {"path": "/twilio/status?x=%20&call_id=call_1&call_id=call_2"},
    "call named emptily": {"path": "/twilio/stream?call_id="},
    "typed in capitals": {
        "headers": {"Content-Type": "Application/X-WWW-Form-Urlencoded; charset=UTF-8"}
    },
    "untyped": {"headers": {"Content-Type": ""}},
    "typed otherwise": {"headers": {"Content-Type": "text/plain"}},
    "unsigned": {"signed": ""},
    "signed by somebody": {"signed": "AAAA"},
    "without a CallSid": {"form": {"From": "+1"}},
    "values twice": {"form": {"CallSid": "CA1"}, "body": "CallSid=CA1&CallSid=CA1"},
    "not text": {"form": {"CallSid": "CA1", "A": "\ufffd"}, "body": b"CallSid=CA1&A=%FF"},
    "JSON": {"headers": {"Content-Type": "application/json"}, "body": b"{}"},
    "too many fields": {"body": "&".join(f"a{n}=1" for n in range(1200))},
    "too large": {"form": {"CallSid": "x" * BODY_MAX_BYTES}},
    "store away": {"raises": StoreUnavailable("away")},
    "a mistake of ours": {"raises": RuntimeError("secret")},
    "a slash behind it": {"path": "/twilio/status/?call_id=call_1"},
}


@pytest.mark.parametrize("case", CALLBACKS.values(), ids=CALLBACKS)
async def test_callback_past_the_framework_is_answered_as_by_it(case):
    """The same status and headers, the same to the switchboard, the same counters, whichever way it goes."""
    found = []
    for is_direct in (True, False):
        switchboard, metrics = FakeSwitchboard(), Metrics()
        app = create_hooks(switchboard, public_url=URL, tokens=(TOKEN,), metrics=metrics)
        rig = Rig(switchboard, metrics, app.test_client())
        asked = dict(case)
        switchboard.raises = asked.pop("raises", None)
        path, form = asked.pop("path", "/twilio/amd?call_id=call_1"), asked.pop("form", FORM)
        body = asked.get("body")
        sent = urlencode(form) if body is None else body
        if is_direct:
            asked["headers"] = {**asked.get("headers", {}), "Content-Length": str(len(sent))}
        response = await rig.post(path, form, **asked)
        counted = {
            (sample.name, *sample.labels.values(), sample.value)
            for metric in metrics.registry.collect()
            if metric.name in ("tandem_webhooks", "tandem_signature_failures")
            for sample in metric.samples
            if not sample.name.endswith("_created")
        }
        answer = response.status_code, await response.get_data(), dict(response.headers)
        found.append((answer, switchboard.asked, counted))
    assert found[0] == found[1]
    assert found[0][0][1] == b""
    assert found[0][2], "nothing was counted"


async def test_callback_past_the_framework_has_nothing_of_it(rig, monkeypatch):
    """A request with a length, as Twilio's are; a longer one, and another path, are the framework's."""

    async def used(request):
        seen.append(request.path)
        raise LookupError

    seen = []

    monkeypatch.setattr(rig.client.app, "handle_request", used)
    length = {"Content-Length": str(len(urlencode(FORM)))}
    response = await rig.post("/twilio/status?call_id=call_1", headers=length)
    assert response.status_code == 204
    assert rig.switchboard.asked == [("status", FORM, "call_1")]
    chunked = {**length, "Transfer-Encoding": "chunked"}  # no size is known of it, whatever is said
    for path, headers in (
        ("/twilio/status", {}),
        ("/twilio/voice", length),
        ("/twilio/amd", chunked),
    ):
        with pytest.raises(ExceptionGroup):
            await rig.post(path, headers=headers)
    assert seen == ["/twilio/status", "/twilio/voice", "/twilio/amd"]


class FakeSigners:
    """Knows one subaccount; `now` is its token at Twilio, which is learnt when it is asked for anew."""

    def __init__(self):
        self.tokens = {"AC" + "1" * 32: ["sub-token"]}
        self.now = "sub-token"
        self.asked_anew = 0

    async def signing_account(self, account_sid, *, anew=False):
        if account_sid not in self.tokens:
            return None
        if anew:
            self.asked_anew += 1
            self.tokens[account_sid] = [self.now, *self.tokens[account_sid]]
        return SimpleNamespace(tokens=tuple(self.tokens[account_sid]))


@pytest.mark.parametrize(
    ("account", "token", "status"),
    [
        ("AC" + "1" * 32, "sub-token", 200),
        ("AC" + "1" * 32, TOKEN, 403),
        ("AC" + "1" * 32, "rotated", 200),
        ("AC" + "2" * 32, "sub-token", 403),
        ("AC" + "2" * 32, TOKEN, 403),
    ],
)
async def test_webhook_is_checked_with_the_token_of_its_account(account, token, status):
    """A subaccount's with its own, before and after a rotation; nobody signs for another account."""
    switchboard, metrics, signers = FakeSwitchboard(), Metrics(), FakeSigners()
    signers.now = "rotated"
    app = create_hooks(
        switchboard, public_url=URL, tokens=(TOKEN,), metrics=metrics, signers=signers
    )
    rig = Rig(switchboard, metrics, app.test_client())
    form = FORM | {"AccountSid": account}
    given = signature.sign(URL + "/twilio/voice", {k: [v] for k, v in form.items()}, token)
    response = await rig.post("/twilio/voice", form, signed=given)
    assert response.status_code == status
    assert len(switchboard.asked) == (1 if status == 200 else 0)
    assert signers.asked_anew == (1 if account.startswith("AC1") and token != "sub-token" else 0)
