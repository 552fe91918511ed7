"""The opening handshake by itself: every rule of both roles, and every cut of the stream."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.handshake import (
    MAX_HEAD_BYTES,
    ClientHandshake,
    HandshakeError,
    accept_response,
    parse_upgrade,
    refuse_response,
)

# The example of RFC 6455 section 1.3.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
NONCE = b"the sample nonce"
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HEADERS = {
    "Host": "gateway.example.org",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
ANSWER = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}


def head(line, headers, extra=""):
    """A message head; a header set to None is left out."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
    return (line + "\r\n" + "".join(lines) + extra + "\r\n").encode("latin-1")


def upgrade(changes=None, *, line="GET /media/abc?x=1 HTTP/1.1", extra=""):
    return head(line, HEADERS | (changes or {}), extra)


def answer(changes=None, *, line="HTTP/1.1 101 Switching Protocols", extra=""):
    return head(line, ANSWER | (changes or {}), extra)


def refusal(data):
    with pytest.raises(HandshakeError) as caught:
        parse_upgrade(data)
    return caught.value


def dial(**more):
    return ClientHandshake(host="agent.example.org", target="/convai", key=NONCE, **more)


def failure(*pieces, handshake=None):
    handshake = handshake or dial()
    with pytest.raises(HandshakeError) as caught:
        for piece in pieces:
            assert handshake.receive(piece) is None
    return caught.value


# ---- server -----------------------------------------------------------------------------------


def test_parse_upgrade_twilio_request_gives_its_parts():
    """Target, headers in lower case, key, and the bytes behind the head."""
    data = upgrade({"X-Twilio-Signature": "c2ln", "User-Agent": "Twilio.TmeWs/1.0"}) + b"\x81\x80"
    request = parse_upgrade(data)
    assert request is not None
    assert request.target == "/media/abc?x=1"
    assert request.headers["x-twilio-signature"] == "c2ln"
    assert request.headers["host"] == "gateway.example.org"
    assert (request.key, request.rest) == (KEY, b"\x81\x80")


def test_parse_upgrade_incomplete_head_is_none_at_every_cut():
    """Whatever is missing: no verdict before the empty line."""
    data = upgrade()
    assert all(parse_upgrade(data[:size]) is None for size in range(len(data)))
    assert parse_upgrade(data) is not None


def test_upgrade_request_repr_shows_nothing():
    """The ticket in the target and the signature are not for logs."""
    assert repr(parse_upgrade(upgrade())) == "UpgradeRequest()"


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": "WebSocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "UPGRADE"},
        {"Upgrade": "h2c, websocket"},
        {"Content-Length": "0"},
        {"Sec-WebSocket-Extensions": "permessage-deflate", "Sec-WebSocket-Protocol": "a, b"},
    ],
)
def test_parse_upgrade_permitted_variants_are_accepted(changes):
    """Tokens are lists without regard to case; offers are allowed, and ignored."""
    assert parse_upgrade(upgrade(changes)) is not None


