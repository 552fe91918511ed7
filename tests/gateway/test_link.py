"""Messages between control and worker."""

import contextlib
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import link
from gateway.errors import LinkError
from gateway.settings import MediaSettings

PLAN = link.CallPlan("call_1", "inbound", "http://127.0.0.1:1", "key-secret", "agent_1")
SAMPLES = [
    link.Configure("w1", MediaSettings(lead_ms=120)),
    link.Prepare(PLAN),
    link.Attach("call_1", "R0VU"),
    link.Cancel("call_1", "busy"),
    link.HangUp("call_1", "asked to", None, True),
    link.CloseCall("call_1"),
    link.AgentSay("call_1", "contextual_update", "hello"),
    link.ToolResult("call_1", "tool_1", "done", False),
    link.Drain(3.5),
    link.Ready("w1", 4711),
    link.Resume("1.0"),
    link.HeldCall("call_1", True, 3),
    link.Returned("w1", "1.0"),
    link.Heartbeat("w1", 3, {"wakes": 12}),
    link.CallEvent("call_1", "barge_in", 1_700_000_000_000, {"unheard_ms": 80}),
    link.TranscriptTurn("call_1", 2, "agent", "Hé!", 1, "H", True),
    link.ToolRequest("call_1", "tool_1", "opt_out", {"reason": "x"}, True, 1),
    link.Ending("call_1", "completed", None, "caller hung up", 1, False),
    link.CallReport("call_1", "completed", None, "ok", 1, True, None, None, None, {}, {}),
    link.Drained("w1"),
]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_message_round_trip_is_the_same_message(message):
    """Every kind survives the wire, nested settings and nulls included."""
    assert link.decode(link.encode(message)) == message


def test_samples_cover_every_kind():
    """A new message needs a sample here."""
    kinds = set(typing.get_args(link.Down)) | set(typing.get_args(link.Up))
    assert {type(sample) for sample in SAMPLES} == kinds


def test_plan_does_not_show_its_secrets():
    """A plan in a traceback or a log shows neither key nor numbers."""
    assert "key-secret" not in repr(PLAN)


def test_message_too_large_for_a_packet_is_an_error():
    """The bound is checked before the kernel does."""
    with pytest.raises(LinkError, match="does not fit"):
        link.encode(link.AgentSay("call_1", "user_message", "x" * link.PACKET_MAX_BYTES))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"kind":"Nonsense","body":{}}',
        b'{"kind":"Drain","body":{}}',
        b'{"kind":"Drain","body":7}',
        b"\xff",
        b'{"kind":["Drain"],"body":{}}',
    ],
)
def test_malformed_packet_is_a_link_error(packet):
    """Nothing but LinkError leaves the decoder."""
    with pytest.raises(LinkError):
        link.decode(packet)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(packet):
    """Fuzz: a packet is a message or a LinkError."""
    with contextlib.suppress(LinkError):
        link.decode(packet)
