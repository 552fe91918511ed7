"""Twilio's Debugger events: read leniently, kept once, attached to their calls."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.hooks.debugger import MESSAGE_MAX_CHARS, event_of
from control.store import provider_events
from tests.control.switchboard_rig import SID, open_rig

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


def form(sid="NO" + "1" * 32, level="Error", timestamp="2026-11-25T11:59:58Z", **payload):
    return {
        "Sid": sid,
        "AccountSid": "AC" + "0" * 32,
        "Timestamp": timestamp,
        "Level": level,
        "PayloadType": "application/json",
        "Payload": orjson.dumps(payload).decode(),
    }


def test_event_is_read_with_its_code_words_and_call():
    """As documented; of the request only the address is kept, without its query."""
    event = event_of(
        form(
            resource_sid=SID,
            error_code="11200",
            more_info={"Msg": "HTTP retrieval failure"},
            webhook={
                "type": "application/json",
                "request": {
                    "url": "https://gw.example.com/twilio/voice?call_id=call_1",
                    "parameters": {"From": "+14155550100", "CallSid": SID},
                },
                "response": {"status_code": 502, "body": "secret"},
            },
        ),
        AT,
    )
    assert (event.code, event.message, event.call_sid) == (11200, "HTTP retrieval failure", SID)
    assert event.at == datetime(2026, 11, 25, 11, 59, 58, tzinfo=UTC)
    assert event.detail["webhook_url"] == "https://gw.example.com/twilio/voice"
    assert event.detail["webhook_status"] == "502"
    assert "+14155550100" not in repr(event)
    assert "secret" not in repr(event)


@pytest.mark.parametrize(
    "more_info",
    [{"msg": "words"}, {"Msg": "words"}, {"message": "words"}, '{"Message": "words"}', "words"],
)
def test_message_is_found_under_every_spelling(more_info):
    """Twilio's documents and its requests do not agree on the name."""
    assert event_of(form(more_info=more_info), AT).message == "words"


@given(st.dictionaries(st.text(), st.text()), st.text())
def test_any_junk_is_an_event_without_details(junk, payload):
    """A complaint that cannot be read is kept all the same."""
    event = event_of(junk | {"Sid": "NO1", "Payload": payload}, AT)
    assert event.level in ("error", "warning", "notice")
    assert len(event.message or "") <= MESSAGE_MAX_CHARS


async def test_event_belongs_to_its_call_and_is_kept_once(tmp_path):
    """A repeated delivery changes nothing; one about no call of ours is kept without a call."""
    async with open_rig(tmp_path) as rig:
        await rig.switchboard.answer(rig.form())
        record = await rig.only_record()
        for _ in range(2):
            await rig.switchboard.provider_event(form(resource_sid=SID, error_code="31921"))
        await rig.switchboard.provider_event(form("NO" + "2" * 32, level="Warning"))
        (event,) = await rig.store.read(provider_events.of_call, record.id)
        assert (event.code, event.agent_id, event.level) == (31921, "agt_1", "error")
        events, cursor = await rig.store.read(provider_events.list_events, limit=1)
        assert [one.level for one in events] == ["warning"]
        more, _ = await rig.store.read(provider_events.list_events, limit=1, cursor=cursor)
        assert [one.id for one in more] == [event.id]
        assert rig.count("provider_events", "twilio", "error") == 1


async def test_event_that_came_before_its_call_is_found_by_the_sid(tmp_path):
    """Twilio complains about a call whose record is not there yet."""
    async with open_rig(tmp_path) as rig:
        await rig.switchboard.provider_event(form(resource_sid=SID, error_code="11205"))
        await rig.switchboard.answer(rig.form())
        record = await rig.only_record()
        (event,) = await rig.store.read(provider_events.of_call, record.id, SID)
        assert event.call_id is None
