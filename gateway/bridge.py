"""One call: two legs joined. Bytes and time go in, bytes for each leg and events come out.

The bridge owns everything that has to happen in the same instant: framing, formats, playout, barge-in, marks,
the end. It has no socket, clock, task or log. The media plane drives it in production, a test by hand:

    bridge.agent_opened(now)        the agent leg's WebSocket is up      → the initiation message
    bridge.caller_opened(now)       Twilio's WebSocket is up
    bridge.caller_bytes(data, now)  bridge.agent_bytes(data, now)
    bridge.tick(now)                whenever now >= bridge.due_s
    bridge.take_caller()            bridge.take_agent()                  bytes to send, in order
    bridge.events                   what the surroundings have to know; emptied by the reader

Once `ended` is set nothing more is said to either side but the closing handshakes.
"""

from __future__ import annotations

from gateway import convai, twilio_media
from gateway.bridge_agent import AgentSide
from gateway.bridge_core import (
    CALLER_IDLE_TIMEOUT_S,
    END_CALL_GRACE_S,
    MALFORMED_MAX,
    REASON_MAX_CHARS,
    Tap,
)
from gateway.events import StreamStarted, Termination
from gateway.twilio_media import MediaStreamError
from gateway.websocket import BINARY, CLOSE, PING, TEXT

__all__ = [
    "CALLER_IDLE_TIMEOUT_S",
    "END_CALL_GRACE_S",
    "MALFORMED_MAX",
    "REASON_MAX_CHARS",
    "Bridge",
    "Tap",
]


class Bridge(AgentSide):
    """The state of one call. See the module's docstring for the way to drive it.

    Here is the caller's side; the agent's is `gateway.bridge_agent`, what belongs to neither `gateway.bridge_core`.
    """

    def caller_opened(self, now_s: float) -> None:
        """Twilio's WebSocket is up; `start` will follow."""
        self._caller_is_open = True
        self._flow.heard_s = now_s
        self._note("stream_attached", now_s)

    def caller_bytes(self, data: bytes, now_s: float) -> None:
        """Bytes from the caller leg's socket."""
        self._flow.heard_s = now_s
        sole = self._caller.sole_text(data)
        if sole is not None:
            media = twilio_media.split_media(sole)  # which matches ASCII only
            if media is not None:
                self._caller_audio(media[0], media[1], media[2], now_s)
                return
        for opcode, payload in self._caller.receive(data):
            if opcode == TEXT:
                media = twilio_media.split_media(payload)
                if media is not None:
                    self._caller_audio(media[0], media[1], media[2], now_s)
                else:
                    self._caller_message(payload, now_s)
            elif opcode == PING:
                self.to_caller.append(self._caller.encode_pong(payload))
            elif opcode == CLOSE:
                self._caller_said_close(now_s)
            elif opcode == BINARY:
                self._problem("caller", "binary_message", now_s)
        failure = self._caller.failure
        if failure is not None and self._caller_is_open and not self._caller.close_sent:
            self.to_caller.append(self._caller.encode_close(failure.close_code))
            self._caller_failed(f"broke the WebSocket protocol: {failure.reason}", now_s)

    def caller_closed(self, now_s: float, reason: str = "connection lost") -> None:
        """The caller leg's socket is gone."""
        if not self._caller_is_open:
            return
        self._caller_is_open = False
        if self._caller.close_received is None:
            self._note("caller_closed", now_s, code=1006, reason=reason[:120])
        if self.ended is None:
            self._finish(
                Termination(
                    "carrier_fault", "twilio", f"caller leg lost without `stop`: {reason}", False
                ),
                now_s,
            )
        self._rearm()

    def caller_failed(self, reason: str, now_s: float) -> None:
        """The caller leg did not do what it had to (no `start` in time, stalled)."""
        self._caller_failed(reason, now_s)
        self._rearm()

    def _caller_audio(
        self, stream_sid: bytes, timestamp_ms: int, payload: bytes, now_s: float
    ) -> None:
        self._flow.frames += 1
        if stream_sid != self._stream_sid:
            self.uplink.rejected_frames += 1
            kind = "wrong_stream_sid" if self._stream_sid else "media_before_start"
            self._problem("caller", kind, now_s)
        elif not self.uplink.frame(timestamp_ms, payload, now_s):
            self._problem("caller", "bad_base64", now_s)

    def _caller_message(self, payload: bytes, now_s: float) -> None:
        try:
            event = twilio_media.decode(payload)
        except MediaStreamError as error:
            self._problem("caller", "malformed_message", now_s, str(error))
            return
        match event:
            case twilio_media.CallerMedia():
                if event.track == "inbound":
                    self._caller_audio(
                        event.stream_sid.encode(), event.timestamp_ms, event.payload, now_s
                    )
                else:
                    self._count("caller_other_track")
            case twilio_media.MarkEcho():
                self._mark_echo(event.name, now_s)
            case twilio_media.Dtmf():
                self._dtmf(event.digit, now_s)
            case twilio_media.Started():
                self._stream_started(event, now_s)
            case twilio_media.Stopped():
                self._note("caller_stopped", now_s)
                self._finish(Termination("completed", None, "caller hung up", False), now_s)
            case twilio_media.Connected():
                pass
            case None:
                self._count("caller_unknown_event")

    def _stream_started(self, event: twilio_media.Started, now_s: float) -> None:
        if self._started_s is not None:
            self._problem("caller", "second_start", now_s)
            return
        if self.call_sid is not None and event.call_sid != self.call_sid:
            self._caller_failed("`start` names another call than the ticket", now_s)
            return
        if (event.encoding, event.rate_hz, event.channels) != ("audio/x-mulaw", 8000, 1):
            self._caller_failed(f"audio format not supported: {event.encoding[:40]}", now_s)
            return
        self._started_s = now_s
        self.outlet.plays = self.ended is None
        self.call_sid = event.call_sid
        self.stream_sid = event.stream_sid
        self._stream_sid = event.stream_sid.encode()
        self.downlink.open_caller(self._stream_sid)
        if self._tap is not None:
            self._tap.start(now_s)
        self._note("stream_started", now_s, stream_sid=event.stream_sid)
        self.events.append(StreamStarted(event.stream_sid, event.call_sid))
        self._play(now_s)  # the first words are here already when the agent leg was warmed
        self._rearm()

    def _dtmf(self, digit: str, now_s: float) -> None:
        self.dtmf_digits += 1
        self._note("dtmf", now_s)  # the digit itself may be part of a card number or a PIN
        if digit == self._opt_out_digit:
            self._note("opt_out_key", now_s)
        self._tell_agent(
            convai.encode_contextual_update(f"The caller pressed {digit} on the keypad.")
        )

    def _mark_echo(self, name: str, now_s: float) -> None:
        is_end, done = self.downlink.mark_echo(name, now_s)
        self._note_first_word()
        for turn in done:
            self._tell_turn(turn, turn.heard_text(turn.end_byte))
        if is_end and self._draining is not None and self._end_mark_sent:
            self._note("drained", now_s)
            self._finish(self._draining, now_s)

    def _caller_said_close(self, now_s: float) -> None:
        code, reason = self._caller.close_received or (1005, "")
        self._note("caller_closed", now_s, code=code, reason=reason[:120])
        reply = self._caller.encode_close(1000 if code == 1005 else code)
        if reply:
            self.to_caller.append(reply)
        if self.ended is None:
            self._finish(
                Termination(
                    "carrier_fault",
                    "twilio",
                    f"caller leg closed with {code} without `stop`",
                    False,
                ),
                now_s,
            )
