"""Our framing and handshake against two other implementations, wsproto and websockets, in both roles.

Everything is in memory: bytes of one end go into the other, cut at random places.
"""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode
from websockets.http11 import Request as WebsocketsRequest
from websockets.http11 import Response as WebsocketsResponse
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.connection import Connection, ConnectionState

from gateway.handshake import (
    ClientHandshake,
    HandshakeError,
    accept_response,
    parse_upgrade,
    refuse_response,
)
from gateway.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket

MAX_BYTES = 1 << 20
STILL_OPEN = (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING)


class Wsproto:
    """An open connection of wsproto; what it receives, in the terms of our `receive`."""

    def __init__(self, *, client):
        kind = ConnectionType.CLIENT if client else ConnectionType.SERVER
        self.connection = Connection(kind)
        self.parts = []
        self.failed = None

    def message(self, opcode, parts):
        kind = ws.TextMessage if opcode == TEXT else ws.BytesMessage
        for index, part in enumerate(parts):
            data = part.decode() if opcode == TEXT else part
            yield self.connection.send(kind(data, message_finished=index == len(parts) - 1))

    def control(self, opcode, payload):
        return self.connection.send((ws.Ping if opcode == PING else ws.Pong)(payload))

    def close(self, code, reason):
        return self.connection.send(
            ws.CloseConnection(None if code == 1005 else code, reason or None)
        )

    def receive(self, data):
        self.connection.receive_data(data)
        for event in self.connection.events():
            if isinstance(event, ws.CloseConnection) and self.connection.state in STILL_OPEN:
                self.failed = int(event.code)  # its own verdict, not a frame that came
            else:
                yield from self._frames(event)

    def _frames(self, event):
        match event:
            case ws.Ping():
                yield PING, bytes(event.payload)
            case ws.Pong():
                yield PONG, bytes(event.payload)
            case ws.CloseConnection():
                yield CLOSE, (int(event.code), event.reason or "")
            case ws.Message():
                text = isinstance(event, ws.TextMessage)
                self.parts.append(event.data.encode() if text else bytes(event.data))
                if event.message_finished:
                    yield TEXT if text else BINARY, b"".join(self.parts)
                    self.parts = []


class Websockets:
    """An open connection of websockets, likewise. Its own pongs and closes wait in `answers`."""

    def __init__(self, *, client):
        if client:
            self.protocol = ClientProtocol(parse_uri("ws://h/"), state=OPEN, max_size=MAX_BYTES)
        else:
            self.protocol = ServerProtocol(state=OPEN, max_size=MAX_BYTES)
        self.parts = []
        self.opcode = None

    def _sent(self):
        return b"".join(self.protocol.data_to_send())

    def message(self, opcode, parts):
        for index, part in enumerate(parts):
            final = index == len(parts) - 1
            if index:
                self.protocol.send_continuation(part, final)
            elif opcode == TEXT:
                self.protocol.send_text(part, final)
            else:
                self.protocol.send_binary(part, final)
            yield self._sent()

    def control(self, opcode, payload):
        (self.protocol.send_ping if opcode == PING else self.protocol.send_pong)(payload)
        return self._sent()

    def close(self, code, reason):
        self.protocol.send_close(None if code == 1005 else code, reason)
        return self._sent()

    def receive(self, data):
        self.protocol.receive_data(data)
        for frame in self.protocol.events_received():
            if frame.opcode in (Opcode.PING, Opcode.PONG):
                yield int(frame.opcode), bytes(frame.data)
            elif frame.opcode is Opcode.CLOSE:
                yield CLOSE, (int(self.protocol.close_rcvd.code), self.protocol.close_rcvd.reason)
            else:
                self.opcode = self.opcode if frame.opcode is Opcode.CONT else int(frame.opcode)
                self.parts.append(bytes(frame.data))
                if frame.fin:
                    yield self.opcode, b"".join(self.parts)
                    self.parts = []

    def answers(self):
        return self._sent()


PEERS = pytest.mark.parametrize("peer_kind", [Wsproto, Websockets])
BOTH_ROLES = pytest.mark.parametrize("client", [False, True], ids=["we serve", "we dial"])

