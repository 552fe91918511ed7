"""Webhook requests of the simulated Twilio: retries, deadlines, redirects, signatures."""

from __future__ import annotations

import httpx
import pytest
import trio
from twilio.request_validator import RequestValidator

from bench.sim_twilio.webhooks import Attempt, Overrides, Webhooks, parse_overrides

TOKEN = "0123456789abcdef0123456789abcdef"
PARAMS = (("CallSid", "CA1"), ("FromZip", ""))


async def send(handler, url="http://gw.test/hook", method="POST", params=PARAMS):
    """One webhook against `handler`; the reply and all attempts."""
    attempts: list[Attempt] = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        webhooks = Webhooks(client, lambda account_sid: TOKEN, attempts.append)
        reply = await webhooks.request(url, method, params, call_sid="CA1")
    return reply, attempts


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("", Overrides()),
        ("#rc=3&rp=5xx,ct,rt", Overrides(retries=3, policy=frozenset({"5xx", "ct", "rt"}))),
        ("#ct=100&rt=200&tt=300", Overrides(100, 200, 300)),
        ("#ct=99&rc=6&tt=99999&rp=nonsense", Overrides()),
    ],
    ids=["none", "retries", "timeouts", "out-of-range"],
)
def test_overrides_in_fragment_are_parsed_within_their_ranges(fragment, expected):
    """Known keys in range count, everything else keeps the default."""
    assert parse_overrides("https://gw.test/hook" + fragment) == expected


async def test_fragment_is_neither_sent_nor_signed():
    """The server sees the URL without overrides, and the signature fits it."""

    def handler(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://gw.test/hook?x=1"
        given = request.headers["x-twilio-signature"]
        form = {"CallSid": "CA1", "FromZip": ""}
        assert RequestValidator(TOKEN).validate("http://gw.test/hook?x=1", form, given)
        assert request.content == b"CallSid=CA1&FromZip="
        return httpx.Response(204)

    reply, _ = await send(handler, "http://gw.test/hook?x=1#rc=3")
    assert (reply.outcome, reply.status) == ("2xx", 204)


async def test_get_carries_parameters_in_the_signed_query():
    """With GET the parameters are part of the URL, and nothing else is signed."""

    def handler(request: httpx.Request) -> httpx.Response:
        given = request.headers["x-twilio-signature"]
        assert RequestValidator(TOKEN).validate(str(request.url), {}, given)
        assert dict(request.url.params) == {"a": "b", "CallSid": "CA1", "FromZip": ""}
        assert request.content == b""
        return httpx.Response(200)

    reply, _ = await send(handler, "http://gw.test/hook?a=b", "GET")
    assert reply.outcome == "2xx"


@pytest.mark.parametrize(
    ("fragment", "status", "attempts"),
    [("", 500, 1), ("", 404, 1), ("#rc=3&rp=5xx", 500, 4), ("#rc=2&rp=all", 404, 3)],
)
async def test_errors_are_retried_only_when_told(fragment, status, attempts):
    """By default an HTTP error is final; `rp` and `rc` change that."""
    reply, made = await send(lambda request: httpx.Response(status), "http://gw.test/" + fragment)
    assert reply.status == status
    assert [attempt.number for attempt in made] == list(range(attempts))
    assert len({attempt.idempotency_token for attempt in made}) == 1


async def test_connection_failure_is_retried_once():
    """The default policy is one more attempt when the connection failed."""
    tokens = []

    def handler(request: httpx.Request) -> httpx.Response:
        tokens.append(request.headers["i-twilio-idempotency-token"])
        if len(tokens) == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    reply, made = await send(handler)
    assert reply.outcome == "2xx"
    assert [attempt.outcome for attempt in made] == ["ct", "2xx"]
    assert tokens[0] == tokens[1]


async def test_slow_server_is_given_up_after_fifteen_seconds(autojump_clock):
    """The whole budget is 15 s; the attempt that was cut is on record."""

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await trio.sleep(60)
            raise AssertionError

    attempts: list[Attempt] = []
    began = trio.current_time()
    async with httpx.AsyncClient(transport=Slow()) as client:
        webhooks = Webhooks(client, lambda account_sid: TOKEN, attempts.append)
        reply = await webhooks.request("http://gw.test/", "POST", PARAMS, call_sid="CA1")
    assert reply.outcome == "rt"
    assert trio.current_time() - began == pytest.approx(15)
    assert [attempt.outcome for attempt in attempts] == ["rt"]


async def test_redirect_is_followed_with_get_and_without_parameters():
    """A 302 loses the form, as on the real thing; the new URL is signed."""
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path, request.content))
        if request.url.path == "/hook":
            return httpx.Response(302, headers={"location": "/other"})
        given = request.headers["x-twilio-signature"]
        assert RequestValidator(TOKEN).validate("http://gw.test/other", {}, given)
        return httpx.Response(200)

    reply, _ = await send(handler)
    assert reply.outcome == "2xx"
    assert seen[1] == ("GET", "/other", b"")


async def test_nonsense_url_is_a_failure_and_no_crash():
    """A URL that cannot be requested ends like a failed request."""
    reply, _ = await send(lambda request: httpx.Response(200), "nonsense://")
    assert reply.outcome != "2xx"
