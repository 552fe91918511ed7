"""The framing by itself: the short cut for a sole text says what `receive` would say, or nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.websocket import BINARY, CLOSE, PING, TEXT, WebSocket
from tests.gateway.websocket_rig import BOTH_ROLES, LIMIT, outcome, wire


@settings(deadline=None)
@given(
    client=st.booleans(),
    opcode=st.sampled_from([TEXT, TEXT, TEXT, BINARY, PING]),
    payload=st.one_of(st.binary(min_size=100, max_size=400), st.text(min_size=120).map(str.encode)),
    tail=st.sampled_from([b"", b"", b"\x81", b"\x00"]),
    cut_off=st.sampled_from([0, 0, 0, 1]),
    fin=st.sampled_from([True, True, False]),
)
def test_sole_text_says_what_receive_says_or_nothing(client, opcode, payload, tail, cut_off, fin):
    """Its answers are `receive`'s, but for the UTF-8 check, and it leaves no trace."""
    data = wire(opcode, payload, to_client=client, fin=fin)
    data = data[: len(data) - cut_off] + tail
    socket = WebSocket(client=client, max_message_bytes=LIMIT)
    sole = socket.sole_text(data)
    frames = socket.receive(data)
    code = socket.failure.close_code if socket.failure else None
    untouched = outcome(client, [data])
    assert (frames, code) == (untouched[0], untouched[1][0] if untouched[1] else None)
    if sole is not None:
        assert opcode == TEXT
        assert (fin, len(tail)) == (True, cut_off)
        assert frames == [(TEXT, sole)] or socket.failure.close_code == 1007
    elif opcode == TEXT and fin and len(tail) == cut_off:
        assert len(payload) < 126


@BOTH_ROLES
def test_sole_text_with_something_pending_is_left_to_receive(client):
    """Behind half a frame, inside a fragmented message, after a close: never the short cut."""
    message = wire(TEXT, b"x" * 200, to_client=client)
    for before in (
        message[:50],
        wire(TEXT, b"begin", to_client=client, fin=False),
        wire(CLOSE, b"", to_client=client),
        wire(0, b"stray", to_client=client),
    ):
        socket = WebSocket(client=client, max_message_bytes=LIMIT)
        assert socket.sole_text(message) == b"x" * 200
        socket.receive(before)
        assert socket.sole_text(message) is None


@BOTH_ROLES
def test_sole_text_over_the_limit_is_left_to_receive(client):
    """The bound holds on the short cut, too."""
    socket = WebSocket(client=client, max_message_bytes=150)
    assert socket.sole_text(wire(TEXT, b"x" * 151, to_client=client)) is None
    assert socket.sole_text(wire(TEXT, b"x" * 150, to_client=client)) is not None
