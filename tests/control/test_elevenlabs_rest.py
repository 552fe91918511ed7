"""ElevenLabs REST: what is asked, and what each kind of answer becomes."""

from __future__ import annotations

import json
import re
from functools import partial

import httpx
import pytest
import trio

from control.config import ElevenLabsSettings, Secret
from control.elevenlabs import rest
from control.elevenlabs.profile import check
from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsRest, ElevenLabsUnavailable
from control.results.source import Conversations

AGENT = {
    "agent_id": "agent_1",
    "conversation_config": {
        "asr": {"user_input_audio_format": "ulaw_8000"},
        "tts": {"agent_output_audio_format": "ulaw_8000"},
        "conversation": {
            "text_only": False,
            "client_events": ["audio", "interruption", "user_transcript", "agent_response"],
        },
    },
}


def client(answer, **more):
    """A client whose requests are answered by a function or by a fixed response."""

    def handler(request):
        made = answer(request) if callable(answer) else answer
        # Made anew from its stream: a response made from content counts as read already.
        return httpx.Response(made.status_code, headers=made.headers, stream=made.stream)

    settings = ElevenLabsSettings(api_key=Secret("the-key"), base_url="https://eleven.test")
    return ElevenLabsRest(settings, transport=httpx.MockTransport(handler), **more)


async def test_get_agent_asks_with_the_key_and_an_escaped_id():
    """An id is opaque: whatever is in it stays one part of the path."""
    asked = []

    def answer(request):
        asked.append(request)
        return httpx.Response(200, json=AGENT)

    counted = []
    async with client(answer, count=lambda *seen: counted.append(seen)) as eleven:
        assert await eleven.get_agent("a/../b?c") == AGENT
    (request,) = asked
    assert str(request.url) == "https://eleven.test/v1/convai/agents/a%2F%2E%2E%2Fb%3Fc"
    assert request.headers["xi-api-key"] == "the-key"
    assert counted == [("agents.get", "ok")]


async def test_get_conversation_asks_for_the_conversation():
    """The object with transcript, analysis and cost."""
    async with client(lambda request: httpx.Response(200, json={"path": request.url.path})) as e:
        assert await e.get_conversation("conv_1") == {"path": "/v1/convai/conversations/conv_1"}


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (404, {"detail": {"status": "agent_not_found", "message": "No agent"}},
         "agent_not_found", "No agent"),
        (401, {"detail": {"code": "invalid_api_key"}}, "invalid_api_key", "invalid_api_key"),
        (422, {"detail": [{"loc": ["path", "agent_id"], "msg": "too long"}, 5]},
         "validation", "path.agent_id: too long"),
        (404, {"detail": "Not Found"}, "", "Not Found"),
        (403, ["?"], "", ""),
        (400, {"detail": {"message": "x" * 5000}}, "", "x" * 300),
    ],
)  # fmt: skip
async def test_refusal_in_any_known_shape_keeps_status_word_and_message(
    status, body, code, message
):
    """The three shapes of `detail`, and none of them."""
    async with client(httpx.Response(status, json=body)) as eleven:
        with pytest.raises(ElevenLabsRefused) as caught:
            await eleven.get_agent("agent_1")
    assert (caught.value.status, caught.value.code, caught.value.message) == (status, code, message)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (
            httpx.Response(429, json={"detail": {"status": "system_busy", "message": "busy"}}),
            "busy",
        ),
        (httpx.Response(503, text="<html>"), "HTTP 503"),
        (httpx.Response(302, headers={"location": "https://elsewhere.test/"}), "HTTP 302"),
        (httpx.Response(200, text="not JSON"), "no JSON object"),
        (httpx.Response(200, text="[" * 100_000), "no JSON object"),
        (httpx.Response(200, json=[1]), "no JSON object"),
        (httpx.Response(200, content=b"\xff\xfe"), "no JSON object"),
    ],
)
async def test_answer_that_cannot_be_used_is_unavailable_and_counted(response, reason):
    """Asking again later may help; the reason is kept."""
    counted = []
    async with client(response, count=lambda *seen: counted.append(seen)) as eleven:
        with pytest.raises(ElevenLabsUnavailable, match=reason):
            await eleven.get_agent("agent_1")
    assert counted == [("agents.get", "unavailable")]


async def test_answer_without_end_is_cut_at_the_limit(monkeypatch):
    """Memory is bounded whatever comes."""
    monkeypatch.setattr(rest, "REPLY_MAX_BYTES", 10_000)
    sent = []

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                sent.append(1)
                await trio.lowlevel.checkpoint()
                yield b"x" * 1000

    async with client(httpx.Response(200, stream=Endless())) as eleven:
        with pytest.raises(ElevenLabsUnavailable, match="larger than 10000 bytes"):
            await eleven.get_agent("agent_1")
    assert len(sent) <= 12  # the eleventh is too much, and one more may be on its way


async def test_answer_that_trickles_ends_at_the_deadline(autojump_clock):
    """Each byte comes in time, the answer never does."""

    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                await trio.sleep(1)
                yield b" "

    begin_s = trio.current_time()
    async with client(httpx.Response(200, stream=Trickle())) as eleven:
        with pytest.raises(ElevenLabsUnavailable, match="no answer within 15 s"):
            await eleven.get_agent("agent_1")
    assert trio.current_time() - begin_s == pytest.approx(rest.REPLY_TIMEOUT_S)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectTimeout("t"), "no connection within 5 s"),
        (httpx.ReadTimeout("t"), "no answer within 15 s"),
        (httpx.ConnectError("refused"), "ConnectError: refused"),
        (httpx.RemoteProtocolError("garbage"), "RemoteProtocolError: garbage"),
    ],
)
async def test_network_failure_is_unavailable_with_its_reason(error, reason):
    """None of httpx's own exceptions comes out."""

    def answer(request):
        raise error

    async with client(answer) as eleven:
        with pytest.raises(ElevenLabsUnavailable, match=reason):
            await eleven.get_agent("agent_1")


