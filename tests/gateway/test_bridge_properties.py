"""Whole bridges under any order of events: what must always hold."""

import base64

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.comfort import NOISE
from gateway.settings import MediaSettings
from tests.peers import FRAME, Table

SETTINGS = MediaSettings()
LEAD_MAX_S = SETTINGS.lead_max_ms / 1000 + 0.02 + 1e-6
DEAD = b"\x63"
"""What a dead leg says; no event id, and not in the noise."""
NOISE_MIN = min(NOISE)


class BridgeMachine(RuleBasedStateMachine):
    """Each byte of agent audio carries its event id, so that stale audio can be told from fresh."""

    def __init__(self):
        super().__init__()
        self.table = Table(settings=SETTINGS)
        self.connected = False
        self.gone = False
        self.started = False
        self.frames = 0
        self.watermark = -1
        self.seen = 0
        self.twilio_until_s = 0.0
        self.heard_late = []

    # ---- what may happen

    @precondition(lambda self: not self.connected and not self.gone)
    @rule()
    def agent_connects(self):
        self.connected = True
        was_without = self.table.bridge.is_without_agent
        self.table.connect_agent()
        if was_without:
            self.watermark = -1  # another conversation counts from the beginning
        assert not self.table.bridge.is_without_agent

    @precondition(lambda self: not self.started)
    @rule()
    def caller_starts(self):
        self.started = True
        self.table.start()

    @precondition(lambda self: self.started)
    @rule(count=st.integers(1, 20), skipped_ms=st.sampled_from([0, 0, 0, 20, 500]))
    def caller_speaks(self, count, skipped_ms):
        self.table.timestamp_ms += skipped_ms
        for _ in range(count):
            self.table.now_s += 0.02
            self.table.say(FRAME)
            self.frames += 1
        self.table.now_s += skipped_ms / 1000

    @precondition(lambda self: self.started)
    @rule()
    def caller_sends_nonsense(self):
        self.table.from_caller(self.table.caller.text('{"event":"media"}'))

    @precondition(lambda self: self.started)
    @rule(digit=st.sampled_from("0123456789*#"))
    def caller_presses(self, digit):
        self.table.press(digit)

    @precondition(lambda self: self.connected)
    @rule(event_id=st.integers(1, 9), size=st.integers(1, 6_000))
    def agent_speaks(self, event_id, size):
        self.table.speak(bytes([event_id]) * size, event_id=event_id)

    @precondition(lambda self: self.connected)
    @rule(event_id=st.integers(1, 9))
    def agent_is_interrupted(self, event_id):
        self.watermark = max(self.watermark, event_id)
        before = len(self.table.caller.received)
        self.table.interrupt(event_id)
        if self.started and self.table.end is None:
            kinds = [m["event"] for _, m in self.table.caller.received[before:]]
            assert kinds == ["clear"]

    @precondition(lambda self: self.connected)
    @rule(text=st.text(max_size=20), event_id=st.integers(1, 9))
    def agent_says_text(self, text, event_id):
        self.table.tell(
            "agent_response", "agent_response_event", agent_response=text, event_id=event_id
        )

    @rule(ms=st.integers(1, 900), echo=st.booleans())
    def time_passes(self, ms, echo):
        if ms % 3 == 0:  # sometimes the grid itself is late
            self.table.now_s += ms / 1000
        self.table.run(ms / 1000, echo_marks=echo)

    @precondition(lambda self: self.connected)
    @rule()
    def agent_closes(self):
        self.connected, self.gone = False, True
        self.table.from_agent(self.table.agent.close(1000))
        self.table.bridge.agent_closed(self.table.now_s)

    @precondition(lambda self: self.connected and self.table.end is None)
    @rule(code=st.sampled_from([1006, 1001, 1011, 4300]))
    def agent_is_lost(self, code):
        if code == 1006:
            self.table.lose_agent()
        else:
            self.table.from_agent(self.table.agent.close(code))
            self.table.lose_agent()
        self.connected = False
        self.gone = self.table.end is not None  # draining, or the caller was not there yet
        assert self.gone or self.table.bridge.is_without_agent

    @precondition(lambda self: self.connected and self.table.end is None)
    @rule()
    def dead_leg_talks_on(self):
        """What still comes of a leg that was lost is heard by nobody."""
        late = self.table.agent.json(
            type="audio",
            audio_event={"audio_base_64": base64.b64encode(DEAD * 800).decode(), "event_id": 99},
        )
        self.table.lose_agent()
        self.connected = False
        self.gone = self.table.end is not None
        before = self.table.bridge.downlink.chunks
        self.table.bridge.agent_bytes(late, self.table.now_s)
        self.table.settle()
        assert self.table.bridge.downlink.chunks == before

    @precondition(lambda self: self.table.bridge.is_without_agent)
    @rule()
    def redials_fail(self):
        self.gone = True
        self.table.bridge.agent_given_up("connection lost", 1006, self.table.now_s)
        self.table.settle()
        assert self.table.end.result == "agent_fault"

    @precondition(lambda self: self.started)
    @rule()
    def caller_stops(self):
        self.table.stop()

    # ---- what must hold

    @invariant()
    def no_audio_from_before_an_interruption_after_it(self):
        received = self.table.caller.received
        for at_s, message in received[self.seen :]:
            if message["event"] == "media":
                audio = base64.b64decode(message["media"]["payload"])
                assert DEAD not in audio
                assert all(byte > self.watermark for byte in audio if byte < NOISE_MIN)
                self.twilio_until_s = max(self.twilio_until_s, at_s) + len(audio) / 8000
                assert self.twilio_until_s - at_s <= LEAD_MAX_S
            elif message["event"] == "clear":
                self.twilio_until_s = min(self.twilio_until_s, at_s)
        self.seen = len(received)

    @invariant()
    def every_caller_frame_is_counted_once(self):
        if self.table.end is not None:
            return
        bridge = self.table.bridge
        report = bridge.uplink.report()
        assert bridge.caller_frames == self.frames
        assert self.frames == sum(
            report[key]
            for key in (
                "sent_frames",
                "late_frames",
                "aged_frames",
                "early_dropped_frames",
                "rejected_frames",
                "held_frames",
                "unheard_frames",
            )
        )

    @invariant()
    def every_byte_of_agent_audio_is_counted_once(self):
        downlink = self.table.bridge.downlink
        playout = downlink.playout
        assert downlink.received_bytes + downlink.comfort.bytes == (
            downlink.stale_bytes
            + playout.overrun_bytes
            + playout.sent_bytes
            + playout.queued_bytes
            + playout.flushed_bytes
        )

    @invariant()
    def heard_never_runs_ahead_of_sent(self):
        downlink = self.table.bridge.downlink
        assert downlink.heard.heard_bytes <= downlink.playout.sent_bytes

    @invariant()
    def caller_audio_reaches_the_agent_unchanged(self):
        if self.table.bridge.uplink.timeline.gap_count:
            return
        audio = self.table.caller_audio()
        assert audio == FRAME * (len(audio) // 160)

    @invariant()
    def an_ended_bridge_has_nothing_due(self):
        if self.table.bridge.ended is not None:
            assert self.table.bridge.due_s == float("inf")


TestBridgeMachine = BridgeMachine.TestCase
TestBridgeMachine.settings = settings(deadline=None, max_examples=80, stateful_step_count=30)
