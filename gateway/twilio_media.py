"""Twilio Media Streams messages: pure functions between bytes and values.

Twilio speaks `connected`, `start`, then `media`, `dtmf` and echoed `mark`s, then `stop`; it understands
`media`, `mark` and `clear`. Every caller audio frame passes `split_media`, which lifts the base64 text out
of the usual envelope without parsing JSON; everything else goes through `decode`.

Source: Twilio documentation, "Media Streams: WebSocket messages".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from gateway.errors import GatewayError
from gateway.wire_json import (
    FieldError,
    count_in,
    load_object,
    object_in,
    optional_object_in,
    optional_text_in,
    redacted,
    text_in,
)


class MediaStreamError(GatewayError):
    """Twilio sent something that is no Media Streams message; the text ends with a redacted sample."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The socket is up; `start` follows."""

    protocol: str
    version: str


@dataclass(frozen=True, slots=True)
class Started:
    """The stream of one call begins. `custom_parameters` are the TwiML's, as Twilio sent them."""

    stream_sid: str
    account_sid: str
    call_sid: str
    tracks: tuple[str, ...]
    encoding: str
    rate_hz: int
    channels: int
    custom_parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallerMedia:
    """Some caller audio. `payload` is base64 text of G.711 µ-law, its alphabet checked, not decoded.

    `timestamp_ms` counts from the start of the stream. `sequence` and `chunk` are 0 when Twilio left them out.
    """

    stream_sid: str
    sequence: int
    chunk: int
    timestamp_ms: int
    track: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key: one of `0`-`9`, `*`, `#`, `A`-`D`."""

    stream_sid: str
    digit: str


@dataclass(frozen=True, slots=True)
class MarkEcho:
    """A mark of ours was reached, or thrown away by a `clear`: the echo does not say which."""

    stream_sid: str
    name: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The stream or the call ended. A courtesy: the closing of the socket is what counts.

    Any field that Twilio leaves out is empty, so that no `stop` is lost.
    """

    stream_sid: str
    account_sid: str
    call_sid: str


Event: TypeAlias = Connected | Started | CallerMedia | Dtmf | MarkEcho | Stopped

# A SID goes back to Twilio inside our messages, unescaped: nothing that could end a JSON string.
_SID: Final = r"[0-9A-Za-z_-]{1,64}"
_COUNT: Final = r"[0-9]{1,18}"
_BASE64: Final = r"[A-Za-z0-9+/=]*"

_is_sid = re.compile(_SID).fullmatch
_is_base64 = re.compile(_BASE64).fullmatch
_is_digit = re.compile(r"[0-9*#A-D]").fullmatch


def _media_pattern(space: str) -> re.Pattern[bytes]:
    """One pattern for both orders of `streamSid` and `media`; `(?(1)…)` asks for the one not yet seen.

    Possessive (`*+`): a message that does not fit is left at once, without going back.
    """
    colon, comma = ":" + space, "," + space
    sid = rf'"streamSid"{colon}"({_SID}+)"'
    return re.compile(
        (
            rf'\{{"event"{colon}"media"{comma}"sequenceNumber"{colon}"{_COUNT}+"{comma}'
            rf'(?:{sid}{comma})?"media"{colon}\{{"track"{colon}"inbound"{comma}'
            rf'"chunk"{colon}"{_COUNT}+"{comma}"timestamp"{colon}"({_COUNT}+)"{comma}'
            rf'"payload"{colon}"({_BASE64}+)"\}}(?(1)|{comma}{sid})\}}'
        ).encode()
    )


# Measured per frame on 3.13 / 3.11, best of many: this pattern 1.45 / 1.7 µs; find, startswith and slices
# 1.9 / 2.9; splitting at the quotes 2.2 / 2.1; a pattern for the head with `bytes.translate` over the
# payload 1.9 / 1.9; two patterns, one for each order, 1.5 and 1.65 / 1.65 and 1.9. A table of heads seen
# before saves 0.1 to 0.2 in one order and loses as much in the other, for state that must be bounded.
# Bare orjson and three look-ups, nothing checked, take 1.6 / 1.6; `decode` takes 8.6. Optional spaces
# cost a fifth more: they have a pattern of their own, tried second.
_compact_media = _media_pattern("").fullmatch
_spaced_media = _media_pattern(" ?").fullmatch


def split_media(message: bytes) -> tuple[bytes, int, bytes] | None:
    """Stream SID, timestamp (ms) and base64 payload of an inbound `media` message in its usual form.

    None for everything else, which says nothing about its worth: `decode` decides. An answer is always
    the one `decode` gives. Never raises.
    """
    match = _compact_media(message) or _spaced_media(message)
    if match is None:
        return None
    leading_sid, timestamp_ms, payload, trailing_sid = match.groups()
    return leading_sid or trailing_sid, int(timestamp_ms), payload