texts = st.text(max_size=200) | st.integers(100, 700).map(lambda n: "é" * (n // 3) + "a" * n)
messages = st.tuples(
    st.just(TEXT), st.lists(texts.map(str.encode), min_size=1, max_size=4)
) | st.tuples(st.just(BINARY), st.lists(st.binary(max_size=300), min_size=1, max_size=4))
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
cut_places = st.lists(st.integers(0, 10_000), max_size=15)
codes = st.sampled_from([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4300, 4999])
reasons = st.text(max_size=30)


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def collect(receive, data, places=()):
    return [frame for piece in cut(data, places) if piece for frame in receive(piece)]


def pair(peer_kind, client):
    ours = WebSocket(client=client, max_message_bytes=MAX_BYTES)
    return ours, peer_kind(client=not client)


# ---- frames -----------------------------------------------------------------------------------


@PEERS
@BOTH_ROLES
@settings(deadline=None, max_examples=60)
@given(data=st.data(), said=st.lists(messages, max_size=5), places=cut_places)
def test_peer_speaks_fragments_and_pings_we_hear_the_same(peer_kind, client, data, said, places):
    """Fragments, control frames between them, any cuts: we deliver what the other end was told to say."""
    ours, peer = pair(peer_kind, client)
    sent, expected = [], []
    for opcode, parts in said:
        for index, frame in enumerate(peer.message(opcode, parts), start=1):
            sent.append(frame)
            for control in data.draw(st.lists(controls, max_size=1 if index < len(parts) else 0)):
                sent.append(peer.control(*control))
                expected.append(control)
        expected.append((opcode, b"".join(parts)))
    assert collect(ours.receive, b"".join(sent), places) == expected
    assert ours.failure is None


@PEERS
@BOTH_ROLES
@settings(deadline=None, max_examples=60)
@given(
    said=st.lists(st.tuples(st.just(TEXT), texts.map(str.encode)) | controls, max_size=8),
    code=codes,
    reason=reasons,
    places=cut_places,
)
def test_we_speak_peer_hears_the_same(peer_kind, client, said, code, reason, places):
    """Texts, pings, pongs and the close that we encode are understood, and answered, by the other end."""
    ours, peer = pair(peer_kind, client)
    encode = {TEXT: ours.encode_text, PING: ours.encode_ping, PONG: ours.encode_pong}
    data = b"".join(encode[opcode](payload) for opcode, payload in said)
    data += ours.encode_close(code, reason)
    assert collect(peer.receive, data, places) == [*said, (CLOSE, (code, reason))]
    back = peer.answers() if isinstance(peer, Websockets) else peer.close(code, reason)
    assert [frame for frame in ours.receive(back) if frame[0] == CLOSE]
    assert ours.failure is None
    assert ours.close_received == (code, reason)


@PEERS
@BOTH_ROLES
@settings(deadline=None, max_examples=40)
@given(code=codes | st.just(1005), reason=reasons, places=cut_places)
def test_peer_closes_we_answer_and_both_are_closed(peer_kind, client, code, reason, places):
    """The closing handshake begun by the other end: we see its code, it sees ours."""
    assume(code != 1005 or reason == "")
    ours, peer = pair(peer_kind, client)
    frames = collect(ours.receive, peer.close(code, reason), places)
    assert [opcode for opcode, _ in frames] == [CLOSE]
    assert ours.close_received == (code, reason)
    answer = ours.encode_close(*ours.close_received)
    assert list(peer.receive(answer)) == [(CLOSE, (code, reason))]
    assert ours.receive(b"\x81\x00") == []


@BOTH_ROLES
@settings(deadline=None, max_examples=40)
@given(payloads=st.lists(st.binary(max_size=125), max_size=5))
def test_websockets_answers_our_pings_with_their_payloads(client, payloads):
    """Its automatic pongs come back to us with what we put into the pings."""
    ours, peer = pair(Websockets, client)
    list(peer.receive(b"".join(ours.encode_ping(payload) for payload in payloads)))
    assert ours.receive(peer.answers()) == [(PONG, payload) for payload in payloads]


@PEERS
@BOTH_ROLES
@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
def test_lengths_at_the_edges_pass_in_both_directions(peer_kind, client, size):
    """The three forms of the length are read and written as the other end does."""
    ours, peer = pair(peer_kind, client)
    text = b"x" * size
    heard = collect(peer.receive, ours.encode_text(text), range(0, size, 16_384))
    assert heard == [(TEXT, text)]
    said = b"".join(peer.message(TEXT, [text]))
    assert collect(ours.receive, said, range(0, size, 16_384)) == [(TEXT, text)]


def frame(opcode, payload, *, fin, reserved, masked):
    """A frame with its length in the shortest form; anything else may be wrong with it."""
    bit = 0x80 if masked else 0
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    head += bytes([bit | size]) if size < 126 else struct.pack("!BH", bit | 126, size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


wild_frames = st.tuples(
    st.sampled_from([0, 0, 1, 1, 1, 2, 3, 8, 9, 10, 11]),
    st.text(max_size=60).map(str.encode)
    | st.binary(max_size=130)
    | st.integers(1000, 4999).map(lambda code: struct.pack("!H", code) + b"why"),
    st.booleans(),
    st.sampled_from([0] * 15 + [1, 4]),
    st.sampled_from([True] * 15 + [False]),
)


@BOTH_ROLES
@settings(deadline=None, max_examples=400)
@given(frames=st.lists(wild_frames, min_size=1, max_size=6), places=cut_places)
def test_good_and_bad_streams_wsproto_and_we_judge_alike(client, frames, places):
    """Frames with random faults: the same messages before the fault, the same close code for it."""
    data = b"".join(
        frame(opcode, body, fin=fin, reserved=bits, masked=proper != client)
        for opcode, body, fin, bits, proper in frames
    )
    ours = WebSocket(client=client, max_message_bytes=MAX_BYTES)
    peer = Wsproto(client=client)
    heard = list(peer.receive(data))
    delivered = [
        (opcode, ours.close_received if opcode == CLOSE else payload)
        for opcode, payload in collect(ours.receive, data, places)
    ]
    if ours.close_received is not None:  # it judges on after a close; that is of no interest
        heard = heard[: len(delivered)]
        peer.failed = None
    assert delivered == heard
    assert (ours.failure and ours.failure.close_code) == peer.failed


# ---- handshake --------------------------------------------------------------------------------

paths = st.text("abcXYZ019-_.~/?=&%", max_size=40).map(lambda text: "/" + text)
head_cuts = st.lists(st.integers(0, 1000), max_size=10)


def open_with(handshake, data, places):
    """Feed an answer in pieces; what came behind it, or the error."""
    rest = None
    for piece in cut(data, places):
        if rest is not None:
            rest += piece
        else:
            rest = handshake.receive(piece)
    return rest


@settings(deadline=None, max_examples=60)
@given(path=paths, places=head_cuts, text=st.text(max_size=20))
def test_we_dial_a_wsproto_server_it_opens(path, places, text):
    """It understands our request and we its 101, with a first message glued to it."""
    ours = ClientHandshake(host="h:81", target=path, headers={"xi-api-key": "sk_1"})
    server = WSConnection(ConnectionType.SERVER)
    collect(lambda piece: [server.receive_data(piece)], ours.request, places)
    (request,) = server.events()
    assert (request.target, request.host) == (path, "h:81")
    assert (b"xi-api-key", b"sk_1") in request.extra_headers
    data = server.send(ws.AcceptConnection()) + server.send(ws.TextMessage(text))
    rest = open_with(ours, data, places)
    socket = WebSocket(client=True, max_message_bytes=MAX_BYTES)
    assert socket.receive(rest) == [(TEXT, text.encode())]


@settings(deadline=None, max_examples=60)
@given(path=paths, places=head_cuts, text=st.text(max_size=20))
def test_we_dial_a_websockets_server_it_opens(path, places, text):
    """The same with websockets."""
    ours = ClientHandshake(host="h", target=path)
    server = ServerProtocol()
    collect(lambda piece: [server.receive_data(piece)], ours.request, places)
    (request,) = server.events_received()
    assert isinstance(request, WebsocketsRequest)
    assert request.path == path
    server.send_response(server.accept(request))
    server.send_text(text.encode())
    rest = open_with(ours, b"".join(server.data_to_send()), places)
    socket = WebSocket(client=True, max_message_bytes=MAX_BYTES)
    assert socket.receive(rest) == [(TEXT, text.encode())]


@settings(deadline=None, max_examples=40)
@given(status=st.sampled_from([400, 401, 403, 404, 429, 500, 503]), places=head_cuts)
def test_we_dial_and_are_refused_status_and_text_arrive(status, places):
    """A refusal by either implementation comes out as HandshakeError with its status and its words."""
    ours = ClientHandshake(host="h", target="/")
    wsproto_server = WSConnection(ConnectionType.SERVER)
    wsproto_server.receive_data(ours.request)
    list(wsproto_server.events())
    data = wsproto_server.send(ws.RejectConnection(status_code=status, has_body=True))
    data += wsproto_server.send(ws.RejectData(b"not now"))
    with pytest.raises(HandshakeError) as caught:
        open_with(ours, data, places)
    assert (caught.value.status, caught.value.reason) == (status, "not now")

    again = ClientHandshake(host="h", target="/")
    server = ServerProtocol()
    server.receive_data(again.request)
    server.events_received()
    server.send_response(server.reject(status, "not now"))
    with pytest.raises(HandshakeError) as caught:
        open_with(again, b"".join(server.data_to_send()), places)
    assert (caught.value.status, caught.value.reason) == (status, "not now")


@settings(deadline=None, max_examples=60)
@given(path=paths, text=st.text(max_size=20))
def test_wsproto_dials_us_it_opens(path, text):
    """We understand its request at its end and not before, and it our 101."""
    client = WSConnection(ConnectionType.CLIENT)
    data = client.send(ws.Request(host="h", target=path, subprotocols=["a"]))
    assert parse_upgrade(data[:-1]) is None
    request = parse_upgrade(data)
    assert request is not None
    assert (request.target, request.headers["host"], request.rest) == (path, "h", b"")
    ours = WebSocket(client=False, max_message_bytes=MAX_BYTES)
    client.receive_data(accept_response(request) + ours.encode_text(text.encode()))
    accepted, message = client.events()
    assert (accepted.subprotocol, accepted.extensions) == (None, [])
    assert message.data == text
    assert ours.receive(client.send(ws.TextMessage(text))) == [(TEXT, text.encode())]


@settings(deadline=None, max_examples=60)
@given(path=paths, text=st.text(max_size=20))
def test_websockets_dials_us_it_opens(path, text):
    """The same with websockets; bytes behind its request are kept for the framing."""
    uri = parse_uri("ws://h" + path)
    client = ClientProtocol(uri)
    client.send_request(client.connect())
    data = b"".join(client.data_to_send())
    request = parse_upgrade(data + b"early")
    assert request is not None
    assert (request.target, request.rest) == (uri.resource_name, b"early")
    ours = WebSocket(client=False, max_message_bytes=MAX_BYTES)
    client.receive_data(accept_response(request) + ours.encode_text(text.encode()))
    response, message = client.events_received()
    assert isinstance(response, WebsocketsResponse)
    assert client.handshake_exc is None
    assert bytes(message.data) == text.encode()
    client.send_text(text.encode())
    assert ours.receive(b"".join(client.data_to_send())) == [(TEXT, text.encode())]


@pytest.mark.parametrize("status", [400, 403, 404, 405, 426, 431, 503])
def test_we_refuse_both_read_the_status_and_the_text(status):
    """Our refusals are HTTP responses that both understand."""
    data = refuse_response(status, "not now")
    client = WSConnection(ConnectionType.CLIENT)
    client.send(ws.Request(host="h", target="/"))
    client.receive_data(data)
    rejected, *bodies = client.events()
    assert rejected.status_code == status
    assert b"".join(body.data for body in bodies) == b"not now\n"

    other = ClientProtocol(parse_uri("ws://h/"))
    other.send_request(other.connect())
    other.receive_data(data)
    other.receive_eof()
    assert isinstance(other.handshake_exc, InvalidStatus)
    assert other.handshake_exc.response.status_code == status
    assert other.handshake_exc.response.body == b"not now\n"
