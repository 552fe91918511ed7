"""Figures over the API, against sums made by hand; routes of a number; transfers asked for over the API."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from control.stats import health
from control.store import Store, agents, provider_events, stats
from control.store import calls as table
from control.store.provider_events import ProviderEventRecord
from control.store.records import AgentRecord, CallRecord
from control.store.spans import seconds_between, utc_day
from control.store.tables import calls
from policy.facts import Traffic
from tests.control.api_rig import open_rig

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
AGENT = AgentRecord(id="agt_1", name="A", created_at=NOW, updated_at=NOW, status="live")


def call(number: int, **fields) -> CallRecord:
    given_fields = {"direction": "outbound", "created_at": NOW, "status": "completed"} | fields
    if given_fields["direction"] == "outbound" and given_fields["status"] != "blocked":
        given_fields.setdefault("sent_at", given_fields["created_at"])
    return CallRecord(id=f"call_{number:04d}", **given_fields)


CALLS = st.lists(
    st.builds(
        dict,
        direction=st.sampled_from(["inbound", "outbound"]),
        status=st.sampled_from(["completed", "busy", "no-answer", "failed", "blocked"]),
        result=st.sampled_from(["completed", "agent_fault", "policy", "gateway_fault", None]),
        offset_h=st.integers(0, 80),
        talk_ms=st.none() | st.integers(0, 200_000),
        has_ended=st.booleans(),
    ),
    max_size=12,
)


@given(drawn=CALLS)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sums_of_the_store_are_sums_made_by_hand(tmp_path_factory, drawn):
    """Counts, talk time, short calls and answer rate of any set of calls, whole and by day."""
    opened = Store.open(f"sqlite:///{tmp_path_factory.mktemp('stats') / 'stats.db'}")
    since, until = NOW - timedelta(hours=60), NOW
    records = []
    for number, one in enumerate(drawn):
        created = NOW - timedelta(hours=one["offset_h"])
        answered = created if one["talk_ms"] is not None else None
        ended = created + timedelta(milliseconds=one["talk_ms"] or 0) if one["has_ended"] else None
        records.append(
            call(
                number,
                direction=one["direction"],
                status=one["status"],
                result=one["result"],
                created_at=created,
                answered_at=answered,
                ended_at=ended,
            )
        )
    opened._write_now(lambda conn: [table.insert(conn, record) for record in records])
    found = opened._read_now(stats.tally, since=since, until=until)[0].tally
    by_day = opened._read_now(stats.tally, since=since, until=until, group_by=["day"])
    opened.close()
    inside = [one for one in records if since <= one.created_at < until]
    done = [one for one in inside if one.answered_at and one.ended_at]
    lengths = [(one.ended_at - one.answered_at).total_seconds() for one in done]
    assert found.calls == len(inside) == sum(one.tally.calls for one in by_day)
    assert found.answered == sum(one.answered_at is not None for one in inside)
    assert found.finished == len(done)
    assert found.talk_s == pytest.approx(sum(lengths), abs=0.001)
    assert found.blocked == sum(one.status == "blocked" for one in inside)
    assert {one.day for one in by_day} == {one.created_at.date().isoformat() for one in inside}
    near = sum(abs(length - 12) < 0.001 for length in lengths)
    assert abs(found.short - sum(length <= 12 for length in lengths)) <= near


def test_both_functions_have_a_spelling_for_postgresql():
    """The other database has no julianday."""
    statement = select(
        seconds_between(calls.c.answered_at, calls.c.ended_at), utc_day(calls.c.created_at)
    )
    text = str(statement.compile(dialect=postgresql.dialect()))
    assert "EXTRACT(EPOCH FROM (calls.ended_at - calls.answered_at))" in text
    assert "to_char(calls.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')" in text


def test_health_counts_what_reached_the_network_alone(store):
    """Refused and never dialled calls say nothing about a tenant's traffic; old ones neither."""

    def fill(conn):
        for number in range(60):
            ended = NOW - timedelta(minutes=number)
            answered = ended - timedelta(seconds=10 if number < 12 else 60)
            record = call(number, created_at=answered, answered_at=answered, ended_at=ended)
            table.insert(conn, record)
        for number in range(60, 80):
            at = NOW - timedelta(hours=1)
            table.insert(conn, call(number, created_at=at, ended_at=at, status="no-answer"))
        blocked = call(90, status="blocked", result="policy", ended_at=NOW)
        table.insert(conn, blocked)
        old = NOW - timedelta(hours=30)
        table.insert(conn, call(91, created_at=old, ended_at=old, status="failed"))

        # Asked for long ago and dialled now; and one that was called off before its turn.
        waited = NOW - timedelta(days=40)
        table.insert(
            conn,
            call(92, created_at=waited, sent_at=NOW, ended_at=NOW, status="busy", from_number=HERE),
        )
        table.insert(
            conn, call(93, sent_at=None, ended_at=NOW, status="canceled", from_number=HERE)
        )

    store._write_now(fill)
    assert store._read_now(health.traffic, "tnt_default", NOW, HERE).caller_id_calls_hour == 1
    figures = store._read_now(health.traffic, "tnt_default", NOW)
    assert figures.calls == 81
    assert figures.answer_share == pytest.approx(60 / 81)
    assert figures.short_share == pytest.approx(0.2)
    assert figures.mean_connected_s == pytest.approx(50.0, abs=0.01)
    verdicts = health.judge(figures)
    assert (verdicts["short_share"], verdicts["mean_connected_s"]) == ("stop", "ok")
    assert store._read_now(health.traffic, "tnt_other", NOW).answer_share is None


