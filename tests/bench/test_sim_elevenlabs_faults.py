"""Every fault of the conversation socket does what its name says."""

from __future__ import annotations

import base64
import binascii
import json

import pytest
import trio
from trio_websocket import ConnectionRejected, open_websocket_url

from bench.sim_elevenlabs import AgentScript, ElevenLabsSim, Faults, Utterance, wire
from bench.sim_elevenlabs.probe import dialled

HOLD = Utterance.of("agent_hold")
LONG = Utterance.of("agent_long")
METADATA = "conversation_initiation_metadata"


def sim_with(faults: Faults, **fields) -> ElevenLabsSim:
    return ElevenLabsSim("key", {"agent": AgentScript(faults=faults, **fields)})


def record_of(sim):
    (record,) = sim.conversations.values()
    return record


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
async def test_upgrade_refused_answers_the_status(status, autojump_clock):
    """The handshake is answered with an HTTP status and no conversation begins."""
    sim = sim_with(Faults(refuse_upgrade=status))
    with pytest.raises(ConnectionRejected) as refused:
        async with dialled(sim, "agent"):
            pass
    assert refused.value.status_code == status
    assert sim.conversations == {}


async def test_upgrade_never_answered_hangs(autojump_clock):
    """The request is read and nothing comes back."""
    sim = sim_with(Faults(hang_upgrade=True))
    with trio.move_on_after(30) as patience:
        async with dialled(sim, "agent"):
            pytest.fail("the upgrade was answered")
    assert patience.cancelled_caught


@pytest.mark.parametrize(
    "query", ["?agent_id=agent", "?agent_id=agent&conversation_signature=forged", "?agent_id=other"]
)
async def test_upgrade_without_good_signature_or_agent_is_refused(query, autojump_clock):
    """A private agent needs a signature from get-signed-url; an unknown one does not exist."""
    sim = sim_with(Faults())
    with pytest.raises(ConnectionRejected) as refused:
        async with dialled(sim, "agent", query=query):
            pass
    assert refused.value.status_code == (404 if "other" in query else 403)
    assert len(sim.violations) == 1


async def test_upgrade_with_the_api_key_header_is_accepted(autojump_clock):
    """The key on the handshake authorises too, and the record says so."""
    sim = sim_with(Faults())
    headers = [(b"xi-api-key", b"key")]
    async with dialled(sim, "agent", query="?agent_id=agent", headers=headers) as probe:
        await probe.until(METADATA)
    assert record_of(sim).authorization_method == "authorization_header"


async def test_silent_after_upgrade_says_nothing_but_takes_the_close(autojump_clock):
    """No metadata, no pings; the client's close is answered."""
    sim = sim_with(Faults(silent=True), first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        await trio.sleep(30)
        assert probe.received == []
    assert record_of(sim).closed_by == "client"


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("not_json", "text"),
        ("not_object", "text"),
        ("empty_metadata", METADATA),
        ("binary", "binary"),
        ("not_metadata", "vad_score"),
    ],
)
async def test_first_frame_is_what_the_fault_says(kind, first, autojump_clock):
    """The first frame is not usable metadata; only after another event the metadata follows."""
    sim = sim_with(Faults(first_frame=kind))
    async with dialled(sim, "agent") as probe:
        await probe.until(first)
        await trio.sleep(1)
        kinds = [got.type for got in probe.received]
    assert kinds == [first, METADATA] if kind == "not_metadata" else [first]
    assert record_of(sim).closed_by == "client"


async def test_first_frame_broken_breaks_the_websocket(autojump_clock):
    """Bytes that are no frame make the client give up."""
    sim = sim_with(Faults(first_frame="broken_frame"))
    async with dialled(sim, "agent") as probe:
        await probe.until("closed")
        assert [got.type for got in probe.received] == ["closed"]
    assert record_of(sim).ended_at_s is not None


