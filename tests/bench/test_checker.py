"""The checker finds each kind of violation in a hand-made history, and nothing in a sound one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bench.checker import (
    Conversation,
    History,
    Message,
    Record,
    TelephoneCall,
    check,
    read_history,
)
from bench.sim_elevenlabs import ElevenLabsSim
from bench.sim_twilio import TwilioSim
from control.store import Store, calls, opt_outs
from control.store.records import CallRecord, OptOutRecord

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)

IN = TelephoneCall(sid="CA1", direction="inbound")
OUT = TelephoneCall(sid="CA2", direction="outbound-api", ours="call_2")
RECORD_IN = Record(id="call_1", twilio_call_sid="CA1", conversations=frozenset({"conv_1"}))
RECORD_OUT = Record(id="call_2", direction="outbound", twilio_call_sid="CA2", dial_state="created")
SOUND = History(
    calls=(IN, OUT),
    records=(RECORD_IN, RECORD_OUT),
    conversations=(Conversation(id="conv_1"),),
    messages=(Message(sid="SM1", key="msg_1"), Message(sid="SM2", key="msg_2")),
    opt_outs_acknowledged=frozenset({"+14155550123"}),
    opt_outs_stored=frozenset({"+14155550123", "+14155550124"}),
)


def test_sound_history_has_no_violation():
    """Calls each way, a conversation, messages, opt-outs."""
    assert check(SOUND) == []


WRONG = {
    "call without a record": (
        {"calls": (IN, OUT, TelephoneCall(sid="CA3", direction="inbound"))},
        "call CA3 rang and has no record",
    ),
    "outbound call without a record": (
        {"calls": (IN, OUT, TelephoneCall(sid="CA3", direction="outbound-api", was_told=False))},
        "call CA3 rang and has no record",
    ),
    "two records": (
        {"records": (RECORD_IN, RECORD_OUT, replace(RECORD_IN, id="call_9"))},
        "call CA1 has 2 records: call_1, call_9",
    ),
    "no end": (
        {"records": (replace(RECORD_IN, has_ended=False), RECORD_OUT)},
        "record call_1 of call CA1 has no end",
    ),
    "no result": (
        {"records": (replace(RECORD_IN, result=None), RECORD_OUT)},
        "record call_1 of call CA1 is incomplete: completed, None",
    ),
    "status that is not an end": (
        {"records": (replace(RECORD_IN, status="in-progress"), RECORD_OUT)},
        "record call_1 of call CA1 is incomplete: in-progress, completed",
    ),
    "call that goes on": (
        {"calls": (replace(IN, is_over=False), OUT)},
        "call CA1 still goes on",
    ),
    "intent that was forgotten": (
        {"records": (RECORD_IN, RECORD_OUT, Record(id="call_3", has_ended=False))},
        "record call_3 never ended",
    ),
    "invented call": (
        {"records": (RECORD_IN, RECORD_OUT, Record(id="call_3", twilio_call_sid="CA9"))},
        "record call_3 names call CA9, which Twilio never had",
    ),
    "double dial": (
        {"calls": (IN, OUT, replace(OUT, sid="CA5"))},
        "record call_2 was dialled 2 times: CA2, CA5",
    ),
    "double SMS": (
        {"messages": (Message(sid="SM1", key="msg_1"), Message(sid="SM2", key="msg_1"))},
        "message msg_1 was sent 2 times",
    ),
    "orphan conversation": (
        {"conversations": (Conversation(id="conv_1"), Conversation(id="conv_8", ours="call_9"))},
        "conversation conv_8 of call_9 belongs to no record",
    ),
    "silent conversation of a call that has a record": (
        {"conversations": (Conversation(id="conv_8", ours="call_1", has_heard=False),)},
        "conversation conv_8 of call_1 belongs to no record",
    ),
    "open conversation": (
        {"conversations": (Conversation(id="conv_1", is_closed=False),)},
        "conversation conv_1 was never closed",
    ),
    "lost opt-out": (
        {"opt_outs_stored": frozenset()},
        "opt-out of +14155550123 was confirmed and is lost",
    ),
    "protocol": (
        {"protocol": ("conversation conv_1: pong late",)},
        "conversation conv_1: pong late",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_violation_is_named(case):
    """One change to the sound history, one sentence."""
    change, sentence = WRONG[case]
    assert check(replace(SOUND, **change)) == [sentence]


def test_what_nobody_could_know_is_no_violation():
    """A call that never reached the daemon; a dial whose fate is unknown; a conversation cut off at its birth."""
    history = replace(
        SOUND,
        calls=(IN, OUT, TelephoneCall(sid="CA3", direction="inbound", was_told=False)),
        records=(
            RECORD_IN,
            RECORD_OUT,
            Record(id="call_3", has_ended=False, dial_state="uncertain"),
        ),
        conversations=(
            Conversation(id="conv_1"),
            Conversation(id="conv_7", was_cut=True),
            Conversation(id="conv_8", has_told_its_id=False),
            Conversation(id="conv_9", ours="call_never_committed", has_heard=False),
        ),
    )
    assert check(history) == []


def test_records_are_read_from_either_database_with_all_their_conversations(store_url):
    """The row's own and those of the timeline."""
    record = CallRecord(
        "call_1",
        "inbound",
        NOW,
        status="completed",
        result="completed",
        twilio_call_sid="CA1",
        conversation_id="conv_2",
        ended_at=NOW,
    )
    store = Store.open(store_url)
    with store._engine.begin() as conn:
        calls.insert(conn, record)
        line = ("resumed", 0, {"conversation_id": "conv_1"})
        calls.append_events(conn, "call_1", [line, ("ended", 1, {})])
        opt_outs.add(conn, OptOutRecord("+14155550123", "sms", NOW))
    store.close()
    twilio, elevenlabs = TwilioSim("AC1", "token"), ElevenLabsSim("key", {})
    history = read_history(twilio, elevenlabs, store_url)
    (found,) = history.records
    assert found.conversations == {"conv_1", "conv_2"}
    assert found.has_ended
    assert history.opt_outs_stored == {"+14155550123"}
