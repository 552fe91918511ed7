"""The REST client against a real socket: what is known after each kind of answer, and what is repeated."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from control.twilio import rest
from control.twilio.rest import TwilioRefused, TwilioRest, TwilioUncertain, TwilioUnreachable
from control.twilio.transport import Transport

ACCOUNT = "AC" + "0" * 32
SID = "CA" + "1" * 32
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def _call(sid=SID, created=NOW, status="queued"):
    return {
        "sid": sid,
        "status": status,
        "to": "+14155550100",
        "from": "+14155550199",
        "date_created": format_datetime(created),
        "duration": None,
    }


@dataclass
class _Peer:
    """Answers each request with the next of `answers`; the last one is repeated."""

    answers: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    connections: set = field(default_factory=set)
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def rest(self, **kwargs):
        return TwilioRest(_settings(f"http://127.0.0.1:{self.port}"), **kwargs)


def _settings(base_url):
    token = SimpleNamespace(reveal=lambda: "token")
    return SimpleNamespace(
        account_sid=ACCOUNT, auth_token=token, api_base_url=base_url, edge="", region=""
    )


def _handler(peer):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            self._answer()

        def do_POST(self):
            self._answer()

        def _answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            peer.connections.add(self.client_address)
            peer.requests.append((self.command, self.path, parse_qs(body, keep_blank_values=True)))
            answers = peer.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer == "hang up":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if answer == "silence":
                peer.released.wait(10)
                self.close_connection = True
                return
            status, shown = answer
            text = (shown if isinstance(shown, str) else json.dumps(shown)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    return Handler


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.setattr(rest, "BACKOFF_FIRST_S", 0.001)
    peer = _Peer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(peer))
    server.daemon_threads = True
    peer.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield peer
    peer.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def _closing(client):
    try:
        yield client
    finally:
        client.close()


async def _create(client):
    with trio.fail_after(20):
        return await client.create_call(
            to="+14155550100",
            from_="+14155550199",
            url="https://gw.example/twilio/voice?call_id=call_1",
            fallback_url="https://gw.example/twilio/voice/fallback?call_id=call_1",
            status_callback="https://gw.example/twilio/status?call_id=call_1",
            time_limit_s=14400,
        )


async def test_create_call_sends_every_callback_and_returns_sid(peer):
    """One POST with our call id in every callback URL."""
    peer.answers = [(201, _call())]
    counted = []
    with _closing(peer.rest(count=lambda *labels: counted.append(labels))) as client:
        assert (await _create(client)).sid == SID
    ((method, path, form),) = peer.requests
    assert (method, path) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json")
    assert form["To"] == ["+14155550100"]
    assert form["From"] == ["+14155550199"]
    assert form["StatusCallbackEvent"] == ["initiated", "ringing", "answered", "completed"]
    assert form["TimeLimit"] == ["14400"]
    assert all(
        "call_id=call_1" in form[name][0] for name in ("Url", "FallbackUrl", "StatusCallback")
    )
    assert counted == [("calls.create", "ok")]


async def test_create_call_refused_carries_the_code_and_is_not_repeated(peer):
    """A plain no."""
    peer.answers = [(400, {"code": 21211, "message": "no valid number", "status": 400})]
    with _closing(peer.rest()) as client:
        with pytest.raises(TwilioRefused) as caught:
            await _create(client)
    assert (caught.value.status, caught.value.code) == (400, 21211)
    assert "no valid number" in caught.value.message
    assert len(peer.requests) == 1


async def test_create_call_problem_json_refused(peer):
    """The newer error body is understood too."""
    problem = {"type": "t", "title": "bad", "status": 403, "code": 20003, "detail": "no permission"}
    peer.answers = [(403, problem)]
    with _closing(peer.rest()) as client:
        with pytest.raises(TwilioRefused) as caught:
            await _create(client)
    assert (caught.value.code, caught.value.message) == (20003, "no permission")


async def test_create_call_too_many_requests_backs_off_then_dials(peer):
    """429 was never processed, so it is safe to ask again."""
    busy = (429, {"code": 20429, "message": "slow down", "status": 429})
    peer.answers = [busy, busy, (201, _call())]
    counted = []
    with _closing(peer.rest(count=lambda *labels: counted.append(labels[1]))) as client:
        assert (await _create(client)).sid == SID
    assert counted == ["busy", "busy", "ok"]


async def test_create_call_always_too_many_requests_gives_up(peer):
    """The back-off is bounded."""
    peer.answers = [(429, {"code": 20429, "message": "slow down", "status": 429})]
    with _closing(peer.rest()) as client:
        with pytest.raises(TwilioRefused) as caught:
            await _create(client)
    assert caught.value.status == 429
    assert len(peer.requests) == rest.ATTEMPTS_MAX


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((500, {"code": 20500, "message": "oops"}), id="500"),
        pytest.param((503, "<html>"), id="503 html"),
        pytest.param((201, "no json"), id="unreadable 201"),
        pytest.param((201, {}), id="201 without sid"),
        pytest.param((201, []), id="201 list"),
        pytest.param("hang up", id="connection lost"),
        pytest.param("silence", id="no answer"),
    ],
)
async def test_create_call_lost_answer_is_uncertain_and_sent_once(peer, answer):
    """The call may exist: it is never dialled again."""
    peer.answers = [answer]
    with _closing(peer.rest(read_timeout_s=0.3)) as client:
        with pytest.raises(TwilioUncertain):
            await _create(client)
    assert len(peer.requests) == 1


async def test_create_call_connection_refused_is_unreachable(monkeypatch):
    """Nothing was written, so nothing can have been dialled."""
    monkeypatch.setattr(rest, "BACKOFF_FIRST_S", 0.001)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        counted = []
        client = TwilioRest(
            _settings(f"http://127.0.0.1:{reserved.getsockname()[1]}"),
            count=lambda *labels: counted.append(labels[1]),
        )
        with _closing(client), pytest.raises(TwilioUnreachable):
            await _create(client)
    assert counted == ["unreachable"] * rest.ATTEMPTS_MAX


async def test_requests_reuse_one_connection(peer):
    """The session keeps its connection."""
    peer.answers = [(200, _call())]
    with _closing(peer.rest()) as client:
        for _ in range(5):
            await client.fetch_call(SID)
    assert len(peer.connections) == 1


@pytest.mark.parametrize(
    ("answer", "ended_now"),
    [
        ((200, _call(status="completed")), True),
        ((404, {"code": 20404, "message": "not found"}), False),
        ((400, {"code": 21220, "message": "not in-progress"}), False),
    ],
    ids=["ended", "20404", "21220"],
)
async def test_end_call_already_over_is_no_error(peer, answer, ended_now):
    """A call that is over already is what was wanted."""
    peer.answers = [answer]
    with _closing(peer.rest()) as client:
        assert await client.end_call(SID) is ended_now
    assert peer.requests[0][2] == {"Status": ["completed"]}


async def test_end_call_after_lost_answer_is_repeated(peer):
    """Ending twice does no harm."""
    peer.answers = [(500, "oops"), "hang up", (200, _call(status="completed"))]
    with _closing(peer.rest()) as client:
        assert await client.end_call(SID) is True
    assert len(peer.requests) == 3


async def test_fetch_call_unknown_is_none(peer):
    """Twilio knows no such call."""
    peer.answers = [(404, {"code": 20404, "message": "not found"})]
    with _closing(peer.rest()) as client:
        assert await client.fetch_call(SID) is None


async def test_list_calls_keeps_what_is_recent(peer):
    """Older calls of the same pair of numbers are not ours."""
    old = _call("CA" + "2" * 32, NOW - timedelta(hours=1))
    peer.answers = [(200, {"calls": [_call(), old], "next_page_uri": None})]
    with _closing(peer.rest()) as client:
        seen = await client.list_calls(to="+14155550100", from_="+14155550199", since=NOW)
    assert [call.sid for call in seen] == [SID]
    query = parse_qs(urlsplit(peer.requests[0][1]).query)
    assert (query["To"], query["From"]) == (["+14155550100"], ["+14155550199"])


async def test_list_ended_asks_for_the_time_of_the_end(peer):
    """Both bounds are told to Twilio, to the second, in UTC."""
    call = _call(status="completed") | {
        "direction": "inbound",
        "duration": "12",
        "end_time": "Sat, 21 Nov 2026 09:00:07 +0000",
    }
    peer.answers = [(200, {"calls": [call], "next_page_uri": None})]
    with _closing(peer.rest()) as client:
        (seen,) = await client.list_ended(since=NOW, until=NOW + timedelta(minutes=1))
    assert (seen.direction, seen.status, seen.duration_s) == ("inbound", "completed", 12)
    assert seen.ended_at == datetime(2026, 11, 21, 9, 0, 7, tzinfo=UTC)
    query = parse_qs(urlsplit(peer.requests[0][1]).query)
    assert query["EndTime>"] == [NOW.strftime("%Y-%m-%dT%H:%M:%SZ")]
    assert query["EndTime<"] == [(NOW + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")]


async def test_find_number_only_the_exact_one(peer):
    """Twilio's filter also finds parts."""
    numbers = [
        {"sid": "PN1", "phone_number": "+141555501990", "status": "in-use"},
        {"sid": "PN2", "phone_number": "+14155550199", "status": "in-use"},
    ]
    peer.answers = [(200, {"incoming_phone_numbers": numbers, "next_page_uri": None})]
    with _closing(peer.rest()) as client:
        found = await client.find_number("+14155550199")
        assert found is not None
        assert found.sid == "PN2"
        assert await client.find_number("+1415555019") is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((401, {"code": 20003, "message": "Authenticate"}), 20003),
        ((404, {"type": "t", "title": "gone", "status": 404, "code": 20404}), 20404),
        ((403, "<html>"), 0),
    ],
)
async def test_list_refused_is_refused_and_asked_once(peer, answer, code):
    """The client's lists raise another exception than its other requests: it is a no all the same."""
    peer.answers = [answer]
    with _closing(peer.rest()) as client:
        with pytest.raises(TwilioRefused) as caught:
            await client.find_number("+14155550199")
    assert (caught.value.status, caught.value.code) == (answer[0], code)
    assert len(peer.requests) == 1