def test_abandoned_calls_are_counted_for_thirty_days_and_by_campaign(store):
    """Of calls that a person picked up; the tenant's figure is its worst campaign's, of those with enough calls."""

    def fill(conn):
        for number in range(100):
            at = NOW - timedelta(days=number % 29, minutes=1)
            roof = {"campaign": "roof", "abandoned": number < 4, "created_at": at}
            table.insert(conn, call(number, **roof))
        for number in range(100, 160):
            table.insert(conn, call(number, campaign="agt_1", abandoned=number < 101))
        table.insert(conn, call(160, campaign="tiny", abandoned=True))
        table.insert(conn, call(161, campaign="agt_1"))  # a machine picked up
        old = NOW - timedelta(days=31)
        table.insert(conn, call(162, campaign="agt_1", abandoned=True, created_at=old))
        table.insert(conn, call(163))  # from before this was looked at

    store._write_now(fill)

    def share(campaign=None):
        found = store._read_now(health.traffic, "tnt_default", NOW, None, campaign)
        return found.campaign_calls, found.abandoned_share

    assert share("roof") == (100, 0.04)
    assert share("agt_1") == (60, pytest.approx(1 / 60))
    assert share("nothing yet") == (0, None)
    assert share() == (100, 0.04)
    assert (
        health.judge(store._read_now(health.traffic, "tnt_default", NOW))["abandoned_share"]
        == "stop"
    )


@pytest.mark.parametrize(
    ("figures", "name", "verdict"),
    [
        (Traffic(49, short_share=0.9), "short_share", "unknown"),
        (Traffic(50, short_share=0.9), "short_share", "stop"),
        (Traffic(50, short_share=0.10), "short_share", "warn"),
        (Traffic(50, short_share=0.08), "short_share", "ok"),
        (Traffic(50, answer_share=0.70), "answer_share", "warn"),
        (Traffic(50, answer_share=0.69), "answer_share", "stop"),
        (Traffic(1, caller_id_calls_hour=101), "caller_id_calls_hour", "stop"),
        (Traffic(100, abandoned_share=0.9, campaign_calls=49), "abandoned_share", "unknown"),
        (Traffic(0, abandoned_share=0.031, campaign_calls=50), "abandoned_share", "stop"),
        (Traffic(0, abandoned_share=0.03, campaign_calls=50), "abandoned_share", "warn"),
    ],
)
def test_threshold_itself_is_still_the_better_side(figures, name, verdict):
    """A figure on the line has not crossed it."""
    assert health.judge(figures)[name] == verdict


def test_provider_event_of_another_call_is_not_this_ones(store):
    """Events are found by call, by SID, by level and by time."""

    def fill(conn):
        agents.insert(conn, AGENT)
        table.insert(conn, call(1, twilio_call_sid="CA1", agent_id="agt_1"))
        event = ProviderEventRecord("twilio", "NO1", "error", NOW, NOW, call_sid="CA1")
        provider_events.add(conn, event)
        provider_events.add(conn, replace(event, sid="NO2", call_sid="CA2"))

    store._write_now(fill)
    (event,) = store._read_now(provider_events.of_call, "call_0001", "CA1")
    assert (event.sid, event.agent_id) == ("NO1", "agt_1")
    found, _ = store._read_now(
        provider_events.list_events, filters={"level": "error", "since": NOW}
    )
    assert [one.sid for one in found] == ["NO2", "NO1"]


# ---- over the API --------------------------------------------------------------------------------

HERE = "+14155550199"


@pytest.fixture
def rig():
    with open_rig() as opened:
        yield opened


async def _fill(rig):
    def put(conn):
        agents.insert(conn, replace(AGENT, number_e164=HERE, elevenlabs_agent_id="el_1"))
        record = call(1, twilio_call_sid="CA1", agent_id="agt_1", direction="inbound")
        table.insert(conn, replace(record, answered_at=NOW, ended_at=NOW + timedelta(seconds=90)))
        event = ProviderEventRecord("twilio", "NO1", "error", NOW, NOW, call_sid="CA1", code=11200)
        provider_events.add(conn, event)

    await rig.store.write(put)


