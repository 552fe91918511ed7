"""The framing by itself: what is sent, read by the plain rules."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.frames import encode_header
from gateway.websocket import PING, PONG, TEXT, WebSocket
from tests.gateway.websocket_rig import BOTH_ROLES, wire


@BOTH_ROLES
@settings(deadline=None, max_examples=100)
@given(payload=st.binary(max_size=400) | st.integers(65530, 65540).map(lambda n: b"n" * n))
def test_encode_text_is_read_back_by_the_plain_rules(client, payload):
    """The frame is exactly the one that RFC 6455 section 5.2 prescribes for that key."""
    frame = WebSocket(
        client=client, max_message_bytes=0, random_bytes=lambda n: b"\x11\x92\x33\xe4" * (n // 4)
    ).encode_text(payload)
    assert frame == wire(TEXT, payload, to_client=not client)


@BOTH_ROLES
def test_encode_ping_and_pong_are_single_control_frames(client):
    """Control frames up to 125 bytes, masked by a client."""
    socket = WebSocket(
        client=client, max_message_bytes=0, random_bytes=lambda n: b"\x11\x92\x33\xe4" * (n // 4)
    )
    for payload in (b"", b"x", b"y" * 125):
        assert socket.encode_ping(payload) == wire(PING, payload, to_client=not client)
        assert socket.encode_pong(payload) == wire(PONG, payload, to_client=not client)
    with pytest.raises(ValueError, match="126"):
        socket.encode_ping(b"x" * 126)
    with pytest.raises(ValueError, match="126"):
        socket.encode_pong(b"x" * 126)


def test_encode_header_lengths_at_the_edges_take_the_shortest_form():
    """The shortest form of a length is the only valid one."""
    sizes = {125: 2, 126: 4, 65535: 4, 65536: 10}
    assert {size: len(encode_header(0x81, size, 0)) for size in sizes} == sizes


def test_encode_masks_each_frame_with_a_fresh_key():
    """Keys come from the random source in bulk, and none is used twice."""
    calls = []

    def counted(size):
        calls.append(size)
        base = len(calls) << 16
        return b"".join(struct.pack("!I", base + i) for i in range(size // 4))

    socket = WebSocket(client=True, max_message_bytes=0, random_bytes=counted)
    keys = [socket.encode_text(b"t" * 290)[4:8] for _ in range(300)]
    keys += [socket.encode_text(b"")[2:6] for _ in range(150)]
    keys += [socket.encode_ping()[2:6] for _ in range(150)]
    assert len(set(keys)) == 600
    assert len(calls) == 3


def test_encode_server_never_draws_keys():
    """A server does not mask, and needs no randomness."""

    def forbidden(size):
        raise AssertionError(size)

    socket = WebSocket(client=False, max_message_bytes=0, random_bytes=forbidden)
    assert socket.encode_text(b"x") + socket.encode_ping() + socket.encode_close()
