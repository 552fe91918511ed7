"""Rows of the fault table: the agent's side, ElevenLabs' REST API and its conversation sockets."""

from __future__ import annotations

from dataclasses import replace

import trio

from bench.faults import Fault
from bench.sim_elevenlabs import Faults, RestFaults
from tests.faults.bed import Bed
from tests.faults.rows import APOLOGY, BOTH, GREETER, GREETING, NOTHING, Row


def _script(**faults):
    return replace(GREETER, faults=Faults(**faults))


def _rest(**faults):
    return replace(GREETER, rest=RestFaults(**faults))


_GIVEN_UP = ("asked_to_continue", "ended")
_FIRST = "agent leg first message is not a conversation event: "


def _fails(name, what, script, reason, *, again=True):
    """The agent never comes: the caller hears why, and the agent is to blame."""
    return Row(
        name=name,
        what=what,
        script=script,
        hears=APOLOGY,
        result="agent_fault",
        blame="agent",
        reason=reason if reason.startswith("agent leg") else f"agent leg {reason}",
        timeline=("resumed", *_GIVEN_UP) if again else _GIVEN_UP,
        gap_max_s=None,
    )


def _survives(name, what, script, **more):
    """The caller notices nothing."""
    return Row(name=name, what=what, script=script, **more)


_REFUSED = "signed URL was refused"
_NO_UPGRADE = 'WebSocket upgrade was refused: {"detail": "refused"}'
UNREACHABLE = (
    _fails(
        "url_401",
        "the signed URL is refused: bad key",
        _rest(signed_url_status=401),
        f"{_REFUSED} (401)",
        again=False,
    ),
    _fails(
        "url_404",
        "the agent was deleted at ElevenLabs",
        _rest(signed_url_status=404),
        f"{_REFUSED} (404)",
        again=False,
    ),
    _fails("url_429", "ElevenLabs has no room", _rest(signed_url_status=429), f"{_REFUSED} (429)"),
    _fails("url_500", "ElevenLabs is broken", _rest(signed_url_status=500), f"{_REFUSED} (500)"),
    _fails(
        "url_garbage",
        "the answer is HTML",
        _rest(signed_url_garbage=True),
        "answer to the signed-URL request is no JSON object",
    ),
    _fails(
        "url_never",
        "the signed URL comes too late",
        _rest(signed_url_delay_s=5.0),
        "signed URL took longer than 2 s",
    ),
    _fails(
        "upgrade_401",
        "the upgrade is refused",
        _script(refuse_upgrade=401),
        f"{_NO_UPGRADE} (401)",
        again=False,
    ),
    _fails(
        "upgrade_403",
        "the signature is refused",
        _script(refuse_upgrade=403),
        f"{_NO_UPGRADE} (403)",
        again=False,
    ),
    _fails(
        "upgrade_503",
        "the upgrade meets a proxy's error",
        _script(refuse_upgrade=503),
        f"{_NO_UPGRADE} (503)",
    ),
    _fails(
        "upgrade_hangs",
        "the upgrade is never answered",
        _script(hang_upgrade=True),
        "WebSocket upgrade took longer than 2 s",
    ),
    _fails(
        "silent",
        "upgraded, and not a word",
        _script(silent=True),
        "sent no conversation metadata in time",
    ),
    _fails(
        "not_json",
        "the first message is no JSON",
        _script(first_frame="not_json"),
        _FIRST
        + "not JSON (invalid literal, expected 'true': line 1 column 1 (char 0)) in 18 bytes:"
        " this is not JSON {",
    ),
    _fails(
        "not_object",
        "the first message is an array",
        _script(first_frame="not_object"),
        _FIRST + 'not a JSON object in 36 bytes: ["…"]',
    ),
    _fails(
        "no_formats",
        "metadata without its body",
        _script(first_frame="empty_metadata"),
        _FIRST + '`conversation_initiation_metadata_event` is missing in 43 bytes: {"type":"…"}',
    ),
    _fails(
        "broken_frame",
        "bytes that are no frame",
        _script(first_frame="broken_frame"),
        "broke the WebSocket protocol: reserved bit set",
    ),
)
"""The agent leg never comes up."""

FORMATS = (
    _fails(
        "opus",
        "the agent speaks a format that no telephone knows",
        _script(claimed_output_format="opus_48000"),
        "audio format not supported: unknown audio format 'opus_48000'; known: ulaw_8000, pcm_8000,"
        " pcm_16000, pcm_22050, pcm_24000, pcm_44100, pcm_48000",
        again=True,
    ),
)
"""The agent confirms a format that cannot be converted."""

