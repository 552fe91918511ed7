"""The text messages of a media stream, as Twilio writes them and as strictly as it reads them. Pure.

Source: Twilio, "Media Streams - WebSocket messages". Counters are strings; the media format's numbers
are numbers; DTMF names its track `inbound_track`, media `inbound`.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


class InvalidMessage(ValueError):
    """The server said something that Twilio ignores with warning 31951."""


@dataclass(frozen=True, slots=True)
class ServerMedia:
    """Audio for the caller: decoded µ-law."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class ServerMark:
    """A mark to echo."""

    name: str


@dataclass(frozen=True, slots=True)
class ServerClear:
    """Empty the buffer."""


ServerMessage: TypeAlias = ServerMedia | ServerMark | ServerClear

CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'


def start(
    stream_sid: str, sequence: int, account_sid: str, call_sid: str, parameters: Mapping[str, str]
) -> str:
    """`start`: the only message with the custom parameters."""
    return _dump(
        {
            "event": "start",
            "sequenceNumber": str(sequence),
            "start": {
                "accountSid": account_sid,
                "streamSid": stream_sid,
                "callSid": call_sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": dict(parameters),
            },
            "streamSid": stream_sid,
        }
    )


def media(
    stream_sid: str, sequence: int, chunk: int, timestamp_ms: int, ulaw: bytes, *, sid_first: bool
) -> str:
    """`media`: one run of caller audio. Both orders of the members are seen in the wild."""
    payload = binascii.b2a_base64(ulaw, newline=False).decode()
    body = (
        f'"media":{{"track":"inbound","chunk":"{chunk}","timestamp":"{timestamp_ms}",'
        f'"payload":"{payload}"}}'
    )
    sid = f'"streamSid":"{stream_sid}"'
    first, second = (sid, body) if sid_first else (body, sid)
    return f'{{"event":"media","sequenceNumber":"{sequence}",{first},{second}}}'


def dtmf(stream_sid: str, sequence: int, digit: str) -> str:
    """`dtmf`: one key."""
    return _dump(
        {
            "event": "dtmf",
            "streamSid": stream_sid,
            "sequenceNumber": str(sequence),
            "dtmf": {"track": "inbound_track", "digit": digit},
        }
    )


def mark(stream_sid: str, sequence: int, name: str) -> str:
    """`mark`: the echo of a mark the server sent."""
    return _dump(
        {
            "event": "mark",
            "sequenceNumber": str(sequence),
            "streamSid": stream_sid,
            "mark": {"name": name},
        }
    )


def stop(stream_sid: str, sequence: int, account_sid: str, call_sid: str) -> str:
    """`stop`: the last message."""
    return _dump(
        {
            "event": "stop",
            "sequenceNumber": str(sequence),
            "streamSid": stream_sid,
            "stop": {"accountSid": account_sid, "callSid": call_sid},
        }
    )


def parse(text: str, stream_sid: str) -> ServerMessage:
    """A message from the server.

    Raises: InvalidMessage for anything but the three documented shapes, with exactly their fields.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise InvalidMessage("not a JSON object")
    if message.get("streamSid") != stream_sid:
        raise InvalidMessage("streamSid missing or of another stream")
    event = message.get("event")
    if event == "media":
        return ServerMedia(_payload(_only(message, "media", "payload")))
    if event == "mark":
        return ServerMark(_only(message, "mark", "name"))
    if event == "clear":
        _check_fields(message, {"event", "streamSid"})
        return ServerClear()
    raise InvalidMessage(f"unknown event {event!r}"[:80])


def _only(message: dict[str, Any], member: str, field: str) -> str:
    _check_fields(message, {"event", "streamSid", member})
    inner = message[member]
    if not isinstance(inner, dict):
        raise InvalidMessage(f"{member} is no object")
    _check_fields(inner, {field})
    value = inner[field]
    if not isinstance(value, str):
        raise InvalidMessage(f"{member}.{field} is no string")
    return value


def _check_fields(found: dict[str, Any], wanted: set[str]) -> None:
    if found.keys() != wanted:
        odd = ", ".join(sorted(found.keys() ^ wanted))
        raise InvalidMessage(f"missing or surplus fields: {odd}"[:160])


def _payload(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise InvalidMessage(f"payload is not base64: {error}") from error


def _dump(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
