"""Calls created and changed through the simulator's REST API, in memory, under a mock clock."""

from __future__ import annotations

import base64
import json
from urllib.parse import urlencode

import pytest
import trio

from bench.sim_twilio import Caller, HangsUp
from bench.sim_twilio.account import new_sid
from bench.sim_twilio.server import Request
from tests.bench.tiny_gateway import (
    ACCOUNT,
    CALLER,
    GATEWAY,
    OURS,
    TOKEN,
    Session,
    TinyGateway,
    connect,
    tone,
)

EVERY_EVENT = [
    ("StatusCallbackEvent", e) for e in ("initiated", "ringing", "answered", "completed")
]
BASE = f"/2010-04-01/Accounts/{ACCOUNT}"
THEIRS = "+14155550123"


async def ask(sim, method, path, *pairs, auth=(ACCOUNT, TOKEN), **form):
    """One REST request without a socket; status and body."""
    items = [*form.items(), *pairs]
    credentials = base64.b64encode(":".join(auth).encode()).decode()
    target, body = BASE + path, urlencode(items).encode()
    if method == "GET" and items:
        target, body = target + "?" + body.decode(), b""
    headers = {
        "authorization": "Basic " + credentials,
        "content-type": "application/x-www-form-urlencoded",
    }
    response = await sim.rest.handle(Request(method, target, headers, body))
    return response.status, json.loads(response.body or b"null")


async def dial(sim, *pairs, **form):
    """Create a call; its SimCall."""
    form = {"To": THEIRS, "From": OURS, "Url": GATEWAY + "/twilio/voice", **form}
    status, body = await ask(sim, "POST", "/Calls.json", *pairs, **form)
    assert status == 201, body
    return sim.calls[body["sid"]]


async def test_outbound_call_reports_its_progress(autojump_clock):
    """Queued, initiated, ringing, answered, talked, completed: each with its callback in order."""

    async def converse(session: Session) -> None:
        await session.until("start")
        await session.play(tone(300))
        await session.drain()

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect()
    async with gateway.running(gateway.sim()) as sim:
        sim.destinations[THEIRS] = Caller(answer_after_s=4.0, hangs_up=HangsUp(at_s=90.0))
        call = await dial(sim, *EVERY_EVENT, StatusCallback=GATEWAY + "/twilio/status?id=1")
        assert (call.status, call.queue_time_ms) == ("queued", 0)
        await trio.sleep(1)
        assert call.status == "ringing"
        _, body = await ask(sim, "GET", f"/Calls/{call.sid}.json")
        assert body["status"] == "ringing"
        await call.settled()

    assert gateway.signatures_bad == 0
    forms = gateway.posted("/twilio/status")
    assert [f["CallStatus"] for f in forms] == ["initiated", "ringing", "in-progress", "completed"]
    assert [f["SequenceNumber"] for f in forms] == ["0", "1", "2", "3"]
    assert all(f["Direction"] == "outbound-api" for f in forms)
    assert "CallDuration" not in forms[2]
    assert forms[3]["SipResponseCode"] == "200"
    assert (forms[3]["CallDuration"], forms[3]["Duration"]) == ("90", "2")
    assert call.answered_s == pytest.approx(4.0)
    (voice,) = gateway.posted("/twilio/voice")
    assert (voice["CallStatus"], voice["From"], voice["To"]) == ("in-progress", OURS, THEIRS)
    assert call.heard.startswith(tone(300))


