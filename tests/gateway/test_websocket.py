"""The framing by itself: every rule for what is received, every way of cutting the stream, both roles."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, WebSocketError
from tests.gateway.websocket_rig import BOTH_ROLES, LIMIT, cut, outcome, whole_and_cut, wire

# ---- cuts ----------------------------------------------------------------------------------------

texts = st.text(max_size=300) | st.integers(100, 140).map(lambda n: "a" * n)
messages = st.tuples(st.just(TEXT), texts.map(str.encode)) | st.tuples(
    st.just(BINARY), st.binary(max_size=300)
)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def conversations(draw):
    """(frames to send as (opcode, fin, payload), what has to be delivered)"""
    sent, delivered = [], []
    for opcode, payload in draw(st.lists(messages, max_size=6)):
        parts = cut(payload, draw(st.lists(st.integers(0, 400), max_size=4)))
        for index, part in enumerate(parts):
            for control in draw(st.lists(controls, max_size=1)):
                sent.append((control[0], True, control[1]))
                delivered.append(control)
            sent.append((opcode if index == 0 else 0, index == len(parts) - 1, part))
        delivered.append((opcode, payload))
    return sent, delivered


@BOTH_ROLES
@settings(deadline=None, max_examples=150)
@given(conversation=conversations(), places=st.lists(st.integers(0, 5000), max_size=20))
def test_receive_any_fragments_and_cuts_delivers_the_messages(client, conversation, places):
    """Messages in any fragments, control frames between, any cuts: what was said comes out, in order."""
    sent, delivered = conversation
    data = b"".join(wire(op, part, fin=fin, to_client=client) for op, fin, part in sent)
    assert whole_and_cut(client, data, places) == (delivered, None, None)


frames_good_or_bad = st.tuples(
    st.sampled_from([0, 1, 1, 2, 3, 7, 8, 9, 10, 11]),
    st.binary(max_size=140) | st.text(max_size=50).map(str.encode) | st.just(b"\x03\xe8bye"),
    st.booleans() | st.just(True),
    st.sampled_from([0] * 20 + [1, 2, 4]),
    st.sampled_from([None] * 20 + [True, False]),
    st.sampled_from([None] * 20 + [16, 64]),
)


@BOTH_ROLES
@settings(deadline=None, max_examples=300)
@given(
    frames=st.lists(frames_good_or_bad, max_size=6),
    tail=st.binary(max_size=12),
    places=st.lists(st.integers(0, 900), max_size=12),
)
def test_receive_faulty_streams_same_outcome_for_any_cuts(client, frames, tail, places):
    """Good and bad frames in any order: what is delivered and how it fails depends on the bytes alone."""
    data = b"".join(
        wire(op, body, fin=fin, reserved=bits, masked=masked, form=form, to_client=client)
        for op, body, fin, bits, masked, form in frames
    )
    _, failure, close_received = whole_and_cut(client, data + tail, places, limit=200)
    assert failure is None or close_received is None


@BOTH_ROLES
@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=200), places=st.lists(st.integers(0, 200), max_size=8))
def test_receive_random_bytes_same_outcome_for_any_cuts(client, data, places):
    """Noise never raises and never depends on how it was cut."""
    whole_and_cut(client, data, places, limit=100)


@BOTH_ROLES
def test_receive_four_joined_frames_all_delivered(client):
    """Several whole frames in one read come out together."""
    payloads = [bytes([65 + i]) * (330 + i) for i in range(4)]
    data = b"".join(wire(TEXT, payload, to_client=client) for payload in payloads)
    assert outcome(client, [data])[0] == [(TEXT, payload) for payload in payloads]


@BOTH_ROLES
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_receive_lengths_at_the_edges_of_the_forms(client, opcode, size):
    """The three forms of the length meet without a gap."""
    payload = b"x" * size
    data = wire(opcode, payload, to_client=client)
    pieces = cut(data, [1, 2, 3, 4, 8, 9, 10, 13, 14, 15, len(data) - 1])
    assert outcome(client, pieces) == outcome(client, [data]) == ([(opcode, payload)], None, None)


@BOTH_ROLES
def test_receive_payload_is_bytes_however_it_came(client):
    """Payloads are `bytes`, also from a joined, fragmented or cut message."""
    data = wire(TEXT, b"a" * 200, to_client=client) + wire(2, b"b", fin=False, to_client=client)
    data += wire(0, b"c", to_client=client) + wire(PING, b"d", to_client=client)
    for pieces in ([data], cut(data, range(0, 250, 7))):
        assert all(type(payload) is bytes for _, payload in outcome(client, pieces)[0])


# ---- rules ---------------------------------------------------------------------------------------

BAD_FRAMES = {
    "reserved bit 1": (1002, [{"opcode": TEXT, "payload": b"x", "reserved": 4}]),
    "reserved bit 2": (1002, [{"opcode": BINARY, "payload": b"x", "reserved": 2}]),
    "reserved bit 3": (1002, [{"opcode": PING, "reserved": 1}]),
    "reserved bit on a long text": (1002, [{"opcode": TEXT, "payload": b"x" * 200, "reserved": 4}]),
    "reserved data opcode": (1002, [{"opcode": 3, "payload": b"x"}]),
    "reserved data opcode 7": (1002, [{"opcode": 7}]),
    "reserved control opcode": (1002, [{"opcode": 11}]),
    "reserved control opcode 15": (1002, [{"opcode": 15}]),
    "fragmented ping": (1002, [{"opcode": PING, "fin": False}]),
    "fragmented close": (1002, [{"opcode": CLOSE, "fin": False}]),
    "ping of 126 bytes": (1002, [{"opcode": PING, "payload": b"x" * 126}]),
    "pong in 64-bit form": (1002, [{"opcode": PONG, "payload": b"x", "form": 64}]),
    "continuation of nothing": (1002, [{"opcode": 0, "payload": b"x"}]),
    "continuation of nothing, to go on": (1002, [{"opcode": 0, "payload": b"x", "fin": False}]),
    "text within a message": (
        1002,
        [{"opcode": TEXT, "payload": b"x", "fin": False}, {"opcode": TEXT, "payload": b"y"}],
    ),
    "long text within a message": (
        1002,
        [{"opcode": TEXT, "payload": b"x", "fin": False}, {"opcode": TEXT, "payload": b"y" * 200}],
    ),
    "binary within a text": (
        1002,
        [{"opcode": TEXT, "payload": b"x", "fin": False}, {"opcode": BINARY, "payload": b"y"}],
    ),
    "16-bit length for 125": (1002, [{"opcode": TEXT, "payload": b"x" * 125, "form": 16}]),
    "64-bit length for 65535": (1002, [{"opcode": TEXT, "payload": b"x" * 65535, "form": 64}]),
    "text that is not UTF-8": (1007, [{"opcode": TEXT, "payload": b"\xff"}]),
    "long text that is not UTF-8": (1007, [{"opcode": TEXT, "payload": b"\xff" * 200}]),
    "surrogate": (1007, [{"opcode": TEXT, "payload": b"\xed\xa0\x80"}]),
    "character cut at the end": (1007, [{"opcode": TEXT, "payload": "ü".encode()[:1]}]),
    "character cut at the end of the last fragment": (
        1007,
        [{"opcode": TEXT, "payload": b"a", "fin": False}, {"opcode": 0, "payload": b"\xc3"}],
    ),
    "character cut by ASCII in the next fragment": (
        1007,
        [
            {"opcode": TEXT, "payload": b"\xc3", "fin": False},
            {"opcode": 0, "payload": b"a", "fin": False},
        ],
    ),
    "more than the limit": (1009, [{"opcode": TEXT, "payload": b"x" * (LIMIT + 1)}]),
    "more than the limit in fragments": (
        1009,
        [{"opcode": BINARY, "payload": b"x" * LIMIT, "fin": False}, {"opcode": 0, "payload": b"x"}],
    ),
    "half a close code": (1002, [{"opcode": CLOSE, "payload": b"\x03"}]),
    "close reason that is not UTF-8": (1007, [{"opcode": CLOSE, "payload": b"\x03\xe8\xff"}]),
}


@BOTH_ROLES
@pytest.mark.parametrize("name", BAD_FRAMES)
def test_receive_forbidden_frame_fails_with_its_code(client, name):
    """A broken rule: what came before is delivered, nothing of it or after it is, the code is right."""
    code, frames = BAD_FRAMES[name]
    before, after = wire(PING, b"before", to_client=client), wire(PING, b"after", to_client=client)
    bad = b"".join(wire(to_client=client, **frame) for frame in frames)
    delivered, failure, close = outcome(client, [before + bad + after])
    assert delivered == [(PING, b"before")]
    assert failure is not None
    assert failure[0] == code
    assert close is None
    assert outcome(client, cut(before + bad + after, range(0, 300, 3))) == (
        delivered,
        failure,
        None,
    )


@BOTH_ROLES
@pytest.mark.parametrize("size", [0, 200])
def test_receive_wrong_masking_fails_with_1002(client, size):
    """A server takes masked frames only, a client unmasked ones only."""
    frame = wire(TEXT, b"x" * size, masked=client, to_client=client)
    frames, failure, _ = whole_and_cut(client, frame)
    assert frames == []
    assert failure is not None
    assert failure[0] == 1002


@BOTH_ROLES
@pytest.mark.parametrize("limit", [LIMIT, 16 * 1024 * 1024], ids=["64 KiB", "16 MiB"])
def test_receive_announced_size_over_the_limit_fails_from_the_header(client, limit):
    """One byte too many is refused as soon as the header says so; the limit itself is accepted."""
    bit = 0 if client else 0x80
    socket = WebSocket(client=client, max_message_bytes=limit)
    assert socket.receive(struct.pack("!BBQ", 0x82, bit | 127, limit + 1)) == []
    assert isinstance(socket.failure, WebSocketError)
    assert socket.failure.close_code == 1009
    data = WebSocket(client=not client, max_message_bytes=0).encode_text(b"x" * limit)
    pieces = [data[i : i + 65536] for i in range(0, len(data), 65536)]
    assert outcome(client, pieces, limit) == ([(TEXT, b"x" * limit)], None, None)


@BOTH_ROLES
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [100, 126, 200])
def test_receive_whole_frame_over_a_small_limit_fails(client, opcode, limit):
    """The limit holds for a frame that is there in full, too, in every form of the length."""
    good = wire(opcode, b"x" * limit, to_client=client)
    bad = wire(opcode, b"x" * (limit + 1), to_client=client)
    frames, failure, _ = whole_and_cut(client, good + bad, limit=limit)
    assert frames == [(opcode, b"x" * limit)]
    assert failure is not None
    assert failure[0] == 1009


@BOTH_ROLES
@pytest.mark.parametrize("size", [2**63 - 1, 2**63, 2**64 - 1])
def test_receive_absurd_length_fails_without_waiting(client, size):
    """Lengths up to 63 bits are too big, those with the 64th bit are no lengths."""
    header = struct.pack("!BBQ", 0x81, (0 if client else 0x80) | 127, size)
    _, failure, _ = whole_and_cut(client, header)
    assert failure is not None
    assert failure[0] == (1009 if size < 2**63 else 1002)


@BOTH_ROLES
def test_receive_fragments_over_the_limit_fails_from_the_header(client):
    """The sum of the fragments counts, and the header of the one too many is enough."""
    socket = WebSocket(client=client, max_message_bytes=10)
    assert socket.receive(wire(TEXT, b"12345", fin=False, to_client=client)) == []
    assert socket.receive(wire(0, b"67890", fin=False, to_client=client)) == []
    assert socket.failure is None
    socket.receive(bytes([0x80, 1 if client else 0x81]))
    assert socket.failure is not None
    assert socket.failure.close_code == 1009


@BOTH_ROLES
def test_receive_control_frame_beside_a_full_message_passes(client):
    """The limit is one of messages: a ping goes through while a message of full size is under way."""
    data = wire(TEXT, b"12345", fin=False, to_client=client)
    data += wire(PING, b"p" * 125, to_client=client) + wire(0, b"", to_client=client)
    assert whole_and_cut(client, data, limit=5)[0] == [(PING, b"p" * 125), (TEXT, b"12345")]


@BOTH_ROLES
def test_receive_endless_empty_fragments_keeps_nothing(client):
    """A peer that fragments for ever without saying anything costs no memory."""
    socket = WebSocket(client=client, max_message_bytes=LIMIT)
    socket.receive(wire(TEXT, b"", fin=False, to_client=client))
    empty = wire(0, b"", fin=False, to_client=client) * 1000
    tracemalloc.start()
    try:
        for _ in range(20):
            assert socket.receive(empty) == []
        assert tracemalloc.get_traced_memory()[0] < 4096
    finally:
        tracemalloc.stop()
    assert socket.receive(wire(0, b"end", to_client=client)) == [(TEXT, b"end")]


@BOTH_ROLES
def test_failure_does_not_hold_the_payload(client):
    """What a peer said stays out of the error: no decoder error, no traceback behind it."""
    socket = WebSocket(client=client, max_message_bytes=LIMIT)
    socket.receive(wire(TEXT, b"secret\xff", to_client=client))
    assert socket.failure is not None
    assert socket.failure.__context__ is None
    assert socket.failure.__traceback__ is None
    assert "secret" not in str(socket.failure)
