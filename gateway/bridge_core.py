"""What both legs of a bridge share: its state, playout in time, draining, the end, the account. Pure.

`gateway.bridge` is the whole; this is the part that belongs to neither leg.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from gateway import convai
from gateway.audio import FRAME_MS, ULAW_8000
from gateway.downlink import AgentTap, Downlink
from gateway.events import AgentLost, BridgeEvent, Finished, Note, Termination, Turn
from gateway.flow import PlainCallerFlow
from gateway.heard import AgentTurn
from gateway.link import CallPlan
from gateway.playout import Pace
from gateway.settings import MediaSettings
from gateway.spoken import Spoken
from gateway.uplink import CallerTap, Uplink
from gateway.websocket import WebSocket

MALFORMED_MAX = 50
"""Malformed messages of one leg that are counted and skipped; one more ends the leg."""
END_CALL_GRACE_S = 2.0
"""After the agent's `end_call`: how long its closing handshake may take before we end without it."""
FRAME_S = FRAME_MS / 1000
CALLER_IDLE_TIMEOUT_S = 60.0
"""Twilio sends audio all the time, speech or silence: a stream that says nothing for so long is dead."""
FINAL_CODES = frozenset({400, 401, 402, 403, 404, 410, 422, 1000, 1008, 3000})
"""HTTP statuses and close codes after which another agent leg would fare no better: it wants to end, wrong key, no such
agent, no money."""
MISSED_MAX = 32
"""Keys and messages for an agent that is away; what comes when there are so many is counted and dropped."""
REASON_MAX_CHARS = 300
"""Of what a peer says about its own end; the reason travels in every record of the call."""


def _take(frames: list[bytes]) -> bytes:
    if not frames:
        return b""
    data = frames[0] if len(frames) == 1 else b"".join(frames)
    frames.clear()
    return data


class Tap(CallerTap, AgentTap, Protocol):
    """The recorder's ear."""

    def start(self, now_s: float) -> None: ...


