"""The simulated Twilio over real sockets: the official SDK as its client, a real server as its peer."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

import pytest
import requests
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from trio_websocket import WebSocketRequest, serve_websocket
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from bench.sim_twilio import Caller, HangsUp, Says, TwilioSim
from tests.bench.tiny_gateway import ACCOUNT, CALLER, OURS, TOKEN, Session, TinyGateway, tone

THEIRS = "+14155550123"


class Redirected(TwilioHttpClient):
    """The SDK's HTTP client, sent to another origin."""

    def __init__(self, origin: str, **options) -> None:
        super().__init__(**options)
        self.origin = origin
        self.session.trust_env = False

    def request(self, method, url, *args, **kwargs):
        """As the SDK's, with the host replaced."""
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return super().request(method, self.origin + path, *args, **kwargs)


@pytest.fixture
async def sim():
    """A running simulator that cannot reach any gateway."""
    made = TwilioSim(ACCOUNT, TOKEN, [OURS], destinations={THEIRS: Caller(answer_after_s=30)})
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            yield made
            nursery.cancel_scope.cancel()


@pytest.fixture
def sdk(sim):
    """The official client, pointed at the simulator."""
    http = Redirected(sim.base_url, timeout=2.0)
    yield Client(ACCOUNT, TOKEN, http_client=http)
    http.session.close()


def create(sdk: Client, **options):
    """A call as the gateway would create it."""
    options = {"to": THEIRS, "from_": OURS, "url": "http://127.0.0.1:9/voice", **options}
    return sdk.calls.create(**options)


async def in_thread(function, *args, **kwargs):
    """The SDK blocks, so it runs beside the loop."""
    return await trio.to_thread.run_sync(partial(function, *args, **kwargs))


async def test_sdk_creates_fetches_lists_and_ends_a_call(sim, sdk):
    """The SDK understands what the simulator answers, types included."""
    made = await in_thread(
        create,
        sdk,
        status_callback="http://127.0.0.1:9/status#rc=0",
        status_callback_event=["initiated", "completed"],
        timeout=30,
    )
    assert made.sid in sim.calls
    assert (made.status, made.direction, made.queue_time) == ("queued", "outbound-api", "0")
    assert sim.calls[made.sid].status_target.events == {"initiated", "completed"}
    found = await in_thread(sdk.calls(made.sid).fetch)
    assert found.status in ("queued", "ringing")
    assert found.date_created == made.date_created is not None
    listed = await in_thread(sdk.calls.list, to=THEIRS, start_time_after=made.date_created)
    assert [call.sid for call in listed] == [made.sid]
    ended = await in_thread(sdk.calls(made.sid).update, status="completed")
    assert ended.sid == made.sid
    await sim.calls[made.sid].settled()
    assert sim.calls[made.sid].status == "canceled"
    with pytest.raises(TwilioRestException) as caught:
        await in_thread(sdk.calls(made.sid).update, status="completed")
    assert (caught.value.status, caught.value.code) == (400, 21220)


async def test_sdk_finds_and_changes_a_number(sim, sdk):
    """A number is found by its E.164 form and given its webhooks."""
    (number,) = await in_thread(sdk.incoming_phone_numbers.list, phone_number=OURS)
    changed = await in_thread(
        sdk.incoming_phone_numbers(number.sid).update,
        voice_url="https://gw.example.com/twilio/voice",
        voice_method="POST",
        status_callback="https://gw.example.com/twilio/status",
    )
    assert changed.voice_url == sim.numbers[OURS].voice_url
    assert sim.numbers[OURS].status_callback == "https://gw.example.com/twilio/status"
    account = await in_thread(sdk.api.v2010.accounts(ACCOUNT).fetch)
    assert account.status == "active"


@pytest.mark.parametrize(
    ("options", "code"),
    [({"to": "12"}, 21211), ({"from_": "+14155550777"}, 21210), ({"url": "gw"}, 21205)],
)
async def test_sdk_raises_twilios_code_for_a_bad_call(sim, sdk, options, code):
    """Documented errors arrive as the SDK's exception."""
    with pytest.raises(TwilioRestException) as caught:
        await in_thread(create, sdk, **options)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert sim.calls == {}


async def test_sdk_with_wrong_token_is_refused(sim):
    """401 with 20003."""
    http = Redirected(sim.base_url)
    stranger = Client(ACCOUNT, "wrong", http_client=http)
    with pytest.raises(TwilioRestException) as caught:
        await in_thread(stranger.api.v2010.accounts(ACCOUNT).fetch)
    assert (caught.value.status, caught.value.code) == (401, 20003)
    http.session.close()


async def test_sdk_sees_ordered_faults(sim, sdk):
    """429, 500, a lost answer and a slow one, each as its client would meet it."""
    for status, code in ((429, 20429), (500, 20500)):
        sim.fail_next("POST", "/Calls", status, code)
        with pytest.raises(TwilioRestException) as caught:
            await in_thread(create, sdk)
        assert (caught.value.status, caught.value.code) == (status, code)
    assert sim.calls == {}
    sim.lose_answer("POST", "/Calls")
    with pytest.raises(requests.exceptions.ConnectionError):
        await in_thread(create, sdk)
    assert len(sim.calls) == 1
    sdk.http_client.timeout = 0.1
    sim.delay("POST", "/Calls", 1.0)
    with pytest.raises(requests.exceptions.Timeout):
        await in_thread(create, sdk)
    assert len(sim.calls) == 2


async def test_port_that_is_taken_is_an_error(sim):
    """Two simulators cannot have one port."""
    port = urlsplit(sim.base_url).port
    with pytest.raises(OSError, match="in use"):
        await TwilioSim(ACCOUNT, TOKEN, port=port).run()


async def test_call_over_real_sockets_keeps_time():
    """Two seconds of wall time with Hypercorn and trio-websocket as the other end."""

    async def converse(request: WebSocketRequest) -> None:
        session = Session(await request.accept(), {})
        sessions.append(session)
        await session.until("start")
        await session.play(tone(500))
        await session.mark("m")
        await session.drain()

    sessions: list[Session] = []
    gateway = TinyGateway()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            config = Config()
            config.bind = ["127.0.0.1:0"]
            config.loglevel = "ERROR"
            (address,) = await nursery.start(partial(serve, gateway.app, config))
            media = await nursery.start(
                partial(serve_websocket, converse, "127.0.0.1", 0, ssl_context=None)
            )
            gateway.twiml["/voice"] = (
                f'<Response><Connect><Stream url="ws://127.0.0.1:{media.port}/m/1"/></Connect>'
                "</Response>"
            )
            sim = TwilioSim(ACCOUNT, TOKEN, [OURS])
            await nursery.start(sim.run)
            sim.numbers[OURS].voice_url = address + "/voice"
            script = Caller(says=[Says(audio=tone(200), at_s=0.6)], hangs_up=HangsUp(at_s=1.5))
            call = await sim.call_in(CALLER, OURS, script)
            await call.settled()
            nursery.cancel_scope.cancel()

    assert call.status == "completed"
    (session,) = sessions
    media_count = len(session.named("media"))
    assert 73 <= media_count <= 76
    assert session.messages[-1]["event"] == "stop"
    stream = call.stream
    assert stream is not None
    ((echoed_s, _),) = stream.echoed
    first_s = stream.times.t_first_media_received_s
    assert first_s is not None
    assert echoed_s - first_s == pytest.approx(0.5, abs=0.05)
    assert tone(500) in call.heard
    assert tone(200) in call.said
