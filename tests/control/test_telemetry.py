"""A call that is over as a trace: what the collector gets, what it never gets, and when it is away."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import trio

from control.config import ConfigError, Secret, TelemetrySettings, load
from control.store import Store, agents, calls
from control.store.records import AgentRecord, CallRecord, EventRecord, TurnRecord
from control.telemetry import export
from control.telemetry.export import Telemetry
from control.telemetry.spans import EVENTS_MAX, spans_of
from tests.receiver import Receiver
from tests.test_contract import LEAST

NOW = datetime(2026, 11, 29, 9, 0, tzinfo=UTC)
MS = int(NOW.timestamp() * 1000)
PERSON, WORDS = "+14155550100", "Pomegranate"


def at(ms):
    return NOW + timedelta(milliseconds=ms)


def record(number=1, **columns):
    given = {
        "id": f"call_{number}",
        "direction": "outbound",
        "created_at": NOW,
        "from_number": "+14155550199",
        "to_number": PERSON,
        "status": "completed",
        "result": "completed",
        "ringing_at": at(100),
        "answered_at": at(3000),
        "ended_at": at(20_000),
        "decision": {"outcome": "allow"},
        "media": {"barge_ins": 1, "agent_audio": {"underruns": 2, "lead_ms": 1.5}},
        "variables": {"name": WORDS},
        "summary": WORDS,
    }
    return CallRecord(**given | columns)


TIMELINE = [
    EventRecord("accepted", MS + 20, {}),
    EventRecord("agent_dialing", MS + 150, {}),
    EventRecord("agent_ready", MS + 700, {"conversation_id": "conv_1", "took_ms": 550}),
    EventRecord("stream_started", MS + 3200, {}),
    EventRecord("tool_answered", MS + 6000, {"said": WORDS, "to": PERSON, "after_ms": 3}),
    EventRecord("ending", MS + 19_000, {"result": "completed"}),
    EventRecord("ended", MS + 20_000, {}),
    EventRecord("analysed", MS + 25_000, {}),
]
TURNS = [
    TurnRecord(1, "agent", f"{WORDS} {PERSON}", MS + 3500),
    TurnRecord(2, "user", WORDS, MS + 5000),
    TurnRecord(3, "agent", WORDS, MS + 7000, WORDS, interrupted=True),
]


def span_times(spans):
    return [(span.name, span.start_ms - MS, span.end_ms - MS) for span in spans]


def test_spans_tell_the_life_of_a_call():
    """Each with its own times; the root lasts until the analysis is there."""
    spans = spans_of(record(), TIMELINE, TURNS)
    assert span_times(spans) == [
        ("call outbound", 0, 25_000),
        ("policy", 0, 20),
        ("ring", 100, 3000),
        ("warm", 150, 700),
        ("stream", 3200, 19_000),
        ("turn", 3500, 5000),
        ("turn", 5000, 7000),
        ("turn", 7000, 19_000),
        ("end", 19_000, 20_000),
        ("after-call", 20_000, 25_000),
    ]
    root, stream = spans[0], spans[4]
    assert {span.parent_id for span in spans[1:5]} == {root.span_id}
    assert {span.parent_id for span in spans[5:8]} == {stream.span_id}
    assert len({span.span_id for span in spans}) == len(spans)
    assert len({span.trace_id for span in spans}) == 1
    assert root.attributes["tandem.media.agent_audio.underruns"] == 2
    assert not root.is_error


def test_same_call_is_the_same_trace_and_another_one_is_not():
    """So that a call which is told twice is there once."""
    assert spans_of(record(), TIMELINE, TURNS) == spans_of(record(), TIMELINE, TURNS)
    other = spans_of(record(2), TIMELINE, TURNS)
    assert other[0].trace_id != spans_of(record(), TIMELINE, TURNS)[0].trace_id


@pytest.mark.parametrize(
    ("blame", "is_error"), [("agent", True), ("gateway", True), ("caller", False)]
)
def test_call_that_failed_is_an_error_by_whose_fault_it_was(blame, is_error):
    """A caller who hangs up is none."""
    root = spans_of(record(blame=blame, result="x_fault"), TIMELINE, TURNS)[0]
    assert (root.is_error, root.attributes["tandem.blame"]) == (is_error, blame)


def test_call_without_a_talk_and_one_that_goes_on():
    """Blocked, never rung; live: nothing yet."""
    blocked = record(ringing_at=None, answered_at=None, status="blocked")
    assert [span.name for span in spans_of(blocked, [], [])] == ["call outbound", "policy"]
    assert spans_of(record(ended_at=None), TIMELINE, TURNS) == []


def test_long_timeline_is_cut_and_counted():
    """A trace is for looking at; the record has all of it."""
    many = [EventRecord("barge_in", MS + n, {}) for n in range(EVENTS_MAX + 7)]
    root = spans_of(record(), many, [])[0]
    assert (len(root.events), root.events_dropped) == (EVENTS_MAX, 7)


# ---- the collector -------------------------------------------------------------------------------


@pytest.fixture
def store(store_url):
    opened = Store.open(store_url)
    opened._write_now(agents.insert, AgentRecord("agt_1", "x", NOW, NOW))
    for number in range(3):
        opened._write_now(calls.insert, record(number, agent_id="agt_1"))
        opened._write_now(
            calls.append_events, f"call_{number}", [(e.name, e.at_ms, e.data) for e in TIMELINE]
        )
        for turn in TURNS:
            opened._write_now(
                calls.upsert_turn, f"call_{number}", turn.turn, turn.role, turn.text, turn.at_ms
            )
    yield opened
    opened.close()


def telemetry(store, endpoint, counted, **more):
    settings = TelemetrySettings(
        otlp_endpoint=endpoint, otlp_headers=Secret("api-key=a%20secret,x=1")
    )
    return Telemetry(
        settings,
        store,
        version="1.2",
        node="here",
        count=lambda word: counted.update([word]),
        **more,
    )


async def run_until(exporting, counted, total):
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exporting.run)
            while sum(counted.values()) < total:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_collector_gets_traces_without_a_word_a_number_or_a_name(store):
    """Over a real socket; the body is OTLP's JSON."""
    counted, receiver = Counter(), Receiver([200])
    async with trio.open_nursery() as nursery:
        await nursery.start(receiver.run)
        exporting = telemetry(store, receiver.url.removesuffix("/hook"), counted)
        for number in range(3):
            exporting.call_over(f"call_{number}")
        await run_until(exporting, counted, 3)
        nursery.cancel_scope.cancel()
    assert counted == {"exported": 3}
    headers = receiver.got[0][1]
    assert headers["content-type"] == "application/json"
    assert headers["api-key"] == "a secret"
    bodies = [body.decode() for _, _, body in receiver.got]
    assert WORDS not in "".join(bodies)
    assert PERSON not in "".join(bodies)
    spans = []
    for body in bodies:
        (resource,) = json.loads(body)["resourceSpans"]
        about = {a["key"]: a["value"] for a in resource["resource"]["attributes"]}
        assert about["service.name"] == {"stringValue": "tandem"}
        assert about["service.version"] == {"stringValue": "1.2"}
        spans += resource["scopeSpans"][0]["spans"]
    roots = [span for span in spans if "parentSpanId" not in span]
    assert len(roots) == 3
    assert all(len(s["traceId"]) == 32 and len(s["spanId"]) == 16 for s in spans)
    shown = {a["key"]: a["value"] for a in roots[0]["attributes"]}
    assert shown["tandem.media.barge_ins"] == {"intValue": "1"}
    assert shown["tandem.media.agent_audio.lead_ms"] == {"doubleValue": 1.5}
    assert roots[0]["startTimeUnixNano"] == str(MS * 1_000_000)
    assert int(roots[0]["endTimeUnixNano"]) - int(roots[0]["startTimeUnixNano"]) == 25 * 10**9


