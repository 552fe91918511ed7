"""What both legs of a bridge *send* in the cases of the conformance table, read by a second implementation.

The table's own test judges what comes out of `receive`; here a whole endpoint is judged, in a call in full swing: every ping is
answered by a pong of its payload, a close by a close of its code, a broken rule by the close that names it, and nothing
follows a close. The frames are taken apart by `websockets`, which refuses a wrong mask, a reserved bit, an unknown
opcode, a control frame that is long or in fragments, and a close code that nobody may send.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from gateway.settings import MediaSettings
from tests.gateway.test_websocket_conformance import CASES, LIMIT
from tests.gateway.test_websocket_conformance import F as TableFrame
from tests.peers import Table, b64

SETTINGS = MediaSettings(caller_message_max_bytes=LIMIT, agent_message_max_bytes=LIMIT)
LEGS = ("caller leg", "agent leg")
NO_CODE = 1005
SHORT, MEDIUM = 126, 65_536


class Endpoint:
    """One leg of a call in full swing; the other one is quiet."""

    def __init__(self, leg):
        self.is_client = leg == "agent leg"
        self.table = Table(settings=SETTINGS)
        self.table.connect_agent()
        self.table.start()
        bridge = self.table.bridge
        self._receive = bridge.agent_bytes if self.is_client else bridge.caller_bytes
        self._take = bridge.take_agent if self.is_client else bridge.take_caller
        self._reader = StreamReader()
        self.sent = b""

    def hears(self, data, step):
        for start in range(0, len(data), step):
            self._receive(data[start : start + step], self.table.now_s)
            self.sent += self._take()

    def speaks(self, size):
        """The bridge has so many bytes of text for the agent, or of audio for Twilio, and two seconds to say it."""
        if self.is_client:
            self.table.bridge.say_to_agent("contextual_update", "x" * size)
        else:
            self.table.bridge.agent_bytes(
                self.table.agent.json(
                    type="audio", audio_event={"audio_base_64": b64(bytes(size)), "event_id": 1}
                ),
                self.table.now_s,
            )
        self.sent += self._take()
        for tick in range(1, 101):
            self.table.bridge.tick(self.table.now_s + tick * 0.02)
            self.sent += self._take()

    def frames(self):
        """All frames that were sent, as the other implementation reads them. Raises what it finds wrong with them."""
        self._reader.feed_data(self.sent)
        self._reader.feed_eof()
        frames, taken = [], 0
        while not _done(self._reader.at_eof()):
            frame = _done(Frame.parse(self._reader.read_exact, mask=self.is_client))
            frames.append(frame)
            taken += shortest(len(frame.data), masked=self.is_client)
        assert taken == len(self.sent), "a length was not in its shortest form"
        return frames


def _done(parsing):
    """The result of a parser that has all its bytes."""
    try:
        next(parsing)
    except StopIteration as end:
        return end.value
    raise AssertionError("a frame was sent in part")


def shortest(size, *, masked):
    """Bytes on the wire of a frame with so much payload (RFC 6455, section 5.2: the minimal number of bytes)."""
    return 2 + (0 if size < SHORT else 2 if size < MEDIUM else 8) + 4 * masked + size


def expected_answers(delivered, code):
    """Opcode and payload of what an endpoint has to send for a case of the table."""
    answers = []
    for opcode, payload in delivered:
        if opcode == Opcode.PING:
            answers.append((Opcode.PONG, payload))
        elif opcode == Opcode.CLOSE:
            said = struct.unpack("!H", payload[:2])[0] if payload else NO_CODE
            # Without a code there is nothing to repeat; 1000 is what we would have said ourselves.
            answers.append((Opcode.CLOSE, 1000 if said == NO_CODE else said))
    return [*answers, (Opcode.CLOSE, code)] if code else answers


def spoken(frames):
    return [
        (frame.opcode, Close.parse(frame.data).code if frame.opcode is Opcode.CLOSE else frame.data)
        for frame in frames
    ]


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("name", CASES)
def test_leg_answers_autobahn_case_as_the_suite_asks(name, leg):
    """Pongs and the close, in order, each in one whole frame and with a mask where we are the client; nothing behind."""
    frames, delivered, code = CASES[name]
    endpoint = Endpoint(leg)
    data = b"".join(frame.wire(masked=not endpoint.is_client) for frame in frames)
    endpoint.hears(data, 7 if len(data) < 2_000 else 1 << 16)
    said = endpoint.frames()
    assert spoken(said) == expected_answers(delivered, code)
    assert all(frame.fin for frame in said)


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("size", [1, 89, 90, 91, 800, 49_000, 70_000])
def test_what_a_leg_says_is_one_whole_text_frame(leg, size):
    """In every form of the length that there is; on the agent leg masked, towards Twilio never."""
    endpoint = Endpoint(leg)
    endpoint.speaks(size)
    said = endpoint.frames()
    assert said
    assert leg == "caller leg" or max(len(frame.data) for frame in said) >= size
    assert all((frame.opcode, frame.fin) == (Opcode.TEXT, True) for frame in said)
    assert all(bytes(frame.data).decode() for frame in said)


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("end", ["peer closes", "peer breaks a rule"])
def test_leg_says_nothing_behind_a_close(leg, end):
    """Neither audio nor messages, nor a second close at the end of the call (RFC 6455, section 5.5.1)."""
    endpoint = Endpoint(leg)
    bad = TableFrame(3) if end == "peer breaks a rule" else TableFrame(8, b"\x0f\xa0bye")
    masked = not endpoint.is_client
    endpoint.hears(bad.wire(masked=masked) + TableFrame(9, b"late").wire(masked=masked), 1 << 16)
    endpoint.speaks(800)
    endpoint.table.bridge.close(endpoint.table.now_s + 2.0)
    endpoint.sent += endpoint._take()
    assert spoken(endpoint.frames()) == [(Opcode.CLOSE, 1002 if bad.opcode == 3 else 4000)]


@pytest.mark.parametrize("leg", LEGS)
@settings(deadline=None, max_examples=60)
@given(payloads=st.lists(st.binary(max_size=125), min_size=1, max_size=8), step=st.integers(1, 300))
def test_pongs_carry_the_payloads_of_their_pings_in_order(leg, payloads, step):
    """Whatever is in them and however they are cut, also between the fragments of a message."""
    endpoint = Endpoint(leg)
    masked = not endpoint.is_client
    parts = [TableFrame(1, b"{", fin=False), TableFrame(0, b"}")]
    pings = [TableFrame(9, payload) for payload in payloads]
    data = b"".join(frame.wire(masked=masked) for frame in (parts[0], *pings, parts[1]))
    endpoint.hears(data, step)
    assert spoken(endpoint.frames()) == [(Opcode.PONG, payload) for payload in payloads]


def test_every_frame_to_the_agent_has_a_mask_of_its_own():
    """A key that is used again, or that is zero, would be no protection (RFC 6455, section 10.3)."""
    endpoint = Endpoint("agent leg")
    ping = TableFrame(9, b"beat").wire(masked=False)
    endpoint.hears(ping * 600, 1 << 16)
    frame_bytes = shortest(len(b"beat"), masked=True)
    keys = {endpoint.sent[at + 2 : at + 6] for at in range(0, len(endpoint.sent), frame_bytes)}
    assert len(endpoint.frames()) == 600
    assert len(keys) >= 599  # of 2**32: one pair alike in ten thousand runs or so
    assert bytes(4) not in keys
