"""The two ends of a bridge, played by a second WebSocket implementation (wsproto).

A `Table` holds one bridge and its two peers and moves bytes between them in memory, with time as a number:
a whole call without a socket, a task or a clock.
"""

from __future__ import annotations

import base64
import json

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from gateway.bridge import Bridge
from gateway.events import Finished, Note, Turn
from gateway.link import CallPlan
from gateway.settings import MediaSettings

STREAM_SID = "MZ0123456789abcdef0123456789abcdef"
CALL_SID = "CA0123456789abcdef0123456789abcdef"
ACCOUNT_SID = "AC0123456789abcdef0123456789abcdef"
PLAN = CallPlan(
    call_id="call_test",
    direction="inbound",
    elevenlabs_base_url="http://127.0.0.1:1",
    elevenlabs_api_key="key",
    elevenlabs_agent_id="agent_1",
    twilio_call_sid=CALL_SID,
    dynamic_variables={"gw_call_id": "call_test"},
)
FRAME = bytes((7 * n) % 256 for n in range(160))
SPEECH = bytes((n * 31 + n // 160) % 256 for n in range(8_000))
"""A second of the agent's: no two frames alike."""


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Peer:
    """One end of a leg: sends JSON, keeps what it received with the time of arrival."""

    def __init__(self, *, is_client: bool) -> None:
        self._ws = Connection(ConnectionType.CLIENT if is_client else ConnectionType.SERVER)
        self.received: list[tuple[float, dict]] = []
        self.closed: tuple[int, str] | None = None
        self.pongs = 0
        self._text = ""

    def text(self, message: str) -> bytes:
        if self._ws.state.name != "OPEN":
            return b""  # this peer has said goodbye
        return self._ws.send(TextMessage(message))

    def json(self, **message: object) -> bytes:
        return self.text(json.dumps(message, separators=(",", ":")))

    def ping(self) -> bytes:
        return self._ws.send(Ping(b"beat"))

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        if self._ws.state.name != "OPEN":
            return b""
        return self._ws.send(CloseConnection(code, reason))

    def hear(self, data: bytes, now_s: float) -> bytes:
        """Take bytes from the bridge; returns what the WebSocket layer answers by itself."""
        answer = b""
        if not data:
            return answer
        self._ws.receive_data(data)
        for event in self._ws.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self.received.append((now_s, json.loads(self._text)))
                    self._text = ""
            elif isinstance(event, CloseConnection):
                self.closed = (event.code, event.reason or "")
                if self._ws.state.name != "CLOSED":
                    answer += self._ws.send(event.response())
            elif isinstance(event, Pong):
                self.pongs += 1
            elif isinstance(event, Ping):
                answer += self._ws.send(event.response())
        return answer


class Table:
    """A bridge between a caller and an agent, driven by hand."""

    def __init__(self, plan: CallPlan = PLAN, settings: MediaSettings | None = None, tap=None):
        self.settings = settings or MediaSettings()
        self.bridge = Bridge(plan, self.settings, tap)
        self.caller = Peer(is_client=True)
        self.agent = Peer(is_client=False)
        self.now_s = 1_000.0
        self.sequence = 1
        self.timestamp_ms = 0
        self.events: list[object] = []

    # ---- bytes between the three

    def settle(self) -> None:
        """Deliver what the bridge wants to send, and the peers' automatic answers, until all is quiet."""
        for _ in range(10):
            to_caller, to_agent = self.bridge.take_caller(), self.bridge.take_agent()
            answer = self.caller.hear(to_caller, self.now_s)
            if answer:
                self.bridge.caller_bytes(answer, self.now_s)
            answer = self.agent.hear(to_agent, self.now_s)
            if answer:
                self.bridge.agent_bytes(answer, self.now_s)
            self.events += self.bridge.events
            self.bridge.events = []
            if not to_caller and not to_agent:
                return

    def from_caller(self, data: bytes) -> None:
        self.bridge.caller_bytes(data, self.now_s)
        self.settle()

    def from_agent(self, data: bytes) -> None:
        self.bridge.agent_bytes(data, self.now_s)
        self.settle()

    def run(self, seconds: float, *, frames: bool = False, echo_marks: bool = True) -> None:
        """Let time pass on the 20 ms grid; optionally the caller sends a frame each tick."""
        for _ in range(round(seconds / 0.02)):
            self.now_s += 0.02
            if frames:
                self.say(FRAME)
            if self.bridge.due_s <= self.now_s:
                self.bridge.tick(self.now_s)
                self.settle()
            if echo_marks:
                self.echo_marks()

    # ---- the caller

    def start(self, **overrides: object) -> None:
        self.bridge.caller_opened(self.now_s)
        self.from_caller(self.caller.json(event="connected", protocol="Call", version="1.0.0"))
        start = {
            "streamSid": STREAM_SID,
            "accountSid": ACCOUNT_SID,
            "callSid": CALL_SID,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {},
        } | overrides
        self.from_caller(
            self.caller.json(event="start", sequenceNumber="1", streamSid=STREAM_SID, start=start)
        )

    def media(self, ulaw: bytes, stream_sid: str = STREAM_SID) -> bytes:
        self.sequence += 1
        timestamp_ms = self.timestamp_ms
        self.timestamp_ms += len(ulaw) // 8
        return self.caller.json(
            event="media",
            sequenceNumber=str(self.sequence),
            media={
                "track": "inbound",
                "chunk": str(self.sequence - 1),
                "timestamp": str(timestamp_ms),
                "payload": b64(ulaw),
            },
            streamSid=stream_sid,
        )

    def say(self, ulaw: bytes) -> None:
        self.from_caller(self.media(ulaw))

    def press(self, digit: str) -> None:
        self.from_caller(
            self.caller.json(
                event="dtmf",
                streamSid=STREAM_SID,
                sequenceNumber="5",
                dtmf={"track": "inbound_track", "digit": digit},
            )
        )

    def stop(self) -> None:
        self.from_caller(
            self.caller.json(
                event="stop",
                sequenceNumber="9",
                streamSid=STREAM_SID,
                stop={"accountSid": ACCOUNT_SID, "callSid": CALL_SID},
            )
        )

    def echo(self, name: str) -> None:
        self.from_caller(
            self.caller.json(
                event="mark", sequenceNumber="8", streamSid=STREAM_SID, mark={"name": name}
            )
        )

    def echo_marks(self) -> None:
        """Echo what Twilio would have played by now: it plays at 8 bytes a millisecond, marks in order."""
        until_s, echoed = 0.0, getattr(self, "_echoed", 0)
        due: list[str] = []
        for index, (at_s, message) in enumerate(self.caller.received):
            if message["event"] == "media":
                size = len(base64.b64decode(message["media"]["payload"]))
                until_s = max(until_s, at_s) + size / 8000
            elif message["event"] == "clear":
                until_s = at_s
            elif message["event"] == "mark" and index >= echoed:
                if until_s > self.now_s + 1e-9:
                    break
                due.append(message["mark"]["name"])
                self._echoed = index + 1
        for name in due:
            self.echo(name)

    # ---- the agent

    def connect_agent(self, *, listens: str = "ulaw_8000", speaks: str = "ulaw_8000") -> None:
        self.bridge.agent_opened(self.now_s)
        self.settle()
        self.tell(
            "conversation_initiation_metadata",
            "conversation_initiation_metadata_event",
            conversation_id="conv_1",
            agent_output_audio_format=speaks,
            user_input_audio_format=listens,
        )

    def lose_agent(self, reason: str = "connection reset") -> None:
        """The agent leg's socket breaks. Another `connect_agent` is another leg."""
        self.bridge.agent_closed(self.now_s, reason)
        self.settle()
        self.agent = Peer(is_client=False)

    def tell(self, kind: str, envelope: str, **body: object) -> None:
        self.from_agent(self.agent.json(**{"type": kind, envelope: body}))

    def speak(self, audio: bytes, event_id: int = 1, **extra: object) -> None:
        self.tell("audio", "audio_event", audio_base_64=b64(audio), event_id=event_id, **extra)

    def interrupt(self, event_id: int = 1) -> None:
        self.tell("interruption", "interruption_event", event_id=event_id)

    # ---- what came of it

    def to_agent(self, key: str) -> list:
        return [message[key] for _, message in self.agent.received if key in message]

    def caller_audio(self) -> bytes:
        """All that the agent was sent as caller audio."""
        return b"".join(base64.b64decode(chunk) for chunk in self.to_agent("user_audio_chunk"))

    def messages(self, event: str) -> list[dict]:
        return [message for _, message in self.caller.received if message["event"] == event]

    def agent_audio(self) -> bytes:
        """All that Twilio was sent as agent audio."""
        return b"".join(
            base64.b64decode(message["media"]["payload"]) for message in self.messages("media")
        )

    def names(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, Note)]

    def note(self, name: str) -> Note:
        return next(e for e in self.events if isinstance(e, Note) and e.name == name)

    def turns(self) -> dict[int, Turn]:
        """The last word on each turn."""
        return {event.number: event for event in self.events if isinstance(event, Turn)}

    @property
    def end(self):
        return next((e.termination for e in self.events if isinstance(e, Finished)), None)