async def serve_once(head, body, stream):
    """An HTTP server of one answer."""
    await stream.receive_some(65_536)
    await stream.send_all(head + b"content-length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("is_compressed", [False, True])
async def test_over_a_real_socket_plain_answers_arrive_and_compressed_ones_are_refused(
    is_compressed, nursery
):
    """The client works under Trio; a compressed answer could be a bomb."""
    head = b"HTTP/1.1 200 OK\r\n" + (b"content-encoding: gzip\r\n" if is_compressed else b"")
    serve = partial(serve_once, head, json.dumps(AGENT).encode())
    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    settings = ElevenLabsSettings(api_key=Secret("k"), base_url=f"http://127.0.0.1:{port}")
    async with ElevenLabsRest(settings) as eleven:
        if is_compressed:
            with pytest.raises(ElevenLabsUnavailable, match="compressed"):
                await eleven.get_agent("agent_1")
        else:
            assert await eleven.get_agent("agent_1") == AGENT
    nursery.cancel_scope.cancel()


async def test_refused_connection_over_a_real_socket_is_unavailable():
    """Nobody listens: the operator reads that, not a traceback."""
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        settings = ElevenLabsSettings(api_key=Secret("k"), base_url=url)
        async with ElevenLabsRest(settings) as eleven:
            with pytest.raises(ElevenLabsUnavailable, match="ConnectError"):
                await eleven.get_agent("agent_1")


# ---- the agent's profile -------------------------------------------------------------------------


def changed(section, key, value):
    """AGENT with one value of its configuration changed."""
    config = json.loads(json.dumps(AGENT["conversation_config"]))
    config.setdefault(section, {})[key] = value
    return {"conversation_config": config}


def test_profile_of_a_good_agent_finds_nothing():
    """µ-law both ways and all the events."""
    assert check(AGENT).problems == check(AGENT).unusable == ()


@pytest.mark.parametrize(
    ("section", "key", "value", "finding"),
    [
        ("conversation", "client_events", ["audio"], "lacks 'interruption' .* cannot interrupt"),
        ("conversation", "client_events", ["interruption"], "lacks 'audio' .nobody hears"),
    ],
)
def test_profile_that_could_be_better_is_a_problem_with_what_to_do(section, key, value, finding):
    """Calls work; the operator reads what to set."""
    found = check(changed(section, key, value))
    assert found.unusable == ()
    assert any(re.search(finding, problem) for problem in found.problems)


@pytest.mark.parametrize(
    ("section", "key", "value", "finding"),
    [
        ("asr", "user_input_audio_format", "pcm_16000", "asr.user_input_audio_format is pcm_16000"),
        ("tts", "agent_output_audio_format", None, "tts.agent_output_audio_format is pcm_16000"),
    ],
)
def test_profile_with_pcm_is_good_and_gets_a_hint(section, key, value, finding):
    """Transcoding is a normal way to work; it only costs more."""
    found = check(changed(section, key, value))
    assert found.unusable == found.problems == ()
    assert finding in found.hints[0]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("tts", "agent_output_audio_format", "mp3_44100"),
        ("asr", "user_input_audio_format", ["ulaw_8000"]),
        ("conversation", "text_only", True),
    ],
)
def test_profile_that_cannot_work_is_unusable(section, key, value):
    """No call could be made with it."""
    assert len(check(changed(section, key, value)).unusable) == 1


@pytest.mark.parametrize("agent", [{}, {"conversation_config": []}])
def test_profile_without_a_configuration_says_nothing(agent):
    """Nothing is known, so nothing is held against the agent."""
    found = check(agent)
    assert found.unusable == found.problems == found.hints == ()


def test_profile_of_an_odd_configuration_takes_the_services_defaults():
    """Absent fields mean 16 kHz both ways and the default events."""
    found = check({"conversation_config": {"asr": 1}})
    assert found.unusable == found.problems == ()
    assert len(found.hints) == 2


async def test_conversations_of_a_call_are_found_and_deleted():
    """The requests are those of the documented paths; 404 is for the caller to judge."""
    asked = []

    def answer(request):
        asked.append((request.method, request.url.path, dict(request.url.params)))
        if request.method == "DELETE":
            gone = request.url.path.endswith("conv_2")
            return httpx.Response(404 if gone else 200, json={"detail": {"status": "not_found"}})
        listed = [{"conversation_id": "conv_1"}, {"conversation_id": "conv_2"}, {"other": 1}]
        return httpx.Response(200, json={"conversations": listed})

    async with client(answer) as eleven:
        copies = Conversations(eleven)
        assert await copies.find_conversations("gw_call_id", "call_1") == ["conv_1", "conv_2"]
        await copies.delete_conversation("conv_1")
        with pytest.raises(ElevenLabsRefused) as refused:
            await copies.delete_conversation("conv_2")
    assert refused.value.status == 404
    listing = {"dynamic_variable_params": "gw_call_id:eq:call_1", "page_size": "100"}
    assert asked == [
        ("GET", "/v1/convai/conversations", listing),
        ("DELETE", "/v1/convai/conversations/conv_1", {}),
        ("DELETE", "/v1/convai/conversations/conv_2", {}),
    ]
