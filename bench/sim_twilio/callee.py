"""How the person on the telephone behaves: answers, speaks, presses keys, hangs up. Pure; time passed in.

A `Caller` is the script. A `Behaviour` follows it in 20 ms steps, hearing what the caller really hears.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from bench.sim_twilio.sound import FRAME_BYTES, SILENCE_FRAME, ULAW_SILENCE, Audio, level, load

SPEECH_LEVEL = 200.0
"""Root mean square (16-bit scale, about -44 dBFS) from which a frame counts as speech."""
UTTERANCE_GAP_S = 0.5
"""So much quiet ends an utterance of the agent."""
KEY_GAP_S = 0.25

RESULTS = ("answer", "busy", "no-answer", "failed")
ANSWERERS = (
    "human",
    "machine_start",
    "machine_end_beep",
    "machine_end_silence",
    "machine_end_other",
    "fax",
    "unknown",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """The moment for an act: exactly one of `at_s`, `after_agent_speaking_s`, `after_agent_silence_s`.

    Times count from the start of the call's first media stream.
    """

    at_s: float | None = None
    after_agent_speaking_s: float | None = None
    """The agent has been heard speaking for so long, in utterance number `utterance` if given."""
    utterance: int | None = None
    """Counted from 1 over the call; a `clear` ends an utterance. `None` = whichever is going on."""
    after_agent_silence_s: float | None = None
    """The agent spoke since the caller's previous speech ended, and has been quiet for so long."""
    latest_s: float | None = None
    """Act then at the latest, whatever the agent did."""

    def __post_init__(self) -> None:
        given = (self.at_s, self.after_agent_speaking_s, self.after_agent_silence_s)
        if sum(value is not None for value in given) != 1:
            raise ValueError(
                "give exactly one of at_s, after_agent_speaking_s, after_agent_silence_s"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Says(When):
    """Speech. Items are said in the order of the script; an item waits for the one before it."""

    audio: Audio
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presses(When):
    """Keys, one after another: `0-9 * #`, and `w` for half a second's pause."""

    digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HangsUp(When):
    """The caller hangs up. `after_agent_silence_s` waits until everything in `says` was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The script of one person. `result` and `answer_after_s` matter for calls that we place."""

    result: str = "answer"
    answer_after_s: float = 0.0
    says: Sequence[Says] = ()
    presses: Sequence[Presses] = ()
    hangs_up: HangsUp | None = None
    leaves_message_s: float | None = None
    """How long a message is that the caller leaves at a <Record>."""
    hangs_up_after_answer_s: float | None = None
    """Hang up so long after the call was answered, whether or not a stream ever began."""
    answered_by: str = "human"
    """What machine detection takes it for, where it is asked: one of ANSWERERS."""
    detected_after_s: float = 4.0
    """Twilio's usual time to tell."""
    sip_code: int | None = None
    """SIP response code of a call that is not answered; else the usual one of its result."""
    refused: int | None = None
    """Twilio's error code for a create request to this number: 21215, 21217, …"""

    def __post_init__(self) -> None:
        if self.result not in RESULTS:
            raise ValueError(f"result must be one of {', '.join(RESULTS)}, not {self.result!r}")
        if self.answered_by not in ANSWERERS:
            raise ValueError(f"answered_by must be one of {', '.join(ANSWERERS)}")


class Ear:
    """Finds the agent's utterances in what the caller hears."""

    def __init__(self) -> None:
        self.utterance = 0
        self.began_s: float | None = None
        self.last_speech_s: float | None = None
        self._cut = False

    def hear(self, frame: bytes, end_s: float) -> None:
        """One frame, which ended at `end_s`."""
        if level(frame) < SPEECH_LEVEL:
            return
        last = self.last_speech_s
        if last is None or self._cut or end_s - last >= UTTERANCE_GAP_S:
            self.utterance += 1
            self.began_s = end_s - len(frame) / 8000
        self._cut = False
        self.last_speech_s = end_s

    def cut(self) -> None:
        """The agent was interrupted: what follows is another utterance."""
        self._cut = True

    def speaking_for_s(self, now_s: float) -> float | None:
        """How long the current utterance has been heard; `None` when the agent is quiet."""
        if self.began_s is None or self.last_speech_s is None or self._cut:
            return None
        return now_s - self.began_s if now_s - self.last_speech_s < UTTERANCE_GAP_S else None

    def is_due(self, when: When, now_s: float, armed_s: float) -> bool:
        """Whether the moment `when` has come; silence counts from speech heard after `armed_s`."""
        if when.latest_s is not None and now_s >= when.latest_s:
            return True
        if when.at_s is not None:
            return now_s >= when.at_s
        if when.after_agent_speaking_s is not None:
            heard_s = self.speaking_for_s(now_s)
            wanted = when.utterance in (None, self.utterance)
            return wanted and heard_s is not None and heard_s >= when.after_agent_speaking_s
        assert when.after_agent_silence_s is not None
        last = self.last_speech_s
        return last is not None and last > armed_s and now_s - last >= when.after_agent_silence_s


class Behaviour:
    """A caller at work. Every 20 ms: `hear` what was heard, then `speak` the next frame."""

    def __init__(self, caller: Caller) -> None:
        self.ear = Ear()
        self.said: list[tuple[float, str]] = []
        """When each item of speech began (seconds), and its label."""
        self._says = deque((item, load(item.audio)) for item in caller.says)
        self._presses = list(caller.presses)
        self._hangs_up = caller.hangs_up
        self._speech = b""
        self._quiet_since_s = -1.0
        self._keys: deque[tuple[float, str]] = deque()

    def say(self, audio: Audio) -> None:
        """Speak now (after what is being said), besides the script."""
        self._says.appendleft((Says(audio=b"", at_s=0.0, label="unscripted"), load(audio)))

    def press(self, digits: str, now_s: float) -> None:
        """Press keys now, besides the script."""
        at_s = max(now_s, self._keys[-1][0] + KEY_GAP_S) if self._keys else now_s
        for digit in digits:
            if digit == "w":
                at_s += 0.5
                continue
            self._keys.append((at_s, digit))
            at_s += KEY_GAP_S

    def speak(self, now_s: float) -> bytes:
        """The 160 bytes of µ-law for the 20 ms that begin at `now_s`."""
        if not self._speech and self._says:
            item, speech = self._says[0]
            if self.ear.is_due(item, now_s, self._quiet_since_s):
                self._says.popleft()
                self.said.append((now_s, item.label))
                self._speech = speech
        if not self._speech:
            return SILENCE_FRAME
        frame, self._speech = self._speech[:FRAME_BYTES], self._speech[FRAME_BYTES:]
        if not self._speech:
            self._quiet_since_s = now_s + FRAME_BYTES / 8000
        return frame.ljust(FRAME_BYTES, bytes([ULAW_SILENCE]))

    def keys_due(self, now_s: float) -> str:
        """The keys to press at `now_s`."""
        for item in [item for item in self._presses if self.ear.is_due(item, now_s, -1.0)]:
            self._presses.remove(item)
            self.press(item.digits, now_s)
        due = ""
        while self._keys and self._keys[0][0] <= now_s:
            due += self._keys.popleft()[1]
        return due

    def hangs_up(self, now_s: float) -> bool:
        """Whether the caller hangs up at `now_s`."""
        when = self._hangs_up
        if when is None:
            return False
        busy = bool(self._speech or self._says)
        if when.after_agent_silence_s is not None and busy:
            return when.latest_s is not None and now_s >= when.latest_s
        return self.ear.is_due(when, now_s, self._quiet_since_s)