def test_parse_upgrade_repeated_list_header_is_joined():
    """Headers that may come several times are one list."""
    request = parse_upgrade(upgrade({"Connection": "keep-alive"}, extra="Connection: Upgrade\r\n"))
    assert request is not None
    assert request.headers["connection"] == "keep-alive, Upgrade"


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (405, upgrade(line="POST /media/abc HTTP/1.1")),
        (405, upgrade(line="get /media/abc HTTP/1.1")),
        (400, upgrade(line="GET /media/abc HTTP/1.0")),
        (400, upgrade(line="GET /media/abc HTTP/2.0")),
        (400, upgrade(line="GET http://gateway.example.org/ HTTP/1.1")),
        (400, upgrade(line="GET  /media HTTP/1.1")),
        (400, upgrade(line="GET /me dia HTTP/1.1")),
        (400, upgrade(line="GET /media")),
        (400, upgrade(line="")),
        (400, b"\r\n\r\n"),
        (400, upgrade({"Host": None})),
        (400, upgrade(extra="Host: other.example.org\r\n")),
        (400, upgrade(extra=" folded\r\n")),
        (400, upgrade(extra="Bad Name: x\r\n")),
        (400, upgrade(extra="Space : x\r\n")),
        (400, upgrade(extra="no colon\r\n")),
        (400, upgrade(extra="X: a\nY: b\r\n")),
        (400, upgrade(extra="X: a\rY: b\r\n")),
        (400, upgrade(extra="X: a\x00b\r\n")),
        (400, upgrade(extra="X: a\x1bb\r\n")),
        (400, upgrade(extra="X: a\x7fb\r\n")),
        (400, upgrade({"Content-Length": "5"})),
        (400, upgrade({"Content-Length": "x"})),
        (400, upgrade({"Transfer-Encoding": "chunked"})),
        (400, upgrade({"Transfer-Encoding": "gzip"})),
        (426, upgrade({"Upgrade": None})),
        (426, upgrade({"Upgrade": "h2c"})),
        (426, upgrade({"Connection": None})),
        (426, upgrade({"Connection": "keep-alive"})),
        (426, upgrade({"Sec-WebSocket-Version": None})),
        (426, upgrade({"Sec-WebSocket-Version": "8"})),
        (400, upgrade(extra="Sec-WebSocket-Version: 13\r\n")),
        (400, upgrade({"Sec-WebSocket-Key": None})),
        (400, upgrade({"Sec-WebSocket-Key": "short"})),
        (400, upgrade({"Sec-WebSocket-Key": "AAAA"})),
        (400, upgrade({"Sec-WebSocket-Key": "ä" * 24})),
        (400, upgrade({"Sec-WebSocket-Key": "!" * 22 + "=="})),
        (400, upgrade(extra=f"Sec-WebSocket-Key: {KEY}\r\n")),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    ],
)
def test_parse_upgrade_bad_request_is_refused_with_its_status(status, data):
    """Each broken rule has its status, and the text quotes nothing of the request."""
    error = refusal(data)
    assert error.status == status
    assert "media" not in error.reason
    assert str(error) == f"{status}: {error.reason}"


def test_parse_upgrade_head_of_the_limit_passes_and_one_more_is_431():
    """16 KiB of head are read; one byte more is refused, whether or not it is complete."""
    room = MAX_HEAD_BYTES - len(upgrade({"X": ""}))
    assert parse_upgrade(upgrade({"X": "a" * room}) + b"rest" * 9000) is not None
    over = upgrade({"X": "a" * (room + 1)})
    assert refusal(over).status == 431
    assert refusal(over[:MAX_HEAD_BYTES]).status == 431
    assert parse_upgrade(over[: MAX_HEAD_BYTES - 1]) is None


def test_parse_upgrade_own_limit_is_kept():
    """The limit is the caller's to choose."""
    with pytest.raises(HandshakeError) as caught:
        parse_upgrade(upgrade(), max_head_bytes=100)
    assert caught.value.status == 431


@given(
    data=st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: upgrade()[:90] + tail)
)
@settings(deadline=None, max_examples=200)
def test_parse_upgrade_noise_is_incomplete_or_refused(data):
    """Nothing but a HandshakeError with a status ever comes out."""
    for tail in (b"", b"\r\n\r\n"):
        statuses = []
        try:
            parse_upgrade(data + tail)
        except HandshakeError as error:
            statuses.append(error.status)
        assert statuses in ([], [400], [405], [426])


