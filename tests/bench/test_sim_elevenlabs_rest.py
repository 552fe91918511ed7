"""The simulator's REST face over a real socket, with httpx."""

from __future__ import annotations

import json
import ssl
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from bench.sim_elevenlabs import AgentScript, ElevenLabsSim, RestFaults, Utterance, rest
from bench.sim_elevenlabs.probe import dialled
from bench.sim_elevenlabs.tls import throwaway_tls

SIGNED = "/v1/convai/conversation/get-signed-url"


@asynccontextmanager
async def served(agents=None, **options):
    """A listening simulator and a client with its key."""
    sim = ElevenLabsSim("key", {"agent": AgentScript()} if agents is None else agents, **options)
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(sim.run)
        headers = {"xi-api-key": "key"}
        async with httpx.AsyncClient(base_url=base_url, headers=headers) as client:
            yield sim, client
        nursery.cancel_scope.cancel()


async def test_signed_url_connects_as_it_is():
    """REST and the socket share a port; the URL works without the key."""
    async with served() as (sim, client):
        url = (await client.get(SIGNED, params={"agent_id": "agent"})).json()["signed_url"]
        async with open_websocket_url(url) as socket:
            await socket.send_message('{"type":"conversation_initiation_client_data"}')
            first = json.loads(await socket.get_message())
    assert first["type"] == "conversation_initiation_metadata"
    (record,) = sim.conversations.values()
    assert record.authorization_method == "signed_url"
    assert (
        first["conversation_initiation_metadata_event"]["conversation_id"] == record.conversation_id
    )


async def test_signed_url_with_conversation_id_works_once():
    """`include_conversation_id` names the conversation and makes the signature single-use."""
    async with served() as (sim, client):
        params = {"agent_id": "agent", "include_conversation_id": "true"}
        url = (await client.get(SIGNED, params=params)).json()["signed_url"]
        token = url.split("conversation_signature=")[1].split("&")[0]
        wanted = url.split("conversation_id=")[1]
    first, second = sim.book.redeem(token, "agent"), sim.book.redeem(token, "agent")
    assert first.conversation_id == wanted
    assert second is None


async def test_signature_is_for_its_agent_and_fifteen_minutes(autojump_clock):
    """Another agent's signature and an old one are worth nothing; a running call may go on."""
    sim = ElevenLabsSim("key", {"agent": AgentScript(), "other": AgentScript()})
    token = sim.book.sign("agent", None)
    assert sim.book.redeem(token, "other") is None
    await trio.sleep(14 * 60)
    assert sim.book.redeem(token, "agent") is not None
    await trio.sleep(2 * 60)
    assert sim.book.redeem(token, "agent") is None


async def test_request_without_key_or_with_a_wrong_one_is_401():
    """The documented shape of a bad key."""
    async with served() as (_, client):
        for key in ("", "wrong"):
            reply = await client.get(SIGNED, headers={"xi-api-key": key})
            assert reply.status_code == 401
            assert reply.json()["detail"]["status"] == "invalid_api_key"


async def test_signed_url_of_no_agent_is_422_and_of_an_unknown_one_404():
    """A missing parameter is the list form; an unknown agent the object form."""
    async with served() as (_, client):
        missing = await client.get(SIGNED)
        unknown = await client.get(SIGNED, params={"agent_id": "nobody"})
    assert missing.status_code == 422
    assert missing.json()["detail"][0]["loc"] == ["query", "agent_id"]
    assert unknown.status_code == 404
    assert unknown.json()["detail"]["status"] == "agent_not_found"


@pytest.mark.parametrize("status", [401, 403, 404, 422, 429, 500])
async def test_signed_url_fault_answers_its_status(status):
    """The script decides what get-signed-url answers."""
    agents = {"agent": AgentScript(rest=RestFaults(signed_url_status=status))}
    async with served(agents) as (_, client):
        reply = await client.get(SIGNED, params={"agent_id": "agent"})
    assert reply.status_code == status
    assert set(reply.json()["detail"]) == {"status", "message"}
    assert ("current-concurrent-requests" in reply.headers) == (status == 429)


