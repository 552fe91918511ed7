"""The framing by itself: the closing handshake, from either side."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.frames import is_close_code
from gateway.websocket import CLOSE, PING, TEXT, WebSocket
from tests.gateway.websocket_rig import BOTH_ROLES, LIMIT, outcome, whole_and_cut, wire


@BOTH_ROLES
@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", (1005, "")),
        (b"\x03\xe8", (1000, "")),
        (b"\x03\xf3\xc3\xbcber", (1011, "über")),
        (b"\x0f\xa0" + b"r" * 123, (4000, "r" * 123)),
    ],
    ids=["no code", "no reason", "reason", "longest reason"],
)
def test_receive_close_ends_the_stream(client, payload, expected):
    """A close frame is delivered with its raw payload; nothing that follows it is."""
    after = wire(PING, to_client=client) + wire(TEXT, b"x" * 200, to_client=client)
    data = wire(CLOSE, payload, to_client=client) + after
    assert whole_and_cut(client, data) == ([(CLOSE, payload)], None, expected)
    assert outcome(client, [data, after, b"\xff\xff"]) == ([(CLOSE, payload)], None, expected)


@BOTH_ROLES
def test_receive_close_within_a_message_drops_the_message(client):
    """The start of a message that the peer gave up is not delivered."""
    data = wire(TEXT, b"never", fin=False, to_client=client) + wire(CLOSE, to_client=client)
    data += wire(0, b"finished", to_client=client)
    assert whole_and_cut(client, data) == ([(CLOSE, b"")], None, (1005, ""))


@BOTH_ROLES
def test_receive_after_failure_ignores_everything(client):
    """The first failure stays; later bytes, even good ones, give nothing."""
    socket = WebSocket(client=client, max_message_bytes=LIMIT)
    socket.receive(wire(3, to_client=client))
    failure = socket.failure
    assert failure is not None
    assert socket.receive(wire(TEXT, b"x" * 200, to_client=client)) == []
    assert socket.receive(wire(CLOSE, to_client=client)) == []
    assert socket.failure is failure
    assert socket.close_received is None


@BOTH_ROLES
def test_receive_after_our_close_still_delivers_until_the_peers_close(client):
    """What the peer sent before it saw our close is not lost (RFC 6455 section 5.5.1)."""
    socket = WebSocket(client=client, max_message_bytes=LIMIT)
    socket.encode_close(1001)
    data = wire(TEXT, b"late", to_client=client) + wire(CLOSE, b"\x03\xe9", to_client=client)
    assert socket.receive(data) == [(TEXT, b"late"), (CLOSE, b"\x03\xe9")]
    assert (socket.close_sent, socket.close_received) == (True, (1001, ""))


@BOTH_ROLES
def test_encode_after_close_gives_nothing(client):
    """One close frame, and nothing behind it."""
    socket = WebSocket(client=client, max_message_bytes=LIMIT)
    assert not socket.close_sent
    assert socket.encode_close(1000, "done") != b""
    assert socket.close_sent
    rest = [socket.encode_close(), socket.encode_ping(), socket.encode_pong(b"x")]
    assert [*rest, socket.encode_text(b"x"), socket.encode_text(b"x" * 300)] == [b""] * 5


@BOTH_ROLES
def test_encode_close_answers_what_was_received(client):
    """Any code that `close_received` may hold can be handed back, 1005 included."""
    for payload in (b"", b"\x03\xe8", b"\x0b\xb8why"):
        socket = WebSocket(client=client, max_message_bytes=LIMIT)
        socket.receive(wire(CLOSE, payload, to_client=client))
        assert socket.close_received is not None
        peer = WebSocket(client=not client, max_message_bytes=LIMIT)
        assert peer.receive(socket.encode_close(*socket.close_received)) == [(CLOSE, payload)]


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 1100, 2999, 5000, 65536])
def test_encode_close_code_nobody_may_send_is_refused(code):
    """A wrong code is a mistake of ours: ValueError, and the connection is not marked as closed."""
    socket = WebSocket(client=True, max_message_bytes=LIMIT)
    with pytest.raises(ValueError, match=str(code)):
        socket.encode_close(code)
    assert not socket.close_sent


@given(reason=st.text(st.characters(exclude_categories=()), max_size=140))
@settings(deadline=None)
def test_encode_close_any_reason_is_cut_to_fit(reason):
    """Closing never fails over the text: too long is cut at a character, lone surrogates replaced."""
    client = WebSocket(client=True, max_message_bytes=LIMIT)
    server = WebSocket(client=False, max_message_bytes=LIMIT)
    server.receive(client.encode_close(4000, reason))
    assert server.close_received is not None
    code, text = server.close_received
    clean = reason.encode("utf-8", "replace").decode()
    assert code == 4000
    assert clean.startswith(text)
    assert text == clean or len(text.encode()) > 119


def test_is_close_code_knows_the_registry():
    """Of all numbers these and no others may be sent."""
    allowed = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    assert {code for code in range(65536) if is_close_code(code)} == allowed
