"""Tools that an agent asks for: checked, done, answered exactly once."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.calls import from_record
from control.store import calls as table
from control.store import opt_outs
from control.store.records import CallRecord
from control.tools import desk, tool_configs
from control.tools.actions import may_transfer
from control.tools.definitions import TOOLS
from gateway.link import ToolRequest
from tests.control.switchboard_rig import AGENT, NOW, OURS, SID, THEIRS, open_rig, verbs

PERSON = "+14155550123"


@asynccontextmanager
async def asking(tmp_path, **options):
    """A rig with a call in talk: (rig, call id, ask), where `ask` gives a tool's (outcome, words)."""
    async with open_rig(tmp_path, **options) as rig:
        await rig.switchboard.answer(rig.form())
        call_id = (await rig.only_record()).id
        rig.pool.event(call_id, "stream_started")
        call = rig.switchboard._office.book.get(call_id)
        await rig.until(lambda: call.attached)

        async def ask(name, tool_number=1, *, expects_response=True, **parameters):
            tool_id = f"tool_{tool_number}"
            request = ToolRequest(call_id, tool_id, name, parameters, expects_response, 1)
            rig.pool._say.send_nowait(request)
            if not expects_response:
                return None

            def answered():
                return [row for row in rig.pool.commands if row[:2] == ("tool", tool_id)]

            ((_, _, outcome, words),) = await rig.until(answered)
            return outcome, words

        yield rig, call_id, ask


async def test_opt_out_is_in_force_before_the_agent_confirms_it(tmp_path):
    """The caller's words are kept as evidence, with the call."""
    async with asking(tmp_path) as (rig, call_id, ask):
        outcome, _ = await ask("opt_out", reason="Never call me again.")
        assert outcome == "ok"
        entry = await rig.store.read(opt_outs.get, "tnt_default", THEIRS)
        assert (entry.source, entry.call_id) == ("spoken", call_id)
        assert entry.evidence["words"] == "Never call me again."
        assert "opted_out" in await rig.names(call_id)


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("transfer_to_number", {}, "number: Field required"),
        ("transfer_to_number", {"number": "555"}, "number: String should match"),
        ("transfer_to_number", {"number": PERSON, "speed": 9}, "speed: Extra inputs"),
        ("schedule_callback", {"at": "tomorrow"}, "at: "),
        ("schedule_callback", {"at": "2026-12-01T10:00:00"}, "at: "),
        ("schedule_callback", {"at": "2020-12-01T10:00:00Z"}, "in the past"),
        ("launch_rocket", {}, "there is no tool launch_rocket"),
    ],
)
async def test_tool_that_cannot_be_run_tells_the_model_what_is_wrong(
    tmp_path, name, parameters, told
):
    """An error that names the parameter lets the model do better."""
    async with asking(tmp_path) as (_, _, ask):
        outcome, words = await ask(name, **parameters)
        assert outcome == "error"
        assert told in words


async def test_transfer_by_the_model_puts_the_caller_through(tmp_path):
    """The same way as a transfer by request, with the policy asked."""
    async with asking(tmp_path) as (rig, call_id, ask):
        await ask("transfer_to_number", expects_response=False, number=PERSON)
        await rig.until(lambda: ("drain", call_id) in rig.pool.commands)
        rig.pool.ending(call_id, hang_up=True)
        ((sid, document),) = await rig.until(lambda: rig.twilio.instructed)
        assert (sid, verbs(document)) == (SID, ["Dial"])
        await rig.until(lambda: rig.count("tool_calls", "transfer_to_number", "ok"))
        leg = rig.switchboard._office.book.get(call_id).legs["transfer"]
        assert (leg["by"], leg["status"]) == ("agent", "dialling")
        assert leg["decision"]["allowed"]


async def test_transfer_by_the_model_to_another_country_needs_a_list(tmp_path):
    """Whoever talks the model into a premium number abroad gets nothing; the talk goes on."""
    async with asking(tmp_path) as (rig, _, ask):
        outcome, words = await ask("transfer_to_number", number="+882345678901")
        assert (outcome, rig.twilio.instructed) == ("error", [])
        assert "another country" in words


@pytest.mark.parametrize(
    ("listed", "number", "allowed"),
    [
        (None, PERSON, True),
        (None, "+33142685300", False),
        ([PERSON], PERSON, True),
        ([PERSON], "+14155550124", False),
        (["+33142685300"], "+33142685300", True),
        ([], PERSON, False),
    ],
)
def test_list_of_people_decides_where_it_is_given(listed, number, allowed):
    """Without a list: the country of our own number, and no other."""
    settings = {} if listed is None else {"transfer_numbers": listed}
    record = CallRecord("call_1", "inbound", NOW, from_number=THEIRS, to_number=OURS)
    call = from_record(record, replace(AGENT, settings=settings))
    assert (may_transfer(call, number) == "") == allowed


async def test_call_back_is_queued_for_the_time_that_was_agreed(tmp_path):
    """It goes the way of every outbound call: policy, queue, record."""
    async with asking(tmp_path) as (rig, call_id, ask):
        at = NOW + timedelta(hours=5)
        outcome, words = await ask("schedule_callback", at=at.isoformat(), reason="the quote")
        assert outcome == "ok", words
        records, _ = await rig.store.read(table.list_calls, filters={"direction": "outbound"})
        assert [(one.to_number, one.status) for one in records] == [(THEIRS, "queued")]
        assert records[0].variables["callback_reason"] == "the quote"
        assert records[0].metadata["callback_of"] == call_id


async def test_caller_who_never_called_is_said_to_be_new(tmp_path):
    """The call in progress is no earlier call."""
    async with asking(tmp_path) as (_, _, ask):
        assert await ask("lookup_caller") == (
            "ok",
            "Nothing is known of this caller: it is the first call.",
        )


async def test_tools_beyond_the_bound_are_answered_at_once(tmp_path, monkeypatch):
    """A full desk says so instead of letting the caller wait in silence."""
    monkeypatch.setattr(desk, "AT_ONCE_MAX", 0)
    async with asking(tmp_path) as (_, _, ask):
        outcome, words = await ask("lookup_caller")
        assert outcome == "error"
        assert "try again" in words


async def test_tool_that_raises_is_answered_and_costs_nothing_else(tmp_path, monkeypatch):
    """A mistake of ours is an error for the model, not dead air."""

    async def bug(call, parameters):
        raise ZeroDivisionError

    async with asking(tmp_path) as (rig, _, ask):
        rig.switchboard._ending.on_tool.__self__._actions["lookup_caller"] = bug
        assert (await ask("lookup_caller"))[0] == "error"
        assert (await ask("opt_out", 2))[0] == "ok"


def test_definitions_are_what_elevenlabs_takes():
    """Every property has a type and a description, every required one exists, time-outs are in range."""
    configs = tool_configs()
    assert [config["name"] for config in configs] == list(TOOLS)
    for config in configs:
        properties = config["parameters"]["properties"]
        assert set(config["parameters"]["required"]) <= set(properties)
        assert all(set(one) == {"type", "description"} for one in properties.values())
        assert 1 <= config["response_timeout_secs"] <= 120
        assert config["expects_response"] is True


@given(
    st.dictionaries(
        st.sampled_from(["number", "reason", "warm", "at", "x"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()),
    )
)
def test_any_parameters_are_a_value_or_words(parameters):
    """Whatever a model makes up, the answer is readable."""
    for tool in TOOLS.values():
        words = ""
        try:
            tool.parameters.model_validate(parameters)
        except ValueError as error:
            words = desk._what_is_wrong(error)
        assert not words or words.startswith("wrong parameters: ")