async def test_list_failed_at_twilio_is_uncertain(peer):
    """500 says nothing, for a list too."""
    peer.answers = [(500, "oops")]
    with _closing(peer.rest()) as client:
        with pytest.raises(TwilioUncertain):
            await client.find_number("+14155550199")


async def test_set_number_webhooks_sets_all_three(peer):
    """Voice, fallback and status."""
    peer.answers = [(200, {"sid": "PN2", "phone_number": "+14155550199"})]
    with _closing(peer.rest()) as client:
        await client.set_number_webhooks(
            "PN2", voice_url="https://a/v", voice_fallback_url="https://a/f", status_callback="https://a/s"
        )  # fmt: skip
    form = peer.requests[0][2]
    assert (form["VoiceUrl"], form["VoiceFallbackUrl"], form["StatusCallback"]) == (
        ["https://a/v"], ["https://a/f"], ["https://a/s"],
    )  # fmt: skip


def test_transport_default_origin_is_untouched():
    """Only a configured origin replaces Twilio's hosts; then every host, with the same path."""
    url = "https://numbers.twilio.com/v2/x?PageSize=5"
    for base, expected in (
        ("https://api.twilio.com", url),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000/v2/x?PageSize=5"),
    ):
        transport = Transport(base, 1.0)
        assert transport.at_origin(url) == expected
        transport.session.close()


async def test_create_call_tells_how_long_twilio_queues_it(peer):
    """The estimate in milliseconds comes as text, or not at all."""
    peer.answers = [(201, _call() | {"queue_time": "4200"}), (201, _call() | {"queue_time": None})]
    with _closing(peer.rest()) as client:
        assert await _create(client) == (SID, 4200)
        assert await _create(client) == (SID, 0)


async def test_instruct_call_over_already_says_so(peer):
    """Another document for a live call is an update with inline TwiML; a call that is over takes none."""
    peer.answers = [(200, _call()), (400, {"code": 21220, "message": "over", "status": 400})]
    with _closing(peer.rest()) as client:
        assert await client.instruct_call(SID, "<Response/>") is True
        assert await client.instruct_call(SID, "<Response/>") is False
    method, path, form = peer.requests[0]
    assert (method, path) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{SID}.json")
    assert form == {"Twiml": ["<Response/>"]}