ODD = (
    _survives("url_slow", "the signed URL takes a second", _rest(signed_url_delay_s=1.0)),
    _survives("metadata_slow", "metadata takes a second", _script(metadata_delay_s=1.0)),
    _survives(
        "other_first", "another event before the metadata", _script(first_frame="not_metadata")
    ),
    _survives("unknown_events", "events that no contract lists", _script(unknown_events=True)),
    _survives("string_ids", "event ids as strings", _script(string_event_ids=True)),
    _survives("stray_interruption", "an interruption of nothing", _script(stray_interruption=True)),
    _survives(
        "burst", "eight seconds of audio within one", _script(burst_s=8.0, burst_within_s=1.0)
    ),
    _survives(
        "only_pings",
        "metadata, then nothing but pings",
        _script(only_pings=True),
        hears=NOTHING,
        answers=False,
    ),
)
"""The agent is odd; the call goes well."""

HOLE_S = 1.0


async def _reset_agent(bed: Bed, row: Row, call) -> None:
    bed.rig.wires["agent"].reset(bed.about(row))
    await trio.lowlevel.checkpoint()


async def _close_agent(bed: Bed, row: Row, call) -> None:
    bed.rig.wires["agent"].close(bed.about(row))
    await trio.lowlevel.checkpoint()


async def _garbage_from_agent(bed: Bed, row: Row, call) -> None:
    await trio.sleep(GREETING.duration_s)  # what was said before was heard
    bed.rig.wires["agent"].set(Fault(garbage=64), way="down", about=bed.about(row))
    await call.ended()


async def _hole_to_agent(bed: Bed, row: Row, call) -> None:
    about = bed.about(row)
    bed.rig.wires["agent"].set(Fault(blackhole=True), about=about)
    await trio.sleep(HOLE_S)
    bed.rig.wires["agent"].heal(about)


def _from_the_start(**fault):
    def prepare(bed: Bed, row: Row) -> None:
        bed.rig.wires["agent"].set(Fault(**fault), about=bed.about(row))

    return prepare


def _lost(name, what, act):
    """Lost in mid-call and dialled again in the same stream; the caller talks on."""
    return Row(name=name, what=what, act=act, timeline=("agent_lost", "agent_redial", "agent_back"))


WIRE = (
    _lost("agent_rst", "RST on the agent leg in mid-call", _reset_agent),
    _lost("agent_eof", "TCP of the agent leg ends in mid-call", _close_agent),
    Row(
        name="agent_garbage",
        what="garbage from the agent from mid-call on, redials included",
        act=_garbage_from_agent,
        hears=BOTH,
        result="agent_fault",
        blame="agent",
        reason="agent leg WebSocket upgrade was refused: the answer to the WebSocket upgrade is not a valid HTTP head",
        timeline=("agent_lost", "agent_redial", "agent_redial", "asked_to_continue", "resumed"),
        gap_max_s=None,
        stays_s=20.0,
    ),
    Row(
        name="agent_hole",
        what="the agent's network stands still for a second in mid-call",
        act=_hole_to_agent,
    ),
    Row(
        name="agent_late",
        what="100 ms and up to 50 ms of jitter each way",
        prepare=_from_the_start(latency_s=0.1, jitter_s=0.05),
    ),
    Row(
        name="agent_sliced",
        what="messages arrive in pieces of 100 bytes",
        prepare=_from_the_start(slice_bytes=100),
    ),
    Row(
        name="agent_narrow",
        what="40 kB/s each way",
        prepare=_from_the_start(bytes_per_s=40_000),
    ),
    Row(
        name="agent_black",
        what="TCP is up and nothing passes",
        prepare=_from_the_start(blackhole=True),
        hears=APOLOGY,
        result="agent_fault",
        blame="agent",
        reason="agent leg WebSocket upgrade took longer than 2 s",
        timeline=("resumed", *_GIVEN_UP),
        gap_max_s=None,
    ),
    Row(
        name="agent_cut_early",
        what="RST after 300 bytes of every conversation",
        prepare=_from_the_start(reset_after_bytes=300),
        hears=APOLOGY,
        result="agent_fault",
        blame="agent",
        reason="agent leg closed: Connection reset by peer (1006)",
        timeline=("resumed", *_GIVEN_UP),
        gap_max_s=None,
    ),
)
"""The wire to the conversation socket."""
