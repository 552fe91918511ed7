"""Frames made beforehand are what a WebSocket library would have made."""

from __future__ import annotations

import base64
import json

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from bench.load import wire

SID = "MZ" + "0123456789abcdef" * 2


def texts(data: bytes, role: ConnectionType) -> list[str]:
    """All text messages in `data`, as another implementation reads them."""
    peer = Connection(role)
    peer.receive_data(data)
    return [event.data for event in peer.events() if isinstance(event, TextMessage)]


@pytest.mark.parametrize("k", [0, 7, 8, 97, 98, 99, 998, 9998, 123456])
def test_frame_of_any_number_reads_as_the_documented_media_message(k: int) -> None:
    """Counters of every length, so every alignment of the mask between the two parts."""
    heads = wire.Heads()
    heads.grow(k + 1)
    head, phase = heads.made[k]
    (text,) = texts(head + wire.tails(SID)[phase], ConnectionType.SERVER)
    assert json.loads(text) == {
        "event": "media",
        "sequenceNumber": str(k + 2),
        "media": {
            "track": "inbound",
            "chunk": str(k + 1),
            "timestamp": str(20 * k),
            "payload": base64.b64encode(wire.payload(k)).decode(),
        },
        "streamSid": SID,
    }


def test_control_messages_of_the_caller_are_readable() -> None:
    """connected, start, a mark's echo, stop: in one piece."""
    data = wire.CONNECTED + wire.start(SID, "CA1", "AC1", {"a": "b"})
    data += wire.mark_echo(SID, 9, "m1") + wire.stop(SID, "CA1", "AC1", 10)
    events = [json.loads(text) for text in texts(data, ConnectionType.SERVER)]
    assert [event["event"] for event in events] == ["connected", "start", "mark", "stop"]
    assert events[1]["start"]["mediaFormat"]["encoding"] == "audio/x-mulaw"
    assert events[2]["mark"] == {"name": "m1"}


@pytest.mark.parametrize(
    ("name", "size"), [("ulaw_8000", 2000), ("pcm_16000", 8000), ("pcm_22050", 11024)]
)
def test_agent_chunk_holds_its_duration_in_its_format(name: str, size: int) -> None:
    """250 ms; whole samples only."""
    voice = wire.AgentVoice(name, 250, 8, alignment=True)
    (text,) = texts(voice.chunk(3), ConnectionType.CLIENT)
    event = json.loads(text)["audio_event"]
    assert event["event_id"] == 3
    assert len(base64.b64decode(event["audio_base_64"])) == voice.chunk_bytes == size
    assert len(event["alignment"]["chars"]) == len(event["alignment"]["char_durations_ms"])


def test_bytes_per_ms_of_something_else_is_an_error() -> None:
    """A misspelt format must not become a rate of zero."""
    with pytest.raises(ValueError, match="mp3_44100"):
        wire.bytes_per_ms("mp3_44100")