def test_accept_response_is_the_example_of_the_rfc():
    """The accept value of RFC 6455 section 1.3, and no extension or protocol."""
    request = parse_upgrade(upgrade({"Sec-WebSocket-Extensions": "permessage-deflate"}))
    assert request is not None
    lines = accept_response(request).decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert sorted(lines[1:-2]) == sorted(f"{name}: {value}" for name, value in ANSWER.items())
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (403, ["Connection: close"]),
        (405, ["Allow: GET", "Connection: close"]),
        (
            426,
            ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Connection: close, Upgrade"],
        ),
    ],
)
def test_refuse_response_says_why_and_closes(status, headers):
    """Status, length and reason; 405 and 426 name what would do."""
    start, _, body = refuse_response(status, "größer\r\nX: y").partition(b"\r\n\r\n")
    lines = start.decode().split("\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} ")
    assert f"Content-Length: {len(body)}" in lines
    assert set(headers) <= set(lines)
    assert body.decode() == "größer\r\nX: y\n"


# ---- client -----------------------------------------------------------------------------------


def test_client_request_is_a_valid_upgrade():
    """What we send is what we would accept, and nothing is offered."""
    handshake = ClientHandshake(
        host="agent.example.org:8443",
        target="/v1/convai?agent_id=a",
        headers={"xi-api-key": "sk_secret_1"},
        key=NONCE,
    )
    request = parse_upgrade(handshake.request)
    assert request is not None
    assert request.target == "/v1/convai?agent_id=a"
    assert request.headers == {
        "host": "agent.example.org:8443",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        "xi-api-key": "sk_secret_1",
    }


def test_client_key_is_random():
    """Without a given key each handshake has its own."""
    requests = {ClientHandshake(host="h", target="/").request for _ in range(5)}
    assert len(requests) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"host": "h\r\nX: y"},
        {"host": "hö"},
        {"target": "/a b"},
        {"target": "/a\r\nX: y"},
        {"target": "/ä"},
        {"target": ""},
        {"target": "http://h/"},
        {"headers": {"X": "s3cr3t\r\nY: z"}},
        {"headers": {"X": "s3cr3t\x1b"}},
        {"headers": {"X": "s3cr3t€"}},
        {"headers": {"X Y": "s3cr3t"}},
        {"headers": {"HOST": "s3cr3t"}},
        {"headers": {"Sec-WebSocket-Protocol": "s3cr3t"}},
        {"headers": {"Transfer-Encoding": "s3cr3t"}},
        {"key": b"short"},
    ],
)
def test_client_impossible_request_is_a_value_error_without_the_value(arguments):
    """What cannot be sent is refused before anything is, and no secret is quoted."""
    with pytest.raises(ValueError, match=r"cannot be sent|belongs to|16 bytes") as caught:
        ClientHandshake(**({"host": "h", "target": "/"} | arguments))
    assert "s3cr3t" not in str(caught.value)


def test_client_accepted_gives_the_bytes_behind_the_head():
    """Frames that came with the 101 are handed back."""
    assert dial().receive(answer()) == b""
    assert dial().receive(answer() + b"\x81\x01a") == b"\x81\x01a"


@given(cuts=st.lists(st.integers(0, 200), max_size=8), interim=st.integers(0, 2))
@settings(deadline=None)
def test_client_accepted_any_cuts_give_the_same(cuts, interim):
    """However the head is cut, and after interim answers: nothing is lost, nothing is early."""
    data = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * interim + answer()
    edges = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    handshake = dial()
    for start, stop in itertools.pairwise(edges):
        got = handshake.receive(data[start:stop])
        if stop == len(data):
            break
        assert got is None
    assert got == b""
    single = dial()
    assert [single.receive(bytes([byte])) for byte in data] == [None] * (len(data) - 1) + [b""]


