"""A call that is over as spans: ring, policy, agent legs, stream, turns, end, and what came after it. Pure.

Ids are made of the call's own, so that a call which is told twice is the same trace. What was said, numbers and names
are not in it: figures, times, and words of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from control.store.records import CallRecord, EventRecord, TurnRecord

EVENTS_MAX = 200
"""Lines of the timeline that go with the root span; the rest is counted."""
TURNS_MAX = 500
FAULTS = frozenset(("agent", "gateway", "twilio", "carrier"))
"""Who is to blame for a call that did not end as it should; a caller who hangs up is no error."""

Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Span:
    """Times are Unix milliseconds; `end_ms` is never before `start_ms`."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start_ms: int
    end_ms: int
    attributes: Attributes
    is_error: bool = False
    message: str = ""
    events: tuple[tuple[str, int, Attributes], ...] = ()
    events_dropped: int = 0


@dataclass(slots=True)
class _Trace:
    call_id: str
    first_ms: int
    last_ms: int
    spans: list[Span] = field(default_factory=list)

    def id_of(self, name: str) -> str:
        return hashlib.sha256(f"{self.call_id} {name}".encode()).hexdigest()[:16]

    def add(self, name: str, start_ms: int, end_ms: int, parent: str | None, **more: Any) -> str:
        """The new span's id."""
        number = sum(span.name == name for span in self.spans)
        span_id = self.id_of(f"{name} {number}")
        trace_id = hashlib.sha256(self.call_id.encode()).hexdigest()[:32]
        attributes = more.pop("attributes", {})
        self.spans.append(
            Span(
                trace_id, span_id, parent, name, start_ms, max(start_ms, end_ms), attributes, **more
            )
        )
        return span_id


def spans_of(
    record: CallRecord, timeline: Sequence[EventRecord], turns: Sequence[TurnRecord]
) -> list[Span]:
    """The spans of a call that has ended, the root first; none for one that has not."""
    if record.ended_at is None:
        return []
    begin, end = _ms(record.created_at), _ms(record.ended_at)
    after = [line.at_ms for line in timeline if line.name in ("analysed", "analysis_failed")]
    trace = _Trace(record.id, begin, end)
    events = tuple((line.name, line.at_ms, _figures(line.data)) for line in timeline[:EVENTS_MAX])
    is_error = record.blame in FAULTS
    root = trace.add(
        f"call {record.direction}",
        begin,
        max(end, *after) if after else end,
        None,
        attributes=_about(record),
        is_error=is_error,
        message=record.result or "" if is_error else "",
        events=events,
        events_dropped=max(0, len(timeline) - EVENTS_MAX),
    )
    _policy(trace, root, record, timeline)
    if record.ringing_at is not None:
        rang = record.answered_at or record.ended_at
        trace.add("ring", _ms(record.ringing_at), _ms(rang), root)
    for start, stop in _pairs(timeline, "agent_dialing", ("agent_ready",), end):
        trace.add("warm", start, stop, root)
    streams = list(
        _pairs(timeline, "stream_started", ("caller_stopped", "caller_closed", "ending"), end)
    )
    for start, stop in streams:
        trace.add("stream", start, stop, root)
    if streams:
        _turns(trace, turns[:TURNS_MAX], streams[-1][1])
    for start, stop in _pairs(timeline, "ending", ("ended",), end):
        trace.add("end", start, stop, root)
    if after:
        trace.add("after-call", end, max(after), root)
    return trace.spans


def _policy(trace: _Trace, root: str, record: CallRecord, timeline: Sequence[EventRecord]) -> None:
    """From the call's first moment until something was done about the decision."""
    if record.decision is None:
        return
    done = ("accepted", "queued", "prepared", "answered_with_message", "ringing")
    at_ms = next((line.at_ms for line in timeline if line.name in done), trace.first_ms)
    said = {"tandem.policy.outcome": str(record.decision.get("outcome", ""))}
    trace.add("policy", trace.first_ms, at_ms, root, attributes=said)


def _turns(trace: _Trace, turns: Sequence[TurnRecord], until_ms: int) -> None:
    """Each from its first word to the next turn's, in the stream that it belongs to."""
    streams = [span for span in trace.spans if span.name == "stream"]
    for number, turn in enumerate(turns):
        following = turns[number + 1].at_ms if number + 1 < len(turns) else until_ms
        parent = next((s for s in reversed(streams) if s.start_ms <= turn.at_ms), streams[0])
        attributes: Attributes = {
            "tandem.turn": turn.turn,
            "tandem.role": turn.role,
            "tandem.interrupted": turn.interrupted,
        }
        trace.add("turn", turn.at_ms, following, parent.span_id, attributes=attributes)


def _pairs(
    timeline: Sequence[EventRecord], first: str, last: tuple[str, ...], end_ms: int
) -> Iterator[tuple[int, int]]:
    """`(start, stop)` of each `first` and the next of `last`; one that is never closed ends with the call."""
    start: int | None = None
    for line in timeline:
        if line.name == first:
            if start is not None:
                yield start, line.at_ms
            start = line.at_ms
        elif line.name in last and start is not None:
            yield start, line.at_ms
            start = None
    if start is not None:
        yield start, end_ms


def _about(record: CallRecord) -> Attributes:
    """What is searched by, and the figures that say whose fault it was."""
    named = {
        "tandem.call_id": record.id,
        "tandem.tenant_id": record.tenant_id,
        "tandem.agent_id": record.agent_id,
        "tandem.direction": record.direction,
        "tandem.status": record.status,
        "tandem.result": record.result,
        "tandem.blame": record.blame,
        "tandem.node": record.node,
        "tandem.resumes": record.resumes,
        "tandem.twilio_call_sid": record.twilio_call_sid,
        "tandem.conversation_id": record.conversation_id,
    }
    for part in ("caller_audio", "agent_audio"):
        for name, value in (record.media.get(part) or {}).items():
            named[f"tandem.media.{part}.{name}"] = value
    named |= {f"tandem.media.{name}": value for name, value in record.media.items()}
    return {
        name: value for name, value in named.items() if isinstance(value, str | int | float | bool)
    }


def _figures(data: Mapping[str, Any]) -> Attributes:
    """Of a timeline's line: no texts, they may be a person's."""
    return {name: value for name, value in data.items() if isinstance(value, int | float | bool)}


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
