"""<Dial> and <Record>: legs to numbers, clients and SIP addresses with their callbacks, and conferences.

No audio is joined: what is simulated is who is rung, for how long, how it goes, and what Twilio tells about it.
Source: Twilio, "TwiML Voice: <Dial>" and its nouns, "<Record>".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from bench.sim_twilio.account import API_VERSION, new_sid, rfc2822
from bench.sim_twilio.call import SimCall
from bench.sim_twilio.callee import Caller
from bench.sim_twilio.child import ChildCall
from bench.sim_twilio.twiml import Document, Element

if TYPE_CHECKING:
    from bench.sim_twilio.verbs import Carrier

TIMEOUT_S = 30.0
TALK_S = 1.0
LEG_EVENTS = {"initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}
DEFAULT_RECORDING_S = 1.0

Pairs = list[tuple[str, str]]


@dataclass
class Room:
    """A conference: who is in it, and whether it has ended."""

    sid: str = field(default_factory=lambda: new_sid("CF"))
    members: list[str] = field(default_factory=list)
    joined: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)


async def dial(carrier: Carrier, call: SimCall, document: Document, verb: Element) -> Pairs:
    """Carry out <Dial>; the parameters of its `action`."""
    conference = verb.child("Conference")
    if conference is not None:
        return await _confer(carrier, call, conference)
    nouns = list(verb.children) or [Element("Number", {}, verb.text, ())]
    targets = [_address(noun) for noun in nouns]
    call.dialled.extend(targets)
    timeout_s = _whole(verb.attributes.get("timeout"), TIMEOUT_S)
    found = next(
        (
            (n, carrier.destinations[t])
            for n, t in zip(nouns, targets, strict=True)
            if t in carrier.destinations
        ),
        None,
    )
    leg = _Leg(carrier, call, document, found[0] if found else nouns[0])
    status, talked_s = "failed", 0.0
    with call.interruptible():
        if found is not None:
            status, talked_s = await _ring(leg, found[1], timeout_s)
    if call.is_disturbed and status in ("failed", "in-progress"):
        status = "canceled"
    leg.tell("completed" if status == "completed" else status, talked_s)
    call.note("dialled", targets=targets, status=status)
    return [
        ("DialCallStatus", status),
        ("DialCallSid", leg.sid),
        ("DialCallDuration", str(round(talked_s))),
        ("DialBridged", "true" if status == "completed" else "false"),
    ]


async def _ring(leg: _Leg, person: Caller, timeout_s: float) -> tuple[str, float]:
    leg.tell("ringing")
    await trio.sleep(min(person.answer_after_s, timeout_s))
    if person.answer_after_s > timeout_s:
        return "no-answer", 0.0
    if person.result != "answer":
        return person.result, 0.0
    leg.tell("in-progress")
    talk_s = person.hangs_up_after_answer_s or TALK_S
    await trio.sleep(talk_s)
    return "completed", talk_s


class _Leg:
    """The child call: what is told of it, and its resource."""

    def __init__(self, carrier: Carrier, call: SimCall, document: Document, noun: Element) -> None:
        self._resource = ChildCall(call, _address(noun), carrier.now())
        call.children.append(self._resource)
        self.sid = self._resource.sid
        self._carrier = carrier
        self._call = call
        given = noun.attributes
        self._url = document.resolve(given["statusCallback"]) if "statusCallback" in given else ""
        self._method = given.get("statusCallbackMethod", "POST").upper()
        self._events = set(given.get("statusCallbackEvent", "completed").split())
        self._sequence = 0

    def tell(self, status: str, duration_s: float | None = None) -> None:
        """The leg is `status` now; queue the callback for that, if it was asked for."""
        self._resource.becomes(status, self._carrier.now())
        if LEG_EVENTS.get(status, "completed") not in self._events:
            return
        call = self._call
        params = [
            ("AccountSid", call.account_sid),
            ("ApiVersion", API_VERSION),
            ("CallSid", self.sid),
            ("ParentCallSid", call.sid),
            ("CallStatus", status),
            ("From", call.from_number),
            ("To", self._resource.to_number),
            ("Direction", "outbound-dial"),
            ("CallbackSource", "call-progress-events"),
            ("SequenceNumber", str(self._sequence)),
            ("Timestamp", rfc2822(self._carrier.now()) or ""),
        ]
        if duration_s is not None:
            params.append(("CallDuration", str(round(duration_s))))
        self._sequence += 1
        call.callbacks.put(self._url, self._method, params)


async def _confer(carrier: Carrier, call: SimCall, noun: Element) -> Pairs:
    """Stay in the room until it ends, or until this call leaves it."""
    call.dialled.append(f"conference:{noun.text}")
    room = carrier.rooms.get(noun.text)
    if room is None or room.ended.is_set():
        room = carrier.rooms[noun.text] = Room()
    room.members.append(call.sid)
    call.note("conference-join", room=noun.text, members=len(room.members))
    if len(room.members) > 1:
        room.joined.set()
    with call.interruptible():
        await room.ended.wait()
    room.members.remove(call.sid)
    call.note("conference-leave", room=noun.text)
    if noun.attributes.get("endConferenceOnExit") == "true" or not room.members:
        room.ended.set()
    return [("DialCallStatus", "answered")]


async def record(carrier: Carrier, call: SimCall, document: Document, verb: Element) -> Pairs:
    """Carry out <Record>; the parameters of its `action`. The callback comes beside it."""
    longest_s = _whole(verb.attributes.get("maxLength"), 3600.0)
    speaks_s = call.caller.leaves_message_s
    length_s = min(DEFAULT_RECORDING_S if speaks_s is None else speaks_s, longest_s)
    began_s = trio.current_time()
    with call.interruptible():
        await trio.sleep(length_s)
    length_s = trio.current_time() - began_s
    sid = new_sid("RE")
    url = f"https://api.twilio.com/{API_VERSION}/Accounts/{call.account_sid}/Recordings/{sid}"
    params: Pairs = [
        ("RecordingSid", sid),
        ("RecordingUrl", url),
        ("RecordingDuration", str(round(length_s))),
    ]
    target = verb.attributes.get("recordingStatusCallback")
    if target:
        about: Pairs = [
            ("AccountSid", call.account_sid),
            ("CallSid", call.sid),
            ("RecordingStatus", "completed"),
            ("RecordingChannels", "1"),
            ("RecordingSource", "RecordVerb"),
        ]
        call.callbacks.put(document.resolve(target), "POST", [*about, *params])
    call.note("recorded", sid=sid)
    return params


def _address(noun: Element) -> str:
    """What is dialled: a number, `client:name`, or a SIP address."""
    if noun.name == "Client":
        identity = noun.child("Identity")
        return f"client:{identity.text if identity is not None else noun.text}"
    return noun.text


def _whole(text: str | None, default: float) -> float:
    return float(text) if text and text.isdecimal() else default