@pytest.mark.parametrize(
    ("callee", "form", "status"),
    [
        (Caller(result="busy", answer_after_s=2), {}, "busy"),
        (Caller(result="no-answer", answer_after_s=20), {}, "no-answer"),
        (Caller(result="failed"), {}, "failed"),
        (Caller(answer_after_s=30), {"Timeout": "10"}, "no-answer"),
        (None, {}, "failed"),
    ],
    ids=["busy", "no-answer", "failed", "rings-too-long", "unknown-number"],
)
async def test_outbound_call_without_answer_has_its_status(autojump_clock, callee, form, status):
    """The callback `completed` carries the terminal status, and no TwiML is asked for."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        if callee is not None:
            sim.destinations[THEIRS] = callee
        call = await dial(sim, StatusCallback=GATEWAY + "/twilio/status", **form)
        await call.settled()
        _, body = await ask(sim, "GET", f"/Calls/{call.sid}.json")
    assert call.status == body["status"] == status
    assert body["duration"] == "0"
    assert [f["CallStatus"] for f in gateway.posted("/twilio/status")] == [status]
    assert gateway.posted("/twilio/voice") == []


async def test_calls_beyond_cps_wait_their_turn(autojump_clock):
    """At one call per second the third waits two seconds, and `queue_time` says so."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = "<Response/>"
    async with gateway.running(gateway.sim(cps=1.0)) as sim:
        sim.destinations[THEIRS] = Caller()
        calls = [await dial(sim) for _ in range(3)]
        assert [call.queue_time_ms for call in calls] == [0, 1000, 2000]
        for call in calls:
            await call.ended()
    initiated = [at for call in calls for at, name, _ in call.history if name == "initiated"]
    assert initiated == pytest.approx([0, 1, 2])


async def test_cancel_of_queued_call_never_rings(autojump_clock):
    """A queued call can be taken back."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim(cps=0.1)) as sim:
        await dial(sim)
        call = await dial(sim, *EVERY_EVENT, StatusCallback=GATEWAY + "/twilio/status")
        status, _ = await ask(sim, "POST", f"/Calls/{call.sid}.json", Status="canceled")
        await call.settled()
    assert (status, call.status) == (200, "canceled")
    assert [f["CallStatus"] for f in gateway.posted("/twilio/status")] == ["canceled"]


async def test_update_to_completed_stops_the_stream_and_ends_the_call(autojump_clock):
    """The server sees `stop`, and no further verb runs."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect(after="<Say>never</Say>")
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await trio.sleep(2)
        status, body = await ask(sim, "POST", f"/Calls/{call.sid}.json", Status="completed")
        await call.ended()
        again = await ask(sim, "POST", f"/Calls/{call.sid}.json", Status="completed")
    assert (status, body["status"]) == (200, "in-progress")
    assert (call.status, call.hung_up_by, call.heard_texts) == ("completed", "api", [])
    assert gateway.sessions[0].messages[-1]["event"] == "stop"
    assert (again[0], again[1]["code"]) == (400, 21220)


async def test_update_with_twiml_abandons_the_stream_and_runs_it(autojump_clock):
    """This is how a transfer is done: the stream stops, the new document runs, nothing of the old."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect(after="<Say>never</Say>")
    twiml = "<Response><Dial><Number>+14155550124</Number></Dial></Response>"
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await trio.sleep(2)
        status, _ = await ask(sim, "POST", f"/Calls/{call.sid}.json", Twiml=twiml)
        await call.ended()
    assert status == 200
    assert gateway.sessions[0].messages[-1]["event"] == "stop"
    assert [verb.name for verb in call.verbs] == ["Connect", "Dial"]
    assert (call.dialled, call.heard_texts) == (["+14155550124"], [])


async def test_update_with_url_fetches_it_there(autojump_clock):
    """The new document is asked for with the call in progress."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect()
    gateway.twiml["/twilio/new"] = "<Response><Say>new</Say></Response>"
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await trio.sleep(2)
        await ask(sim, "POST", f"/Calls/{call.sid}.json", Url=GATEWAY + "/twilio/new")
        await call.ended()
    assert gateway.posted("/twilio/new")[0]["CallStatus"] == "in-progress"
    assert call.heard_texts == ["new"]