@pytest.mark.parametrize(
    ("answers", "outcome", "asked"),
    [
        ([503, 200], "exported", 2),
        ([429, 504, 502, 200], "exported", 4),
        ([503], "failed", 4),
        ([400, 200], "failed", 1),
        ([None, 200], "exported", 2),
    ],
    ids=str,
)
async def test_collector_that_is_away_costs_traces_after_some_tries_and_nothing_else(
    store, answers, outcome, asked
):
    """Only what OTLP calls retryable is tried again. None: no connection."""
    counted, seen = Counter(), []

    def answer(request):
        seen.append(request.url.path)
        status = answers[min(len(seen), len(answers)) - 1]
        if status is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(status)

    exporting = telemetry(
        store,
        "http://collector.test:4318",
        counted,
        retry_s=(0.0, 0.0, 0.0),
        transport=httpx.MockTransport(answer),
    )
    exporting.call_over("call_1")
    await run_until(exporting, counted, 1)
    assert counted == {outcome: 1}
    assert seen == ["/v1/traces"] * asked


async def test_full_queue_drops_and_counts_and_nobody_waits(store):
    """The collector takes nothing; calls end all the same."""
    counted = Counter()
    exporting = telemetry(store, "http://collector.test:4318", counted)
    for number in range(export.QUEUE_MAX + 5):
        exporting.call_over(f"call_{number}")
    assert counted == {"dropped": 5}


async def test_without_an_endpoint_nothing_is_kept_and_nothing_runs(store):
    """The default."""
    counted = Counter()
    exporting = Telemetry(TelemetrySettings(), store, version="1", node="n")
    for number in range(export.QUEUE_MAX + 5):
        exporting.call_over(f"call_{number}")
    with trio.fail_after(5):
        await exporting.run()
    assert counted == {}


@pytest.mark.parametrize("text", ["novalue", "a b=c", "=x", "k=%0d%0aX: y"])
def test_headers_that_cannot_be_are_refused(text, tmp_path):
    """At start, not when the first call is over."""
    path = tmp_path / "config.toml"
    path.write_text(f'{LEAST}[telemetry]\notlp_headers = "{text}"\n')
    with pytest.raises(
        ConfigError, match=r"telemetry\.otlp_headers: (expected name=value|a value)"
    ):
        load(path, {})