async def test_signed_url_slow_is_slow_and_garbage_is_no_json():
    """A delay makes a client time out; garbage is 200 without JSON."""
    slow = AgentScript(rest=RestFaults(signed_url_delay_s=30.0))
    agents = {"slow": slow, "bad": AgentScript(rest=RestFaults(signed_url_garbage=True))}
    async with served(agents) as (_, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.get(SIGNED, params={"agent_id": "slow"}, timeout=0.2)
        garbage = await client.get(SIGNED, params={"agent_id": "bad"})
    assert garbage.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        garbage.json()


async def test_agent_created_read_patched_listed_and_deleted():
    """The life of an agent; PATCH merges and shows in the next conversation's formats."""
    async with served() as (sim, client):
        body = {"name": "New", "conversation_config": {"tts": {"voice_id": "v"}}}
        created = (await client.post("/v1/convai/agents/create", json=body)).json()
        path = f"/v1/convai/agents/{created['agent_id']}"
        before = (await client.get(path)).json()
        patch = {"conversation_config": {"tts": {"agent_output_audio_format": "pcm_16000"}}}
        after = (await client.patch(path, json=patch)).json()
        listed = (await client.get("/v1/convai/agents", params={"search": "new"})).json()
        effective = sim.book.agents[created["agent_id"]].effective()
        deleted = await client.delete(path)
        gone = await client.get(path)
    assert before["conversation_config"]["tts"]["agent_output_audio_format"] == "ulaw_8000"
    assert after["conversation_config"]["tts"] == {
        "voice_id": "v",
        "agent_output_audio_format": "pcm_16000",
    }
    assert effective.output_format == "pcm_16000"
    assert [agent["agent_id"] for agent in listed["agents"]] == [created["agent_id"]]
    assert (deleted.status_code, gone.status_code) == (200, 404)


async def test_agent_bodies_that_are_wrong_are_422():
    """No config, an unknown format, no object and no JSON are refused and change nothing."""
    async with served() as (sim, client):
        create, path = "/v1/convai/agents/create", "/v1/convai/agents/agent"
        bad = {"conversation_config": {"tts": {"agent_output_audio_format": "mp3_44100"}}}
        replies = [
            await client.post(create, json={"name": "x"}),
            await client.post(create, json=bad),
            await client.patch(path, json=bad),
            await client.patch(path, json=[1]),
            await client.patch(path, content=b"{"),
            await client.patch(path, json={"conversation_config": "none"}),
        ]
    assert [reply.status_code for reply in replies] == [422] * 6
    assert all(isinstance(reply.json()["detail"], list) for reply in replies)
    assert list(sim.book.agents) == ["agent"]
    assert sim.book.agents["agent"].effective() == AgentScript()


async def test_unknown_path_is_404_and_wrong_method_405():
    """The bare form of an error."""
    async with served() as (_, client):
        unknown = await client.get("/v1/convai/nothing")
        outside = await client.get("/")
        wrong = await client.post(SIGNED)
    assert unknown.status_code == outside.status_code == 404
    assert unknown.json() == {"detail": "Not Found"}
    assert wrong.status_code == 405


async def test_agents_are_listed_in_pages():
    """`page_size` and `cursor` walk through all agents once."""
    agents = {f"agent_{number}": AgentScript() for number in range(5)}
    seen, cursor = [], None
    async with served(agents) as (_, client):
        while True:
            params = {"page_size": 2} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/convai/agents", params=params)).json()
            seen += [agent["agent_id"] for agent in page["agents"]]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
        refused = await client.get("/v1/convai/agents", params={"page_size": 101})
    assert seen == list(agents)
    assert refused.status_code == 422


async def talked(script: AgentScript) -> ElevenLabsSim:
    """A simulator that had one conversation with one user message."""
    sim = ElevenLabsSim("key", {"agent": script})
    initiation = {"dynamic_variables": {"gw_call_id": "call_1"}, "user_id": "u1"}
    async with dialled(sim, "agent", initiation=initiation) as probe:
        await probe.until("agent_response_complete")
        await probe.send({"type": "user_message", "text": "Bye."})
        await probe.be_quiet(3.0)
    return sim


async def test_conversation_goes_from_progress_through_processing_to_done(autojump_clock):
    """After the polls the script asks for, transcript, analysis and metadata are complete."""
    script = AgentScript(
        first_message=Utterance.of("agent_hold"),
        data_collection={"callback": "+14155550100", "visits": 2},
        summary="They spoke.",
        rest=RestFaults(processing_polls=2),
    )
    sim = await talked(script)
    path = "/v1/convai/conversations/" + next(iter(sim.conversations))
    bodies = [_get(sim, path) for _ in range(4)]
    assert [body["status"] for body in bodies] == ["processing", "processing", "done", "done"]
    assert bodies[0]["analysis"] is None
    done = bodies[-1]
    results = done["analysis"]["data_collection_results"]
    assert results["callback"]["value"] == "+14155550100"
    assert results["visits"]["json_schema"]["type"] == "integer"
    assert done["analysis"]["transcript_summary"] == "They spoke."
    assert [(t["role"], t["message"]) for t in done["transcript"]][1] == ("user", "Bye.")
    sent = done["conversation_initiation_client_data"]
    assert sent["dynamic_variables"]["gw_call_id"] == "call_1"
    assert done["metadata"]["call_duration_secs"] >= 3
    assert done["metadata"]["phone_call"] is None


async def test_conversation_fault_and_failure_show_in_rest(autojump_clock):
    """A status on demand, and a conversation whose analysis failed."""
    broken = await talked(
        AgentScript(
            first_message=Utterance.of("agent_hold"), rest=RestFaults(conversation_status=500)
        )
    )
    failed = await talked(
        AgentScript(
            first_message=Utterance.of("agent_hold"),
            rest=RestFaults(analysis_fails=True, processing_polls=0),
        )
    )
    path = "/v1/convai/conversations/"
    assert _get(broken, path + next(iter(broken.conversations)), status=500)["detail"]
    assert _get(failed, path + next(iter(failed.conversations)))["status"] == "failed"
    assert _get(failed, path + "conv_nobody", status=404)["detail"]["status"]


async def test_conversations_are_found_by_dynamic_variable(autojump_clock):
    """`dynamic_variable_params` finds the conversation of a call, and only that."""
    sim = await talked(AgentScript(first_message=Utterance.of("agent_hold")))
    found = _get(sim, "/v1/convai/conversations", dynamic_variable_params="gw_call_id:eq:call_1")
    other = _get(sim, "/v1/convai/conversations", dynamic_variable_params="gw_call_id:eq:call_2")
    assert [c["conversation_id"] for c in found["conversations"]] == list(sim.conversations)
    assert other["conversations"] == []
    assert _get(sim, "/v1/convai/analytics/live-count", agent_id="agent") == {"count": 0}


async def test_conversation_that_was_deleted_is_404_and_in_no_list(autojump_clock):
    """Also when it is deleted again; what happened in it stays known to the test."""
    sim = await talked(AgentScript(first_message=Utterance.of("agent_hold")))
    conversation_id = next(iter(sim.conversations))
    path = f"/v1/convai/conversations/{conversation_id}"
    for status in (200, 404):
        request = rest.Request("DELETE", path, {}, {"xi-api-key": "key"})
        assert rest.answer(sim.book, "ws://sim.test", request).status == status
    assert _get(sim, path, status=404)["detail"]["status"] == "conversation_not_found"
    assert _get(sim, "/v1/convai/conversations")["conversations"] == []
    assert list(sim.conversations) == [conversation_id]


async def test_connection_is_kept_alive_and_a_broken_request_is_dropped():
    """Several requests go over one connection; bytes that are no HTTP just end theirs."""
    async with served() as (sim, client):
        for _ in range(3):
            assert (await client.get("/v1/convai/agents")).status_code == 200
        port = int(sim.base_url.rsplit(":", 1)[1])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"\x16\x03\x01 not HTTP\r\n\r\n")
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
        assert (await client.get("/v1/convai/agents")).status_code == 200