async def test_time_limit_ends_the_call(autojump_clock):
    """`TimeLimit` seconds after the answer Twilio hangs up."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        sim.destinations[THEIRS] = Caller()
        call = await dial(sim, Url="", Twiml=connect(), TimeLimit="60")
        await call.ended()
    assert call.hung_up_by == "time-limit"
    assert call.now_s() == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"To": ""}, 21201),
        ({"To": "12"}, 21211),
        ({"To": "+1415555"}, None),
        ({"From": ""}, 21213),
        ({"From": "x"}, 21212),
        ({"From": "+14155550777"}, 21210),
        ({"Url": ""}, 21205),
        ({"Url": "gw"}, 21205),
        ({"Url": "", "Twiml": "x" * 4001}, 32018),
        ({"Method": "PUT"}, 21209),
        ({"Timeout": "soon"}, 21208),
        ({"StatusCallbackEvent": "dancing"}, 21626),
        ({"StatusCallback": "nowhere"}, 21609),
        ({"Machinedetection": "Enable"}, 20001),
    ],
)
async def test_create_with_bad_parameter_has_twilios_code(autojump_clock, change, code):
    """Each bad value is refused with its code, and nothing is dialled."""
    gateway = TinyGateway()
    form = {"To": THEIRS, "From": OURS, "Url": GATEWAY + "/twilio/voice", **change}
    async with gateway.running(gateway.sim()) as sim:
        status, body = await ask(sim, "POST", "/Calls.json", **form)
        made = len(sim.calls)
    if code is None:
        assert (status, made) == (201, 1)
        return
    assert (status, body["code"], body["status"], made) == (400, code, 400, 0)
    assert body["more_info"].endswith(str(code))


@pytest.mark.parametrize(
    ("method", "path", "auth", "status", "code"),
    [
        ("GET", "/Calls.json", (ACCOUNT, "wrong"), 401, 20003),
        ("GET", "/Calls.json", ("ACother", TOKEN), 401, 20003),
        ("GET", "/Calls/CAnone.json", (ACCOUNT, TOKEN), 404, 20404),
        ("GET", "/Dances.json", (ACCOUNT, TOKEN), 404, 20404),
        ("GET", "/Calls", (ACCOUNT, TOKEN), 404, 20404),
        ("DELETE", "/Calls.json", (ACCOUNT, TOKEN), 405, 20004),
        ("GET", "/IncomingPhoneNumbers/PNnone.json", (ACCOUNT, TOKEN), 404, 20404),
    ],
)
async def test_request_out_of_place_has_twilios_code(
    autojump_clock, method, path, auth, status, code
):
    """Credentials, unknown resources and methods."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        found, body = await ask(sim, method, path, auth=auth)
    assert (found, body["code"]) == (status, code)


async def test_resources_are_typed_as_documented(autojump_clock):
    """Counters are strings, dates RFC 2822, unknown values null."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = '<Response><Pause length="2"/></Response>'
    async with gateway.running(gateway.sim()) as sim:
        sim.destinations[THEIRS] = Caller()
        call = await dial(sim)
        _, queued = await ask(sim, "GET", f"/Calls/{call.sid}.json")
        await call.ended()
        _, over = await ask(sim, "GET", f"/Calls/{call.sid}.json")
        _, account = await ask(sim, "GET", ".json")
    assert (queued["duration"], queued["start_time"], queued["price"]) == (None, None, None)
    assert (over["duration"], over["queue_time"]) == ("2", "0")
    assert over["date_created"].endswith("+0000")
    assert over["to_formatted"] == "(415) 555-0123"
    assert over["uri"] == f"{BASE}/Calls/{call.sid}.json"
    assert (account["sid"], account["status"]) == (ACCOUNT, "active")


async def test_list_filters_and_pages(autojump_clock):
    """Newest first, by number and status and time; pages lead to the next by their own link."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        calls = [await dial(sim, To=f"+1415555010{n}") for n in range(5)]
        for call in calls:
            await call.ended()
        _, one = await ask(sim, "GET", "/Calls.json", To="+14155550103")
        _, none = await ask(sim, "GET", "/Calls.json", Status="busy")
        _, past = await ask(sim, "GET", "/Calls.json", ("StartTime<", "2020-01-01"))
        _, since = await ask(sim, "GET", "/Calls.json", ("StartTime>", "2020-01-01T00:00:00Z"))
        seen, path = [], "/Calls.json?PageSize=2&From=%2B14155550199"
        while path:
            _, page = await ask(sim, "GET", path)
            seen += [call["sid"] for call in page["calls"]]
            path = (page["next_page_uri"] or "").removeprefix(BASE)
        too_many = await ask(sim, "GET", "/Calls.json", PageSize="1001")
    assert [call["sid"] for call in one["calls"]] == [calls[3].sid]
    assert none["calls"] == past["calls"] == []
    assert len(since["calls"]) == 5
    assert seen == [call.sid for call in reversed(calls)]
    assert one["next_page_uri"] is None
    assert too_many[1]["code"] == 20007


