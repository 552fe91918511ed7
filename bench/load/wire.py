"""The bytes of every message, made before they are needed. Pure.

Two thirds of a `media` message are the same for every caller that is at its k-th frame, so that part is made
(and masked) once for each k; the rest is the stream's SID, made once a call for each alignment of the mask.
A frame then costs one lookup and one concatenation.

Source: RFC 6455 section 5; Twilio, "Media Streams - WebSocket messages"; ElevenLabs, "Agent WebSockets".
One thing is simplified: `sequenceNumber` counts `media` messages only, also when marks are echoed between.
"""

from __future__ import annotations

import base64
import json
import random
import struct
from typing import Any

FRAME_MS = 20
FRAME_BYTES = 160
"""µ-law bytes of one caller frame."""
PAYLOADS = 50
"""Different caller frames; frame k holds `payload(k)`."""
MASK_KEY = bytes.fromhex("a5c3175e")
"""A client has to mask; it costs the server the same whatever the key is."""

_noise = random.Random(20)
_PAYLOADS = [bytes(_noise.choices(range(256), k=FRAME_BYTES)) for _ in range(PAYLOADS)]
_PAYLOADS_64 = [base64.b64encode(payload).decode() for payload in _PAYLOADS]


def payload(k: int) -> bytes:
    """The µ-law audio of a caller's k-th frame, from 0."""
    return _PAYLOADS[k % PAYLOADS]


