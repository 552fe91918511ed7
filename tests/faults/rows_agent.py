"""Rows of the fault table: the agent's side, ElevenLabs' REST API and its conversation sockets."""

from __future__ import annotations

import trio

from bench.faults import Fault
from bench.sim_elevenlabs import AgentScript, Faults, RestFaults
from tests.faults.bed import SHORT, Bed, Row

AGENT = frozenset({"agent"})
APOLOGY = frozenset({"apology"})
BOTH = AGENT | APOLOGY
NOTHING = frozenset({"nothing"})


def _script(**faults):
    return AgentScript(first_message=SHORT, faults=Faults(**faults))


def _rest(**faults):
    return AgentScript(first_message=SHORT, rest=RestFaults(**faults))


def _fails(name, what, script, reason=""):
    """The agent never comes: the caller hears why, and the agent is to blame."""
    return Row(
        name=name,
        what=what,
        script=script,
        hears=APOLOGY,
        result="agent_fault",
        blame="agent",
        reason=reason,
    )


def _survives(name, what, script, hears=AGENT):
    """The caller notices nothing."""
    return Row(name=name, what=what, script=script, hears=hears, result="completed", blame=None)


UNREACHABLE = (
    _fails("url_401", "the signed URL is refused: bad key", _rest(signed_url_status=401), "(401)"),
    _fails("url_404", "the agent was deleted at ElevenLabs", _rest(signed_url_status=404), "(404)"),
    _fails("url_429", "ElevenLabs has no room", _rest(signed_url_status=429), "(429)"),
    _fails("url_500", "ElevenLabs is broken", _rest(signed_url_status=500), "(500)"),
    _fails("url_garbage", "the answer is HTML", _rest(signed_url_garbage=True), "no JSON"),
    _fails("url_never", "the signed URL comes too late", _rest(signed_url_delay_s=5.0)),
    _fails("upgrade_401", "the upgrade is refused", _script(refuse_upgrade=401), "(401)"),
    _fails("upgrade_403", "the signature is refused", _script(refuse_upgrade=403), "(403)"),
    _fails(
        "upgrade_503", "the upgrade meets a proxy's error", _script(refuse_upgrade=503), "(503)"
    ),
    _fails("upgrade_hangs", "the upgrade is never answered", _script(hang_upgrade=True)),
    _fails("silent", "upgraded, and not a word", _script(silent=True), "metadata"),
    _fails(
        "not_json",
        "the first message is no JSON",
        _script(first_frame="not_json"),
        "not a conversation event",
    ),
    _fails("not_object", "the first message is an array", _script(first_frame="not_object")),
    _fails("no_formats", "metadata without its body", _script(first_frame="empty_metadata")),
    _fails("broken_frame", "bytes that are no frame", _script(first_frame="broken_frame")),
)
"""The agent leg never comes up."""

FORMATS = (
    _fails(
        "opus",
        "the agent speaks a format that no telephone knows",
        _script(claimed_output_format="opus_48000"),
        "opus_48000",
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
    _survives("only_pings", "metadata, then nothing but pings", _script(only_pings=True), NOTHING),
)
"""The agent is odd; the call goes well."""


async def _reset_agent(bed: Bed, row: Row, call) -> None:
    bed.rig.wires["agent"].reset(bed.about(row))
    await trio.lowlevel.checkpoint()


async def _close_agent(bed: Bed, row: Row, call) -> None:
    bed.rig.wires["agent"].close(bed.about(row))
    await trio.lowlevel.checkpoint()


async def _garbage_from_agent(bed: Bed, row: Row, call) -> None:
    about = bed.about(row)
    bed.rig.wires["agent"].set(Fault(garbage=64), way="down", about=about)
    await trio.sleep(2.5)  # the agent pings every two seconds
    bed.rig.wires["agent"].heal(about)


async def _hole_to_agent(bed: Bed, row: Row, call) -> None:
    about = bed.about(row)
    bed.rig.wires["agent"].set(Fault(blackhole=True), about=about)
    await trio.sleep(1.0)
    bed.rig.wires["agent"].heal(about)


def _from_the_start(**fault):
    def prepare(bed: Bed, row: Row) -> None:
        bed.rig.wires["agent"].set(Fault(**fault), about=bed.about(row))

    return prepare


def _lost(name, what, act):
    """Lost in mid-call and dialled again in the same stream; the caller talks on."""
    return Row(name=name, what=what, act=act, hears=AGENT, result="completed", blame=None)


WIRE = (
    _lost("agent_rst", "RST on the agent leg in mid-call", _reset_agent),
    _lost("agent_eof", "TCP of the agent leg ends in mid-call", _close_agent),
    Row(
        name="agent_garbage",
        what="garbage from the agent for 2.5 s, redials included",
        act=_garbage_from_agent,
        hears=BOTH,
        result="agent_fault",
        blame="agent",
    ),
    _lost("agent_hole", "the agent's network stands still for a second", _hole_to_agent),
    Row(
        name="agent_late",
        what="100 ms and up to 50 ms of jitter each way",
        prepare=_from_the_start(latency_s=0.1, jitter_s=0.05),
        hears=AGENT,
        result="completed",
        blame=None,
    ),
    Row(
        name="agent_sliced",
        what="messages arrive in pieces of 100 bytes",
        prepare=_from_the_start(slice_bytes=100),
        hears=AGENT,
        result="completed",
        blame=None,
    ),
    Row(
        name="agent_narrow",
        what="40 kB/s each way",
        prepare=_from_the_start(bytes_per_s=40_000),
        hears=AGENT,
        result="completed",
        blame=None,
    ),
    Row(
        name="agent_black",
        what="TCP is up and nothing passes",
        prepare=_from_the_start(blackhole=True),
        hears=APOLOGY,
        result="agent_fault",
        blame="agent",
    ),
    Row(
        name="agent_cut_early",
        what="RST after 300 bytes of every conversation",
        prepare=_from_the_start(reset_after_bytes=300),
        hears=APOLOGY,
        result="agent_fault",
        blame="agent",
    ),
)
"""The wire to the conversation socket."""