async def test_stats_are_answered_with_rates_and_groups(rig):
    """Minutes are talk time, billed minutes whole ones; ranges are bounded."""
    await _fill(rig)
    path = "/v2/stats?since=2026-11-25T00:00:00Z&until=2026-11-26T00:00:00Z"
    answered = await rig.ask("GET", path + "&group_by=agent,day")
    assert answered.status == 200, answered.raw
    total, (group,) = answered.json["total"], answered.json["groups"]
    assert (total["calls"], total["minutes"], total["billed_minutes"]) == (1, 1.5, 2)
    assert (total["average_s"], total["short_share"]) == (90.0, 0.0)
    assert total["answer_seizure_rate"] is None
    assert (group["agent_id"], group["day"]) == ("agt_1", "2026-11-25")
    for query, field in (
        ("?since=2026-01-01T00:00:00Z&until=2026-11-01T00:00:00Z", "since"),
        ("?since=2026-11-02T00:00:00Z&until=2026-11-01T00:00:00Z", "since"),
        ("?group_by=hour", "group_by"),
        ("?group_by=day,day", "group_by"),
    ):
        refused = await rig.ask("GET", "/v2/stats" + query)
        assert (refused.status, refused.json["errors"][0]["field"]) == (422, field)


async def test_record_of_a_call_shows_what_providers_complained_about(rig):
    """The same events as the list of them."""
    await _fill(rig)
    record = await rig.ask("GET", "/v2/calls/call_0001")
    assert [event["code"] for event in record.json["provider_events"]] == [11200]
    listed = await rig.ask("GET", "/v2/provider-events?agent_id=agt_1&level=error")
    assert listed.json["items"] == record.json["provider_events"]
    assert (await rig.ask("GET", "/v2/provider-events?code=1")).json["items"] == []


async def test_traffic_health_of_nobody_is_404_and_of_few_calls_unknown(rig):
    """A figure drawn from a handful of calls judges nobody."""
    answered = await rig.ask("GET", "/v2/tenants/tnt_default/traffic-health")
    assert answered.status == 200, answered.raw
    verdicts = {one["verdict"] for one in answered.json["figures"].values()}
    assert verdicts == {"unknown"}
    assert (await rig.ask("GET", "/v2/tenants/tnt_x/traffic-health")).status == 404
    assert (await rig.ask("GET", "/v2/tenants/tnt_x/usage")).status == 404


async def test_routes_of_a_number_are_set_shown_tried_and_removed(rig):
    """An instant can be asked about; a number or an agent that is not there is said so by name."""
    await _fill(rig)
    path = "/v2/numbers/%2B14155550199/routes"
    routes = [
        {"when": {"holidays": True}, "to": {"message": "Happy holidays."}},
        {"when": {"from": "22:00", "to": "06:00"}, "to": {"refusal": "We sleep."}},
    ]
    put = await rig.ask("PUT", path, {"routes": routes, "timezone": "America/New_York"})
    assert put.status == 200, put.raw
    for at, target in (
        ("2026-11-26T17:00:00Z", "message"),
        ("2026-11-25T17:00:00Z", "agent"),
        ("2026-11-25T04:00:00Z", "refusal"),
    ):
        shown = await rig.ask("GET", f"{path}?at={at}")
        assert shown.json["now"]["target"] == target, at
    assert shown.json["calendar"]["country"] == "US"
    wrong = await rig.ask("PUT", path, {"routes": [{"to": {"agent_id": "agt_9"}}]})
    assert wrong.json["errors"][0]["field"] == "routes.0.to.agent_id"
    wrong = await rig.ask("PUT", path, {"routes": [], "hours": {"mon": ["9-5"]}})
    assert [one["field"] for one in wrong.json["errors"]] == ["hours.mon.0"]
    wrong = await rig.ask("PUT", path, {"routes": [{"when": {"from": "25:00"}, "to": {}}]})
    assert {one["field"] for one in wrong.json["errors"]} >= {"routes.0.when.from"}
    assert (await rig.ask("DELETE", path)).status == 204
    assert (await rig.ask("DELETE", path)).status == 404
    assert (await rig.ask("GET", "/v2/numbers/%2B14155550198/routes")).status == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "to"),
        ({"to": {}}, "to"),
        ({"to": {"number": "+1415", "sip": "sip:a@b"}}, "to"),
        ({"to": {"number": "0800"}}, "to.number"),
        ({"to": {"sip": 'sip:a@b"/>'}}, "to.sip"),
        ({"to": {"conference": "room"}, "mode": "warm"}, "body"),
        ({"to": {"number": "+14155550123"}, "summary": "x"}, "body"),
        ({"to": {"number": "+14155550123"}, "timeout_s": 1}, "timeout_s"),
    ],
)
async def test_transfer_that_makes_no_sense_is_refused_by_field(rig, body, field):
    """Before anything is looked up or asked."""
    answered = await rig.ask("POST", "/v2/calls/call_0001/transfer", body)
    assert answered.status == 422
    assert answered.json["errors"][0]["field"].startswith(field)
    fine = await rig.ask("POST", "/v2/calls/call_9/transfer", {"to": {"client": "front_desk"}})
    assert fine.status == 404