def mask(data: bytes, phase: int = 0) -> bytes:
    """`data` masked with MASK_KEY, beginning `phase` bytes into the message."""
    key = (MASK_KEY * (len(data) // 4 + 2))[phase % 4 :][: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")


def header(opcode: int, length: int, *, masked: bool) -> bytes:
    """A frame's header with its final bit set, and MASK_KEY when masked."""
    first, bit = 0x80 | opcode, 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", first, bit | length)
    elif length < 0x10000:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    return head + MASK_KEY if masked else head


def client_text(message: bytes) -> bytes:
    """One masked text frame."""
    return header(1, len(message), masked=True) + mask(message)


def server_text(message: bytes) -> bytes:
    """One unmasked text frame."""
    return header(1, len(message), masked=False) + message


def compact(body: Any) -> bytes:
    """JSON without spaces."""
    return json.dumps(body, separators=(",", ":")).encode()


STREAM_SID_CHARS = 34
_TAIL = '"}},"streamSid":"{}"}}'
_TAIL_BYTES = len(_TAIL.format("M" * STREAM_SID_CHARS))


def tails(stream_sid: str) -> tuple[bytes, bytes, bytes, bytes]:
    """The end of each of a call's `media` messages, masked for each alignment."""
    if len(stream_sid) != STREAM_SID_CHARS:
        raise ValueError(f"a stream SID has {STREAM_SID_CHARS} characters")
    text = _TAIL.format(stream_sid).encode()
    return mask(text, 0), mask(text, 1), mask(text, 2), mask(text, 3)


class Heads:
    """The beginnings of the `media` messages: `heads[k]` is (bytes, alignment of what follows)."""

    def __init__(self) -> None:
        self.made: list[tuple[bytes, int]] = []

    def grow(self, count: int) -> None:
        """Have at least `count` of them."""
        for k in range(len(self.made), count):
            text = (
                f'{{"event":"media","sequenceNumber":"{k + 2}","media":{{"track":"inbound",'
                f'"chunk":"{k + 1}","timestamp":"{k * FRAME_MS}",'
                f'"payload":"{_PAYLOADS_64[k % PAYLOADS]}'
            ).encode()
            head = header(1, len(text) + _TAIL_BYTES, masked=True)
            self.made.append((head + mask(text), len(text) % 4))


CONNECTED = client_text(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')


def start(stream_sid: str, call_sid: str, account_sid: str, parameters: dict[str, str]) -> bytes:
    """Twilio's second message."""
    return client_text(
        compact(
            {
                "event": "start",
                "sequenceNumber": "1",
                "start": {
                    "accountSid": account_sid,
                    "streamSid": stream_sid,
                    "callSid": call_sid,
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                    "customParameters": parameters,
                },
                "streamSid": stream_sid,
            }
        )
    )


def mark_echo(stream_sid: str, sequence: int, name: str) -> bytes:
    """The echo of a mark."""
    body = {"event": "mark", "sequenceNumber": str(sequence), "streamSid": stream_sid}
    return client_text(compact({**body, "mark": {"name": name}}))


def stop(stream_sid: str, call_sid: str, account_sid: str, sequence: int) -> bytes:
    """Twilio's last message."""
    body = {"event": "stop", "sequenceNumber": str(sequence), "streamSid": stream_sid}
    return client_text(compact({**body, "stop": {"accountSid": account_sid, "callSid": call_sid}}))


CLIENT_CLOSE = header(8, 2, masked=True) + mask(struct.pack("!H", 1000))
SERVER_CLOSE = header(8, 2, masked=False) + struct.pack("!H", 1000)


class AgentVoice:
    """What every agent says: turns of equal length, each in equal chunks; frames are made once an event id."""

    def __init__(
        self, audio_format: str, chunk_ms: int, chunks_per_turn: int, *, alignment: bool
    ) -> None:
        self.audio_format = audio_format
        self.bytes_per_ms = bytes_per_ms(audio_format)
        self.chunk_ms = chunk_ms
        self.chunks_per_turn = chunks_per_turn
        self.turn_ms = chunk_ms * chunks_per_turn
        self._alignment = alignment
        voice = random.Random(7)
        size = int(chunk_ms * self.bytes_per_ms)
        self.chunk_bytes = size - size % 2 if audio_format.startswith("pcm") else size
        self._audio = [base64.b64encode(voice.randbytes(self.chunk_bytes)) for _ in range(4)]
        self._made: dict[int, bytes] = {}

    def chunk(self, event_id: int) -> bytes:
        """The frame of the chunk with this event id (from 1), unmasked."""
        made = self._made.get(event_id)
        if made is None:
            made = self._made[event_id] = server_text(self._message(event_id))
        return made

    def _message(self, event_id: int) -> bytes:
        audio = self._audio[event_id % len(self._audio)]
        rest = b""
        if self._alignment:
            count = self.chunk_ms // 60
            step = {"char_start_times_ms": [60 * i for i in range(count)]}
            chars = {"chars": list("abcdefg " * 99)[:count], "char_durations_ms": [60] * count}
            rest = b',"alignment":' + compact(chars | step)
        return b'{"type":"audio","audio_event":{"audio_base_64":"%s","event_id":%d%s}}' % (
            audio,
            event_id,
            rest,
        )

    def texts(self, event_id: int) -> bytes:
        """What is written at the begin of a turn: the caller's words and the agent's."""
        heard = {"user_transcript": "I would like to change my appointment.", "event_id": event_id}
        said = {"agent_response": "Of course. Which day would suit you?", "event_id": event_id}
        return server_text(
            compact({"type": "user_transcript", "user_transcription_event": heard})
        ) + server_text(compact({"type": "agent_response", "agent_response_event": said}))


def metadata(conversation_id: str, agent_format: str, caller_format: str) -> bytes:
    """The agent's first message."""
    event = {
        "conversation_id": conversation_id,
        "agent_output_audio_format": agent_format,
        "user_input_audio_format": caller_format,
    }
    return server_text(
        compact(
            {
                "type": "conversation_initiation_metadata",
                "conversation_initiation_metadata_event": event,
            }
        )
    )


def ping(event_id: int) -> bytes:
    """The agent's question whether we are there."""
    return server_text(
        compact({"type": "ping", "ping_event": {"event_id": event_id, "ping_ms": 20}})
    )


def interruption(event_id: int) -> bytes:
    """The agent has heard the caller speak over it."""
    return server_text(
        compact({"type": "interruption", "interruption_event": {"event_id": event_id}})
    )


def bytes_per_ms(audio_format: str) -> float:
    """Of an ElevenLabs format name, such as `ulaw_8000` or `pcm_16000`."""
    encoding, _, rate = audio_format.partition("_")
    if encoding not in ("ulaw", "pcm") or not rate.isdecimal():
        raise ValueError(f"not an audio format: {audio_format}")
    return int(rate) / 1000 * (1 if encoding == "ulaw" else 2)


def payload_64(k: int) -> str:
    """`payload(k)` as it travels."""
    return _PAYLOADS_64[k % PAYLOADS]