async def test_tls_serves_rest_and_socket(tmp_path):
    """With a context both speak TLS, and the signed URL is wss."""
    try:
        context, certificate = throwaway_tls(tmp_path)
    except RuntimeError as error:
        pytest.skip(str(error))
    trusting = ssl.create_default_context(cafile=str(certificate))
    sim = ElevenLabsSim("key", {"agent": AgentScript()}, ssl_context=context)
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(sim.run)
        headers = {"xi-api-key": "key"}
        async with httpx.AsyncClient(verify=trusting, headers=headers) as client:
            reply = await client.get(base_url + SIGNED, params={"agent_id": "agent"})
        url = reply.json()["signed_url"]
        assert url.startswith("wss://")
        async with open_websocket_url(url, ssl_context=trusting) as socket:
            await socket.send_message('{"type":"conversation_initiation_client_data"}')
            assert "conversation_initiation_metadata" in await socket.get_message()
        nursery.cancel_scope.cancel()


def _get(sim, path, *, status=200, **query):
    """One GET below HTTP: these tests run under a mock clock."""
    request = rest.Request("GET", path, query, {"xi-api-key": "key"})
    reply = rest.answer(sim.book, "ws://sim.test", request)
    assert reply.status == status
    return json.loads(json.dumps(reply.body))