@pytest.mark.parametrize(
    "data",
    [
        answer({"Upgrade": None}),
        answer({"Upgrade": "h2c"}),
        answer({"Connection": "close"}),
        answer({"Sec-WebSocket-Accept": None}),
        answer({"Sec-WebSocket-Accept": ACCEPT.lower()}),
        answer(extra=f"Sec-WebSocket-Accept: {ACCEPT}\r\n"),
        answer({"Sec-WebSocket-Extensions": "permessage-deflate"}),
        answer({"Sec-WebSocket-Protocol": "convai"}),
        answer(line="HTTP/1.0 101 Switching Protocols"),
    ],
)
def test_client_101_that_does_not_fit_is_an_error(data):
    """A 101 has to answer our request, with nothing that was not offered."""
    assert failure(data + b"\x81\x01a").status == 101


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x03\x03\x00\x02",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        answer(line="HTTP/1.1 ten OK"),
        answer(extra="X: a\nY: b\r\n"),
        answer(extra=" folded\r\n"),
        b"HTTP/1.1 401 No\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_client_answer_that_is_no_http_is_an_error_without_status(data):
    """Anything that is not HTTP is called so."""
    assert failure(data).status is None


def test_client_endless_head_fails_at_16_kib():
    """A head, or a row of interim heads, of more than 16 KiB ends the wait."""
    endless = b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"a" * MAX_HEAD_BYTES
    assert failure(endless).status is None
    assert failure(*(endless[i : i + 1000] for i in range(0, len(endless), 1000))).status is None
    interim = b"HTTP/1.1 103 Early Hints\r\nX: %s\r\n\r\n" % (b"a" * 1000)
    assert failure(*[interim] * 20).status is None
    assert failure(interim * 20).status is None


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    ("head_lines", "body"),
    [
        ("Content-Length: 28\r\n", b'{"detail":\r\n"invalid\x00\x1bkey"}\n'),
        (
            "Transfer-Encoding: chunked\r\n",
            b'b\r\n{"detail":\r\r\nf\r\n\n"invalid\x00\x1bkey"\r\n1\r\n}\r\n0\r\n\r\n',
        ),
    ],
    ids=["length", "chunked"],
)
def test_client_refused_gives_status_and_a_printable_sample(step, head_lines, body):
    """The verdict comes with the whole body, however it arrives, without control characters."""
    data = b"HTTP/1.1 401 Unauthorized\r\n" + head_lines.encode() + b"\r\n" + body
    error = failure(*(data[i : i + step] for i in range(0, len(data), step)))
    assert (error.status, error.reason) == (401, '{"detail": "invalid key"}')


def test_client_refused_long_body_is_cut():
    """A page of HTML does not have to end before there is a verdict, and does not fill the log."""
    start = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1000000\r\n\r\n"
    error = failure(start + b"<html> " * 300)
    assert error.status == 502
    assert error.reason.startswith("<html> <html>")
    assert len(error.reason) <= 200


def test_client_refused_without_body_gives_the_phrase():
    """No body: the reason phrase; not even that: something readable."""
    assert failure(b"HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\n\r\n").reason == "Slow Down"
    assert failure(b"HTTP/1.1 204\r\n\r\n").reason == "refused without a word"


def test_client_refused_echo_of_our_secrets_is_masked():
    """A body that quotes the request does not carry the key or the signature into a record."""
    handshake = ClientHandshake(
        host="h",
        target="/convai?agent_id=agent_77&conversation_signature=cvtkn_secret",
        headers={"xi-api-key": "sk_secret_1"},
    )
    body = b"no: sk_secret_1 cvtkn_secret"
    data = b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert failure(data, handshake=handshake).reason == "no: *** ***"


def test_client_refused_broken_body_still_gives_the_status():
    """A refusal whose chunks are nonsense is still that refusal."""
    data = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n"
    assert (failure(data).status, failure(data).reason) == (503, "abc")


def test_client_give_up_says_what_is_known():
    """The peer closed or is late: nothing yet, or a status with the body so far."""
    handshake = dial()
    assert handshake.give_up().status is None
    assert handshake.receive(answer()[:30]) is None
    assert handshake.give_up().status is None
    refused = dial()
    assert refused.receive(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nso f") is None
    assert (refused.give_up().status, refused.give_up().reason) == (500, "so f")
