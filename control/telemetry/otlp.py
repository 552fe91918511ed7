"""Spans as OTLP/HTTP wants them in JSON. Pure.

Source: OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding": ids in hex, 64-bit integers as text, enums as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from control.telemetry.spans import Attributes, Span

PATH = "/v1/traces"
_INTERNAL, _SERVER = 1, 2
_ERROR = 2


def traces(spans: Iterable[Span], *, version: str, node: str) -> dict[str, Any]:
    """An `ExportTraceServiceRequest`."""
    about: Attributes = {
        "service.name": "tandem",
        "service.version": version,
        "service.instance.id": node,
    }
    scope = {"name": "tandem", "version": version}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(about)},
                "scopeSpans": [{"scope": scope, "spans": [_span(span) for span in spans]}],
            }
        ]
    }


def _span(span: Span) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _INTERNAL if span.parent_id else _SERVER,
        "startTimeUnixNano": _nanoseconds(span.start_ms),
        "endTimeUnixNano": _nanoseconds(span.end_ms),
        "attributes": _attributes(span.attributes),
        "status": {"code": _ERROR, "message": span.message} if span.is_error else {},
    }
    if span.parent_id:
        shown["parentSpanId"] = span.parent_id
    if span.events:
        shown["events"] = [
            {"timeUnixNano": _nanoseconds(ms), "name": name, "attributes": _attributes(data)}
            for name, ms, data in span.events
        ]
        shown["droppedEventsCount"] = span.events_dropped
    return shown


def _nanoseconds(ms: int) -> str:
    return str(ms * 1_000_000)


def _attributes(given: Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in given.items()]


def _value(value: str | int | float | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else str(value)}
    return {"stringValue": value}