async def test_numbers_are_bought_found_changed_and_released(autojump_clock):
    """The whole life of an owned number over REST."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        path = "/IncomingPhoneNumbers.json"
        status, made = await ask(
            sim, "POST", path, PhoneNumber=THEIRS, VoiceUrl=GATEWAY + "/v", FriendlyName="desk"
        )
        assert (status, made["phone_number"], made["voice_method"]) == (201, THEIRS, "POST")
        _, taken = await ask(sim, "POST", path, PhoneNumber=THEIRS)
        _, found = await ask(sim, "GET", path, PhoneNumber="*550123")
        one = f"/IncomingPhoneNumbers/{made['sid']}.json"
        _, changed = await ask(sim, "POST", one, VoiceUrl="", StatusCallback=GATEWAY + "/s")
        _, bad = await ask(sim, "POST", one, VoiceUrl="gw", FriendlyName="kept?")
        _, early = await ask(sim, "POST", one, VoiceFallbackUrl=GATEWAY + "/f")
        _, area = await ask(sim, "POST", path, AreaCode="212")
        gone, _ = await ask(sim, "DELETE", one)
        _, rest = await ask(sim, "GET", path)
    assert taken["code"] == 21422
    assert [number["sid"] for number in found["incoming_phone_numbers"]] == [made["sid"]]
    assert (changed["voice_url"], changed["status_callback"]) == ("", GATEWAY + "/s")
    assert (bad["code"], early["code"]) == (21402, 21405)
    assert area["phone_number"].startswith("+1212")
    assert gone == 204
    assert THEIRS not in [n["phone_number"] for n in rest["incoming_phone_numbers"]]


async def test_ordered_faults_hit_the_next_requests_only(autojump_clock):
    """A fault is used up, other paths are not touched, and a lost answer may have acted."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        sim.fail_next("POST", "/Calls", 429, 20429, times=2)
        form = {"To": THEIRS, "From": OURS, "Url": GATEWAY + "/v"}
        first = [(await ask(sim, "POST", "/Calls.json", **form))[0] for _ in range(3)]
        assert first == [429, 429, 201]
        assert len(sim.calls) == 1
        sim.delay("GET", "/Calls", 5.0)
        began = trio.current_time()
        await ask(sim, "GET", "/Calls.json")
        assert trio.current_time() - began == pytest.approx(5.0)
        sim.lose_answer("POST", f"{BASE}/Calls")
        with pytest.raises(AttributeError):
            await ask(sim, "POST", "/Calls.json", **form)
        assert len(sim.calls) == 2
        sim.lose_answer("POST", "/Calls", acted=False)
        with pytest.raises(AttributeError):
            await ask(sim, "POST", "/Calls.json", **form)
        assert len(sim.calls) == 2
        assert len({new_sid("CA") for _ in range(3)}) == 3