class BridgeCore:
    """The state of one call, and what ends it."""

    def __init__(
        self,
        plan: CallPlan,
        settings: MediaSettings,
        tap: Tap | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._tap = tap
        self._caller = WebSocket(client=False, max_message_bytes=settings.caller_message_max_bytes)
        self._agent = WebSocket(client=True, max_message_bytes=settings.agent_message_max_bytes)
        self.to_caller: list[bytes] = []
        self.to_agent: list[bytes] = []
        """WebSocket frames that wait to be sent, in order."""
        self.uplink = Uplink(settings, tap, self.to_agent, self._agent.encode_text)
        self._flow = self.uplink.timeline
        self.downlink = Downlink(settings, tap, self.to_caller, self._caller.encode_text, pace)
        self.events: list[BridgeEvent] = []
        self.ended: Termination | None = None
        self.outlet = self.downlink.outlet
        self.conversation_id: str | None = None
        self.stream_sid: str | None = None
        self.call_sid: str | None = plan.twilio_call_sid
        self._stream_sid = b""
        self._agent_is_open = False
        self._caller_is_open = False
        self._agent_ready = False
        self._said_first_audio = False
        self._sent_first_audio = False
        self._told_first_word = False
        self._draining: Termination | None = None
        self._end_mark_sent = False
        self._ends_at_s = math.inf
        self._agent_last_s = 0.0
        self._started_s: float | None = None
        self._turns = 0
        self._problems: dict[str, int] = {}
        self._malformed = {"caller": 0, "agent": 0}
        self._agent_error = ""
        self.barge_ins = 0
        self.dtmf_digits = 0
        self._opt_out_digit = plan.opt_out_digit
        self._lost: AgentLost | None = None
        self._missed: list[bytes] = []
        self.spoken = Spoken()
        self.agent_gaps_ms: list[float] = []
        self.earlier_conversations: list[str] = []
        self.first_audio_ms: float | None = None
        self.formats: dict[str, str] = {}

    @property
    def due_s(self) -> float:
        """When `tick` is next needed."""
        return self.outlet.next_s

    @property
    def caller_frames(self) -> int:
        return self._flow.frames

    @property
    def flow(self) -> PlainCallerFlow:
        """What the express lane keeps up to date."""
        return self._flow

    @property
    def express_sid(self) -> bytes | None:
        """The stream whose usual frames may go to the agent past this bridge; None: not at the moment."""
        usual = (
            self.ended is None
            and self.uplink.is_usual
            and self._agent_ready
            and self._caller.is_between_frames
            and not self._agent.close_sent
        )
        return self._stream_sid if usual and self._stream_sid else None

    @property
    def agent_hears_pcm(self) -> bool:
        return self.formats["caller_audio"] != ULAW_8000.name

    # ---- what goes out -------------------------------------------------------------------------

    def take_caller(self) -> bytes:
        """Bytes for the caller leg since the last call; empty when there are none."""
        return _take(self.to_caller)

    def take_agent(self) -> bytes:
        """Bytes for the agent leg since the last call; empty when there are none."""
        return _take(self.to_agent)

    def _tell_agent(self, message: bytes) -> None:
        """Like `_say_agent`, of something that the agent should know also if it is away at the moment."""
        if self._lost is None:
            self._say_agent(message)
        elif len(self._missed) < MISSED_MAX:
            self._missed.append(message)
        else:
            self._count("agent_missed")

    def _say_agent(self, message: bytes) -> None:
        """A control message to the agent, behind the audio that was due before it."""
        if self._agent_is_open and self.ended is None:
            self.to_agent.append(self._agent.encode_text(message))

    # ---- a leg that fails ----------------------------------------------------------------------

    @property
    def is_without_agent(self) -> bool:
        """Whether the agent leg was lost and another one is wanted."""
        return self._lost is not None

    def _agent_failed(
        self, reason: str, now_s: float, code: int | None = None, *, is_final: bool = False
    ) -> None:
        self._note("error", now_s, leg="agent", reason=reason[:200])
        if not is_final and self._may_mend(code):
            self._lose_agent(reason, code, now_s)
            return
        said = f"agent leg {reason}"[:REASON_MAX_CHARS]
        self._finish(Termination("agent_fault", "agent", said, False), now_s)

    def _may_mend(self, code: int | None) -> bool:
        """Only in the midst of a talk: what fails before it is told to control, which may know better."""
        return (
            self._settings.agent_redials > 0
            and self.ended is None
            and self._started_s is not None
            and self._draining is None
            and (self._agent_ready or self._lost is not None)
            and code not in FINAL_CODES
        )

    def _lose_agent(self, reason: str, code: int | None, now_s: float) -> None:
        """The caller hears what was queued and then noise; what the caller says is held."""
        lost = AgentLost(reason, code, now_s)
        self.events.append(lost)
        if self._agent_is_open and not self._agent.close_sent:
            self.to_agent.append(self._agent.encode_close(1001, "lost"))
        self._agent_is_open = self._agent_ready = False
        self.uplink.pause()
        if self._lost is None:
            self._lost = lost
            self._note("agent_lost", now_s, reason=reason[:200], code=code)
            if (cut := self.downlink.abandon()) is not None:
                self._tell_turn(cut, cut.heard_text(cut.end_byte))
        self.downlink.fill(now_s)

    def _leave_gap(self) -> None:
        """No other agent leg is wanted any more."""
        if self._lost is not None:
            self._lost = None
            self.uplink.close()

    def _caller_failed(self, reason: str, now_s: float) -> None:
        self._note("error", now_s, leg="caller", reason=reason[:200])
        self._finish(Termination("carrier_fault", "twilio", f"caller leg {reason}", False), now_s)

    # ---- time ----------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Do what is due: playout, the end of draining, the watch over a silent agent."""
        if self.ended is not None:
            self.outlet.due_s = math.inf
            return
        if self._started_s is not None:
            self._play(now_s)
            if self._lost is not None:
                self.downlink.fill(now_s)
            if now_s - self._flow.heard_s >= CALLER_IDLE_TIMEOUT_S:
                self._caller_failed(f"silent for {CALLER_IDLE_TIMEOUT_S:g} s", now_s)
        if self._draining is not None:
            self._drain_step(now_s)
        elif (
            self._agent_is_open
            and now_s - self._agent_last_s >= self._settings.agent_idle_timeout_s
        ):
            self._agent_failed(f"silent for {self._settings.agent_idle_timeout_s:g} s", now_s)
        self._rearm()

    def _play(self, now_s: float) -> None:
        if self.ended is not None:
            return
        if self.downlink.play(now_s) and not self._sent_first_audio:
            self._sent_first_audio = True
            self.first_audio_ms = (now_s - (self._started_s or now_s)) * 1000.0
            self._note("first_audio_sent", now_s, since_start_ms=round(self.first_audio_ms, 2))
            self.outlet.is_usual = self._tap is None and self._draining is None

    def _rearm(self) -> None:
        """Work out when `tick` is next needed, playout aside."""
        if self.ended is not None:
            self.outlet.due_s = math.inf
            return
        due_s = self._ends_at_s
        if self._started_s is not None:
            due_s = min(due_s, self._flow.heard_s + CALLER_IDLE_TIMEOUT_S)
        if self._lost is not None and not self.downlink.playout.queued_bytes:
            due_s = min(due_s, self.downlink.fill_due_s)
        if self._agent_is_open:
            due_s = min(due_s, self._agent_last_s + self._settings.agent_idle_timeout_s)
        self.outlet.due_s = due_s

    # ---- the end -------------------------------------------------------------------------------

    def hang_up(self, termination: Termination, now_s: float) -> None:
        """End now, whatever is still to be said."""
        self._finish(termination, now_s)
        self._rearm()

    def drain(self, termination: Termination, now_s: float) -> None:
        """End when the caller has heard what was said so far."""
        self._drain(termination, now_s)
        self._rearm()

    def close(self, now_s: float) -> None:
        """Say goodbye on whatever is still open (after `ended`)."""
        fault = self.ended is not None and self.ended.blame is not None
        if self._caller_is_open and not self._caller.close_sent:
            self.to_caller.append(self._caller.encode_close(1011 if fault else 1000, "call ended"))
        self._close_agent()

    @property
    def caller_is_done(self) -> bool:
        """Both sides said goodbye; as the server it is for us to close the connection (RFC 6455, 7.1.1)."""
        return self._caller.close_sent and self._caller.close_received is not None

    def _close_agent(self) -> None:
        if self._agent_is_open and not self._agent.close_sent:
            self.to_agent.append(self._agent.encode_close(1000, "call ended"))

    def _drain(self, termination: Termination, now_s: float) -> None:
        if self.ended is not None or self._draining is not None:
            return
        if self._started_s is None:
            self._finish(termination, now_s)  # nobody is there to hear the rest
            return
        self._leave_gap()
        self._note("draining", now_s, remaining_ms=self._remaining_ms(now_s))
        self._draining = termination
        self.outlet.is_usual = False
        self._ends_at_s = now_s + END_CALL_GRACE_S
        self._drain_step(now_s)

    def _drain_step(self, now_s: float) -> None:
        """Behind the last audio goes a mark; its echo, or a deadline, is the end."""
        if self.downlink.playout.queued_bytes:
            self._ends_at_s = self._drain_deadline_s(now_s)
            self._end_mark_sent = False
            return
        # Audio may still be on its way while the agent leg is open; give its goodbye a moment.
        if not self._end_mark_sent and (not self._agent_ready or now_s >= self._ends_at_s):
            self._end_mark_sent = True
            self.downlink.mark_end()
            self._ends_at_s = self._drain_deadline_s(now_s)
        elif self._end_mark_sent and now_s >= self._ends_at_s and self._draining is not None:
            self._note("drain_timeout", now_s)
            self._finish(self._draining, now_s)

    def _drain_deadline_s(self, now_s: float) -> float:
        return now_s + self.downlink.playout.remaining_s(now_s) + self._settings.drain_margin_s

    def _remaining_ms(self, now_s: float) -> int:
        return round(self.downlink.playout.remaining_s(now_s) * 1000)

    def _finish(self, termination: Termination, now_s: float) -> None:
        if self.ended is not None:
            return
        playout = self.downlink.playout
        played = playout.sent_bytes - playout.unheard_bytes(now_s)
        for turn in self.downlink.heard.played(played):
            self._tell_turn(turn, turn.heard_text(turn.end_byte))
        for turn, heard in self.downlink.heard.rest():
            turn.interrupted = heard != (turn.text or "".join(turn.chars))
            self._tell_turn(turn, heard)
        self.ended = termination
        self._leave_gap()
        self.uplink.close()
        self._close_agent()
        self.outlet.plays, self.outlet.due_s = False, math.inf
        self.events.append(Finished(termination, now_s))

    # ---- what the call's task asks for ---------------------------------------------------------

    def tool_result(self, tool_call_id: str, result: str, *, is_error: bool) -> None:
        self._say_agent(convai.encode_tool_result(tool_call_id, result, is_error))

    def say_to_agent(self, kind: str, text: str) -> None:
        """`contextual_update` (silent) or `user_message` (answered like speech)."""
        if kind == "user_message":
            self._tell_agent(convai.encode_user_message(text))
        else:
            self._tell_agent(convai.encode_contextual_update(text))

    # ---- bookkeeping ---------------------------------------------------------------------------

    def _note(self, name: str, now_s: float, **data: Any) -> None:
        self.events.append(Note(name, now_s, data))

    def _note_first_word(self) -> None:
        """Once: when the caller began to hear the agent, by Twilio's word."""
        heard_from_s = self.downlink.heard.first_heard_s
        if heard_from_s is not None and not self._told_first_word:
            self._told_first_word = True
            self._note("first_word_heard", heard_from_s)

    def _tell_turn(self, turn: AgentTurn, heard: str | None = None) -> None:
        text = turn.text or "".join(turn.chars)
        words_ms = turn.word_ms() if heard else ()
        self._tell(
            Turn(
                turn.number,
                "agent",
                text,
                turn.at_s,
                heard,
                turn.interrupted,
                turn.heard_from_s,
                words_ms,
            )
        )

    def _tell(self, turn: Turn) -> None:
        self.spoken.tell(turn)
        self.events.append(turn)

    def _count(self, kind: str) -> int:
        count = self._problems.get(kind, 0) + 1
        self._problems[kind] = count
        return count

    def _problem(self, leg: str, kind: str, now_s: float, detail: str = "") -> None:
        """Something malformed: counted, told once per kind, and too much of it ends the leg."""
        if self._count(f"{leg}_{kind}") == 1:
            self._note("error", now_s, leg=leg, kind=kind, detail=detail[:200])
        self._malformed[leg] += 1
        if self._malformed[leg] <= MALFORMED_MAX or self.ended is not None:
            return
        reason = f"sent more than {MALFORMED_MAX} malformed messages, last: {kind}"
        if leg == "agent":
            self._agent_failed(reason, now_s)
        else:
            self._caller_failed(reason, now_s)

    def report(self) -> dict[str, Any]:
        """The media part of the call's record."""
        return {
            "caller_audio": {"frames": self._flow.frames, **self.uplink.report()},
            "agent_audio": self.downlink.report(),
            "barge_ins": self.barge_ins,
            "agent_gaps_ms": [round(gap_ms) for gap_ms in self.agent_gaps_ms],
            "dtmf_digits": self.dtmf_digits,
            "first_audio_ms": self.first_audio_ms,
            "problems": dict(self._problems),
        }