def decode(message: bytes) -> Event | None:
    """The event in a text message from Twilio; None when its name is not known (to be counted).

    Raises MediaStreamError for anything that is not a JSON object with the documented structure.
    """
    try:
        body = load_object(message)
        read = _READERS.get(text_in(body, "event"))
        return None if read is None else read(body)
    except FieldError as error:
        raise MediaStreamError(f"{error} in {redacted(message)}") from None


def encode_media(stream_sid: bytes, payload: bytes) -> bytes:
    """Agent audio to be played: base64 text of G.711 µ-law, 8 kHz, without any header."""
    return (
        b'{"event":"media","streamSid":"'
        + stream_sid
        + b'","media":{"payload":"'
        + payload
        + b'"}}'
    )


def encode_mark(stream_sid: bytes, name: str) -> bytes:
    """A mark, echoed when all audio sent before it has been played or cleared."""
    return b'{"event":"mark","streamSid":"%b","mark":{"name":%b}}' % (
        stream_sid,
        orjson.dumps(name),
    )


def encode_clear(stream_sid: bytes) -> bytes:
    """Drop all audio that has not been played; pending marks are echoed at once."""
    return b'{"event":"clear","streamSid":"' + stream_sid + b'"}'


def _connected(body: dict[str, Any]) -> Connected:
    return Connected(
        optional_text_in(body, "protocol") or "", optional_text_in(body, "version") or ""
    )


def _started(body: dict[str, Any]) -> Started:
    start = object_in(body, "start")
    media_format = object_in(start, "mediaFormat")
    stream_sid = _sid_in(start if "streamSid" in start else body, "streamSid")
    if body.get("streamSid", stream_sid) != stream_sid:
        raise FieldError("`streamSid` differs inside and outside of `start`")
    return Started(
        stream_sid=stream_sid,
        account_sid=_sid_in(start, "accountSid"),
        call_sid=_sid_in(start, "callSid"),
        tracks=_tracks(start),
        encoding=text_in(media_format, "encoding"),
        rate_hz=_positive_in(media_format, "sampleRate"),
        channels=_positive_in(media_format, "channels"),
        custom_parameters=optional_object_in(start, "customParameters"),
    )


def _tracks(start: dict[str, Any]) -> tuple[str, ...]:
    tracks = start.get("tracks") or []
    if not isinstance(tracks, list) or not all(isinstance(track, str) for track in tracks):
        raise FieldError("`tracks` is not a list of strings")
    return tuple(tracks)


def _media(body: dict[str, Any]) -> CallerMedia:
    media = object_in(body, "media")
    payload = text_in(media, "payload")
    if not _is_base64(payload):
        raise FieldError("`payload` is not base64")
    return CallerMedia(
        stream_sid=_sid_in(body, "streamSid"),
        sequence=_counter_in(body, "sequenceNumber") if "sequenceNumber" in body else 0,
        chunk=_counter_in(media, "chunk") if "chunk" in media else 0,
        timestamp_ms=_counter_in(media, "timestamp"),
        track=optional_text_in(media, "track") or "inbound",
        payload=payload.encode("ascii"),
    )


def _dtmf(body: dict[str, Any]) -> Dtmf:
    dtmf = object_in(body, "dtmf")
    digit = dtmf.get("digit")
    if type(digit) is int:
        digit = str(digit)
    if not isinstance(digit, str) or not _is_digit(digit):
        raise FieldError("`digit` is not a key of a telephone")
    return Dtmf(_sid_in(body, "streamSid"), digit)


def _mark(body: dict[str, Any]) -> MarkEcho:
    return MarkEcho(_sid_in(body, "streamSid"), text_in(object_in(body, "mark"), "name"))


def _stopped(body: dict[str, Any]) -> Stopped:
    stop = optional_object_in(body, "stop")
    return Stopped(
        _optional_sid_in(body, "streamSid"),
        _optional_sid_in(stop, "accountSid"),
        _optional_sid_in(stop, "callSid"),
    )


def _sid_in(body: dict[str, Any], key: str) -> str:
    sid = text_in(body, key)
    if not _is_sid(sid):
        raise FieldError(f"`{key}` is not a SID")
    return sid


def _optional_sid_in(body: dict[str, Any], key: str) -> str:
    return "" if body.get(key) is None else _sid_in(body, key)


def _counter_in(body: dict[str, Any], key: str) -> int:
    count = count_in(body, key)
    if count < 0:
        raise FieldError(f"`{key}` is negative")
    return count


def _positive_in(body: dict[str, Any], key: str) -> int:
    count = count_in(body, key)
    if count < 1:
        raise FieldError(f"`{key}` is not positive")
    return count


_READERS: Final[dict[str, Callable[[dict[str, Any]], Event]]] = {
    "connected": _connected,
    "start": _started,
    "media": _media,
    "dtmf": _dtmf,
    "mark": _mark,
    "stop": _stopped,
}