async def test_wrong_format_is_claimed_in_the_metadata(autojump_clock):
    """The metadata names other formats; the audio keeps the agent's."""
    faults = Faults(claimed_output_format="pcm_16000", claimed_input_format="pcm_24000")
    sim = sim_with(faults, first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        metadata = await probe.until(METADATA)
        await probe.until("agent_response_complete")
    assert metadata.body["agent_output_audio_format"] == "pcm_16000"
    assert metadata.body["user_input_audio_format"] == "pcm_24000"
    assert probe.audio() == HOLD.encoded("ulaw_8000")


async def test_metadata_delayed_comes_late(autojump_clock):
    """The metadata waits as long as the fault says."""
    sim = sim_with(Faults(metadata_delay_s=7.0))
    async with dialled(sim, "agent") as probe:
        got = await probe.until(METADATA)
    assert got.at_s - record_of(sim).started_at_s == pytest.approx(7.0, abs=0.01)


CLOSES = [(1000, None), (1002, "llm_timeout"), (1008, "override_error"), (1011, None)]
CLOSES += [(3000, None), (3008, None), (4300, None)]


@pytest.mark.parametrize(("code", "error_type"), CLOSES)
async def test_close_code_arrives_after_its_error_event(code, error_type, autojump_clock):
    """The server closes with the code and reason, after an error event when one is asked for."""
    faults = Faults(
        close_after_s=1.0, close_code=code, close_reason="because", error_type=error_type
    )
    sim = sim_with(faults)
    async with dialled(sim, "agent") as probe:
        await probe.until("closed")
        closed = probe.socket.closed
    assert (closed.code, closed.reason) == (code, "because")
    assert [e.body["error_type"] for e in probe.all("error")] == ([error_type] * bool(error_type))
    record = record_of(sim)
    assert (record.closed_by, record.close_code) == ("server", code)


@pytest.mark.parametrize("drop", ["reset", "eof"])
async def test_drop_in_the_middle_is_1006_for_the_client(drop, autojump_clock):
    """TCP ends without a close frame."""
    sim = sim_with(Faults(drop_after_s=2.0, drop=drop), first_message=LONG, speed=1.0)
    async with dialled(sim, "agent") as probe:
        await probe.until("closed")
        assert probe.socket.closed.code == 1006
    assert record_of(sim).closed_by == "network"
    assert 0 < len(probe.audio()) < len(LONG.encoded("ulaw_8000"))


async def test_only_pings_for_a_minute_and_the_socket_stays_open(autojump_clock):
    """After the metadata nothing comes but pings, whatever the caller says."""
    sim = sim_with(Faults(only_pings=True), first_message=HOLD, replies=(HOLD,))
    async with dialled(sim, "agent") as probe:
        await probe.be_quiet(45.0)
        assert {got.type for got in probe.received} == {METADATA, "ping"}
        assert len(probe.all("ping")) >= 20


async def test_burst_sends_a_minute_of_audio_within_a_second(autojump_clock):
    """60 s of audio arrive in one second."""
    sim = sim_with(Faults(burst_s=60.0), first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        last = await probe.until("agent_response_complete")
    assert len(probe.audio()) == 60 * 8000
    assert last.at_s - probe.all("audio")[0].at_s <= 1.0


async def test_huge_frame_carries_three_mebibytes(autojump_clock):
    """The first audio event is bigger than a library's default limit of 1 MiB."""
    sim = sim_with(Faults(huge_frame_bytes=3 * 1024 * 1024), first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        first = await probe.until("audio")
    assert len(base64.b64decode(first.body["audio_base_64"])) == 3 * 1024 * 1024


async def test_event_ids_as_strings_are_strings_everywhere(autojump_clock):
    """Every event id on the wire is a string."""
    sim = sim_with(Faults(string_event_ids=True), first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
    ids = [got.body["event_id"] for got in probe.received if "event_id" in got.body]
    assert len(ids) > 5
    assert all(isinstance(number, str) for number in ids)


async def test_unknown_events_come_before_the_turn(autojump_clock):
    """A type that no contract lists is sent, and the turn follows."""
    sim = sim_with(Faults(unknown_events=True), first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        await probe.until("brand_new_event")
        await probe.until("agent_response_complete")


async def test_odd_chunks_cut_samples_and_join_to_the_whole(autojump_clock):
    """PCM events have odd lengths, yet joined they are the utterance."""
    faults = Faults(odd_chunks=True)
    sim = sim_with(faults, first_message=HOLD, output_format="pcm_16000")
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
    sizes = [len(base64.b64decode(got.body["audio_base_64"])) for got in probe.all("audio")]
    assert all(size % 2 for size in sizes[:-1])
    assert probe.audio() == HOLD.encoded("pcm_16000")


async def test_bad_base64_comes_in_the_second_event_of_a_turn(autojump_clock):
    """One audio event of the turn is no base64, the rest are good."""
    sim = sim_with(Faults(bad_base64=True), first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
    bad = []
    for number, got in enumerate(probe.all("audio")):
        try:
            base64.b64decode(got.body["audio_base_64"], validate=True)
        except binascii.Error:
            bad.append(number)
    assert bad == [1]


async def test_queue_wait_is_waiting_hold_audio_admitted_then_greeting(autojump_clock):
    """Status events stand around hold audio in chunks of a second; then the agent begins."""
    sim = sim_with(Faults(queue_wait_s=3.0), first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response")
    kinds = [got.type for got in probe.received if got.type not in ("ping", "closed")]
    assert kinds[:7] == [METADATA, "queue_status", *["audio"] * 3, "queue_status", "agent_response"]
    assert [got.body["status"] for got in probe.all("queue_status")] == ["waiting", "admitted"]


async def test_queue_timed_out_closes_with_4300(autojump_clock):
    """Nobody was free: timed_out, then close 4300."""
    sim = sim_with(Faults(queue_wait_s=2.0, queue_times_out=True), first_message=HOLD)
    async with dialled(sim, "agent") as probe:
        await probe.until("closed")
        assert probe.socket.closed.code == 4300
    assert [got.body["status"] for got in probe.all("queue_status")] == ["waiting", "timed_out"]
    assert probe.all("agent_response") == []


async def test_interruptions_stray_and_double_are_sent(autojump_clock):
    """One interruption with nothing queued, and each real one twice."""
    faults = Faults(stray_interruption=True, double_interruption=True)
    sim = sim_with(faults, first_message=LONG)
    async with dialled(sim, "agent") as probe:
        await probe.until("interruption", 1)
        await probe.until("audio", 8)
        await probe.send({"type": "user_message", "text": "Stop."})
        await probe.until("interruption", 3)
    ids = [got.body["event_id"] for got in probe.all("interruption")]
    assert ids[1] == ids[2] > ids[0]


async def test_stop_reading_leaves_the_client_unable_to_send():
    """On a real socket a service that stops reading blocks the sender at last."""
    sim = sim_with(Faults(stop_reading_after_s=0.0))
    message = json.dumps({"user_audio_chunk": "/" * 65536})
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(sim.run)
        url = f"{base_url.replace('http', 'ws', 1)}/v1/convai/conversation?agent_id=agent"
        headers = [(b"xi-api-key", b"key")]
        async with open_websocket_url(url, extra_headers=headers) as socket:
            await socket.send_message(json.dumps({"type": "conversation_initiation_client_data"}))
            sent = 0
            with trio.move_on_after(0.5) as patience:
                while True:
                    await socket.send_message(message)
                    sent += 1
            assert patience.cancelled_caught
            assert sent * len(message) < 64 * 1024 * 1024
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("drop", ["reset", "eof"])
async def test_drop_on_a_real_socket_ends_the_connection(drop):
    """RST breaks the client's next read, FIN ends it."""
    sim = sim_with(Faults(drop_after_s=0.05, drop=drop))
    request = (
        b"GET /v1/convai/conversation?agent_id=agent HTTP/1.1\r\nHost: sim\r\nxi-api-key: key\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(sim.run)
        port = int(sim.base_url.rsplit(":", 1)[1])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request)
            with trio.fail_after(5):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
                if drop == "eof":
                    assert await stream.receive_some() == b""
                else:
                    with pytest.raises(trio.BrokenResourceError):
                        await stream.receive_some()
        nursery.cancel_scope.cancel()


def test_upgrade_is_recognised_by_its_header_alone():
    """Only an Upgrade header with websocket makes a request a socket."""
    assert wire.wants_upgrade(b"GET / HTTP/1.1\r\nHost: a\r\nUPGRADE: WebSocket\r\n\r\n")
    assert not wire.wants_upgrade(b"GET /upgrade:websocket HTTP/1.1\r\nHost: a\r\n\r\n")
    assert not wire.wants_upgrade(b"POST / HTTP/1.1\r\n\r\nupgrade: websocket")
