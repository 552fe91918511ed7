"""A table of cases after the Autobahn test suite, without its compression and performance parts.

The groups are the suite's (1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5 fragmentation, 6 UTF-8,
7 closing, 9 limits, 10 fragments of odd size); samples and the last number of a name are ours. The suite
judges a whole endpoint by its echo; here the frames of a case go into `receive`, in both roles, and what
comes out is judged. Every case is sent whole and chopped, so cases that differ only in that are one line.
"""

from __future__ import annotations

import struct

import pytest

from gateway.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket

LIMIT = 16 * 1024 * 1024
CONT = 0


class F:
    """One frame of a case: opcode, payload, and what deviates."""

    def __init__(self, opcode, payload=b"", *, fin=True, rsv=0):
        self.opcode, self.payload, self.fin, self.rsv = opcode, payload, fin, rsv

    def wire(self, *, masked):
        size, bit = len(self.payload), 0x80 if masked else 0
        head = bytes([(0x80 if self.fin else 0) | self.rsv << 4 | self.opcode])
        if size < 126:
            head += bytes([bit | size])
        elif size < 65536:
            head += struct.pack("!BH", bit | 126, size)
        else:
            head += struct.pack("!BQ", bit | 127, size)
        # A key of zeros masks nothing: large cases stay quick, and masking proper is tested elsewhere.
        return head + (bytes(4) if masked else b"") + self.payload


def part(opcode, payload=b"", **more):
    """A frame that is not the last of its message."""
    return F(opcode, payload, fin=False, **more)


def octets(text):
    """A text in fragments of one byte."""
    single = [text[i : i + 1] for i in range(len(text))]
    first, *middle, last = single
    return [part(TEXT, first), *(part(CONT, byte) for byte in middle), F(CONT, last)]


def echoed(*frames):
    """A case in which every frame is a message or a pong or ping, and all are delivered."""
    return list(frames), [(frame.opcode, frame.payload) for frame in frames], None


STAR = b"*"
KAPPA = "Hello-µ@ßöäüàá-UTF-8!!".encode()
WORD = "κόσμε".encode()

CASES = {}

# 1: framing
for number, size in enumerate([0, 125, 126, 127, 128, 65535, 65536], start=1):
    CASES[f"1.1.{number}"] = echoed(F(TEXT, STAR * size))
    CASES[f"1.2.{number}"] = echoed(F(BINARY, b"\xfe" * size))

# 2: pings and pongs
CASES |= {
    "2.1": echoed(F(PING)),
    "2.2": echoed(F(PING, b"Hello, world!")),
    "2.3": echoed(F(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")),
    "2.4": echoed(F(PING, b"\xfe" * 125)),
    "2.5": ([F(PING, b"\xfe" * 126)], [], 1002),
    "2.7": echoed(F(PONG)),
    "2.8": echoed(F(PONG, b"unsolicited pong payload")),
    "2.9": echoed(F(PONG, b"unsolicited pong payload"), F(PING, b"ping payload")),
    "2.10": echoed(*(F(PING, b"payload-%d" % i) for i in range(10))),
}

# 3: reserved bits
HELLO = F(TEXT, b"Hello, world!")
CASES |= {
    "3.1": ([F(TEXT, b"Hello, world!", rsv=1)], [], 1002),
    "3.2": ([HELLO, F(TEXT, HELLO.payload, rsv=2), F(PING)], [(TEXT, HELLO.payload)], 1002),
    "3.3": ([HELLO, F(TEXT, HELLO.payload, rsv=3), F(PING)], [(TEXT, HELLO.payload)], 1002),
    "3.4": ([HELLO, F(TEXT, HELLO.payload, rsv=4), F(PING)], [(TEXT, HELLO.payload)], 1002),
    "3.5": ([F(BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", rsv=5)], [], 1002),
    "3.6": ([F(PING, b"Hello, world!", rsv=6)], [], 1002),
    "3.7": ([F(CLOSE, rsv=7)], [], 1002),
}

# 4: opcodes
for group, opcodes in {"4.1": range(3, 8), "4.2": range(11, 16)}.items():
    for number, opcode in enumerate(opcodes, start=1):
        payload = b"" if number == 1 else b"reserved opcode payload"
        before = [] if number < 3 else [HELLO]
        CASES[f"{group}.{number}"] = (
            [*before, F(opcode, payload), F(PING)],
            [(frame.opcode, frame.payload) for frame in before],
            1002,
        )

# 5: fragmentation
FRAGMENTS = [part(TEXT, b"fragment1"), F(CONT, b"fragment2")]
JOINED = (TEXT, b"fragment1fragment2")
FIVE = [
    part(TEXT, b"fragment1"),
    part(CONT, b"fragment2"),
    F(PING, b"pongme 1!"),
    part(CONT, b"fragment3"),
    part(CONT, b"fragment4"),
    F(PING, b"pongme 2!"),
    F(CONT, b"fragment5"),
]
CASES |= {
    "5.1": ([part(PING, b"fragment1"), F(CONT, b"fragment2")], [], 1002),
    "5.2": ([part(PONG, b"fragment1"), F(CONT, b"fragment2")], [], 1002),
    "5.3-5": (FRAGMENTS, [JOINED], None),
    "5.6-8": (
        [FRAGMENTS[0], F(PING, b"ping payload"), FRAGMENTS[1]],
        [(PING, b"ping payload"), JOINED],
        None,
    ),
    "5.9-11": ([F(CONT, b"non-continuation payload"), HELLO], [], 1002),
    "5.12-14": ([part(CONT, b"non-continuation payload"), HELLO], [], 1002),
    "5.15": ([*FRAGMENTS, part(CONT, b"fragment3"), F(TEXT, b"fragment4")], [JOINED], 1002),
    "5.16": ([part(CONT, b"fragment1"), part(TEXT, b"fragment2"), F(CONT)] * 2, [], 1002),
    "5.17": ([F(CONT, b"fragment1"), part(TEXT, b"fragment2"), F(CONT)] * 2, [], 1002),
    "5.18": ([part(TEXT, b"fragment1"), F(TEXT, b"fragment2")], [], 1002),
    "5.19-20": (
        FIVE,
        [
            (PING, b"pongme 1!"),
            (PING, b"pongme 2!"),
            (TEXT, b"fragment1fragment2fragment3fragment4fragment5"),
        ],
        None,
    ),
}

# 6: UTF-8
CASES |= {
    "6.1.1": echoed(F(TEXT)),
    "6.1.2": ([part(TEXT), part(CONT), F(CONT)], [(TEXT, b"")], None),
    "6.1.3": ([part(TEXT), part(CONT, b"middle"), F(CONT)], [(TEXT, b"middle")], None),
    "6.2.1": echoed(F(TEXT, KAPPA)),
    "6.2.2": ([part(TEXT, KAPPA[:9]), F(CONT, KAPPA[9:])], [(TEXT, KAPPA)], None),
    "6.2.3": (octets(KAPPA), [(TEXT, KAPPA)], None),
    "6.2.4": (octets(WORD), [(TEXT, WORD)], None),
    "6.3.1": ([F(TEXT, WORD + b"\xed\xa0\x80edited")], [], 1007),
    "6.3.2": (octets(WORD + b"\xed\xa0\x80edited"), [], 1007),
    "6.4.1": (
        [part(TEXT, WORD), part(CONT, b"\xf4\x90\x80\x80"), F(CONT, b"edited"), F(PING)],
        [],
        1007,
    ),
    "6.4.2": (
        [part(TEXT, WORD + b"\xf4"), part(CONT, b"\x90"), F(CONT, b"\x80\x80edited"), F(PING)],
        [],
        1007,
    ),
}
VALID_UTF8 = {
    "6.5.1": b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
    "6.6.2": b"\xce\xba",
    "6.6.5": b"\xce\xba\xe1\xbd\xb9",
    "6.6.7": b"\xce\xba\xe1\xbd\xb9\xcf\x83",
    "6.6.9": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc",
    "6.6.11": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
    "6.7.1": b"\x00",
    "6.7.2": b"\xc2\x80",
    "6.7.3": b"\xe0\xa0\x80",
    "6.7.4": b"\xf0\x90\x80\x80",
    "6.9.1": b"\x7f",
    "6.9.2": b"\xdf\xbf",
    "6.9.3": b"\xef\xbf\xbf",
    "6.9.4": b"\xf4\x8f\xbf\xbf",
    "6.11.1": b"\xed\x9f\xbf",
    "6.11.2": b"\xee\x80\x80",
    "6.11.3": b"\xef\xbf\xbd",
    "6.11.4": b"\xf4\x8f\xbf\xbf",
    "6.22.1": b"\xef\xbf\xbe",
    "6.22.2": b"\xef\xbf\xbf",
    "6.23.1": b"\xef\xbf\xbd",
} | {
    f"6.22.{3 + 2 * plane + low - 0xE}": chr((plane + 1) << 16 | 0xFFF0 | low).encode()
    for plane in range(16)
    for low in (0xE, 0xF)
}
INVALID_UTF8 = {
    "6.6.1": b"\xce",
    "6.6.3": b"\xce\xba\xe1",
    "6.6.4": b"\xce\xba\xe1\xbd",
    "6.6.6": b"\xce\xba\xe1\xbd\xb9\xcf",
    "6.6.8": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce",
    "6.6.10": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce",
    "6.8.1": b"\xf8\x88\x80\x80\x80",
    "6.8.2": b"\xfc\x84\x80\x80\x80\x80",
    "6.10.1": b"\xf7\xbf\xbf\xbf",
    "6.10.2": b"\xfb\xbf\xbf\xbf\xbf",
    "6.10.3": b"\xfd\xbf\xbf\xbf\xbf\xbf",
    "6.11.5": b"\xf4\x90\x80\x80",
    **{f"6.12.{n}": (b"\x80\xbf" * 4)[:n] for n in range(1, 8)},
    "6.12.8": bytes(range(0x80, 0xC0)),
    "6.13.1": b"".join(bytes([n]) + b" " for n in range(0xC0, 0xE0)),
    "6.13.2": b"".join(bytes([n]) + b" " for n in range(0xE0, 0xF0)),
    "6.13.3": b"".join(bytes([n]) + b" " for n in range(0xF0, 0xF8)),
    "6.13.4": b"".join(bytes([n]) + b" " for n in range(0xF8, 0xFC)),
    "6.13.5": b"\xfc \xfd ",
    "6.14.1": b"\xc0",
    "6.14.2": b"\xe0\x80",
    "6.14.3": b"\xf0\x80\x80",
    "6.14.4": b"\xf8\x80\x80\x80",
    "6.14.5": b"\xfc\x80\x80\x80\x80",
    "6.14.6": b"\xdf",
    "6.14.7": b"\xef\xbf",
    "6.14.8": b"\xf7\xbf\xbf",
    "6.14.9": b"\xfb\xbf\xbf\xbf",
    "6.14.10": b"\xfd\xbf\xbf\xbf\xbf",
    "6.15.1": b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf",
    "6.16.1": b"\xfe",
    "6.16.2": b"\xff",
    "6.16.3": b"\xfe\xfe\xff\xff",
    "6.17.1": b"\xc0\xaf",
    "6.17.2": b"\xe0\x80\xaf",
    "6.17.3": b"\xf0\x80\x80\xaf",
    "6.17.4": b"\xf8\x80\x80\x80\xaf",
    "6.17.5": b"\xfc\x80\x80\x80\x80\xaf",
    "6.18.1": b"\xc1\xbf",
    "6.18.2": b"\xe0\x9f\xbf",
    "6.18.3": b"\xf0\x8f\xbf\xbf",
    "6.18.4": b"\xf8\x87\xbf\xbf\xbf",
    "6.18.5": b"\xfc\x83\xbf\xbf\xbf\xbf",
    "6.19.1": b"\xc0\x80",
    "6.19.2": b"\xe0\x80\x80",
    "6.19.3": b"\xf0\x80\x80\x80",
    "6.19.4": b"\xf8\x80\x80\x80\x80",
    "6.19.5": b"\xfc\x80\x80\x80\x80\x80",
    **{
        f"6.20.{n}": high
        for n, high in enumerate(
            [
                b"\xed\xa0\x80",
                b"\xed\xad\xbf",
                b"\xed\xae\x80",
                b"\xed\xaf\xbf",
                b"\xed\xb0\x80",
                b"\xed\xbe\x80",
                b"\xed\xbf\xbf",
            ],
            start=1,
        )
    },
    **{
        f"6.21.{n}": pair
        for n, pair in enumerate(
            [
                high + low
                for high in (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf")
                for low in (b"\xed\xb0\x80", b"\xed\xbf\xbf")
            ],
            start=1,
        )
    },
}
for name, text in VALID_UTF8.items():
    CASES[name] = echoed(F(TEXT, text))
    CASES[f"{name} long"] = echoed(F(TEXT, b"a" * 126 + text))
    if len(text) > 1:
        CASES[f"{name} in octets"] = (octets(text), [(TEXT, text)], None)
for name, text in INVALID_UTF8.items():
    CASES[name] = ([F(TEXT, text), F(PING)], [], 1007)
    CASES[f"{name} long"] = ([F(TEXT, b"a" * 126 + text), F(PING)], [], 1007)
    if len(text) > 1:
        CASES[f"{name} in octets"] = ([*octets(text), F(PING)], [], 1007)

# 7: closing
NORMAL = F(CLOSE, b"\x03\xe8")
CLOSED = (CLOSE, b"\x03\xe8")
CASES |= {
    "7.1.1": ([HELLO, NORMAL], [(TEXT, HELLO.payload), CLOSED], None),
    "7.1.2": ([NORMAL, NORMAL], [CLOSED], None),
    "7.1.3": ([NORMAL, F(PING)], [CLOSED], None),
    "7.1.4": ([NORMAL, HELLO], [CLOSED], None),
    "7.1.5": ([FRAGMENTS[0], NORMAL, FRAGMENTS[1]], [CLOSED], None),
    "7.1.6": (
        [F(TEXT, b"BAsd7&jh23" * 26214), HELLO, NORMAL, F(PING)],
        [(TEXT, b"BAsd7&jh23" * 26214), (TEXT, HELLO.payload), CLOSED],
        None,
    ),
    "7.3.1": ([F(CLOSE)], [(CLOSE, b"")], None),
    "7.3.2": ([F(CLOSE, b"a")], [], 1002),
    "7.3.3": ([NORMAL], [CLOSED], None),
    "7.3.4": ([F(CLOSE, b"\x03\xe8Hello World!")], [(CLOSE, b"\x03\xe8Hello World!")], None),
    "7.3.5": ([F(CLOSE, b"\x03\xe8" + STAR * 123)], [(CLOSE, b"\x03\xe8" + STAR * 123)], None),
    "7.3.6": ([F(CLOSE, b"\x03\xe8" + STAR * 124)], [], 1002),
    "7.5.1": ([F(CLOSE, b"\x03\xe8" + WORD + b"\xed\xa0\x80edited")], [], 1007),
}
VALID_CODES = [
    1000,
    1001,
    1002,
    1003,
    1007,
    1008,
    1009,
    1010,
    1011,
    1012,
    1013,
    1014,
    3000,
    3999,
    4000,
    4999,
]
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]
for number, code in enumerate(VALID_CODES, start=1):
    body = struct.pack("!H", code)
    CASES[f"7.7.{number}"] = ([F(CLOSE, body)], [(CLOSE, body)], None)
for number, code in enumerate(INVALID_CODES, start=1):
    CASES[f"7.9.{number}"] = ([F(CLOSE, struct.pack("!H", code))], [], 1002)
for number, code in enumerate([5000, 65535], start=1):
    # The suite leaves these open; no endpoint may send them.
    CASES[f"7.13.{number}"] = ([F(CLOSE, struct.pack("!H", code))], [], 1002)

# 9: limits
for number, size in enumerate([1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 23, 1 << 24], start=1):
    CASES[f"9.1.{number}"] = echoed(F(TEXT, STAR * size))
    CASES[f"9.2.{number}"] = echoed(F(BINARY, STAR * size))
for number, size in enumerate([1 << 8, 1 << 10, 1 << 12, 1 << 16, 1 << 20], start=1):
    count = (1 << 20) // size
    for group, opcode in {"9.3": TEXT, "9.4": BINARY}.items():
        pieces = [part(opcode if i == 0 else CONT, STAR * size) for i in range(count)]
        CASES[f"{group}.{number}"] = ([*pieces, F(CONT)], [(opcode, STAR * (1 << 20))], None)
CASES["9 over the limit"] = ([F(BINARY, STAR * (LIMIT + 1)), F(PING)], [], 1009)
CASES["10.1.1"] = (
    [part(TEXT, STAR * 1300), *[part(CONT, STAR * 1300)] * 49, F(CONT, STAR * 536)],
    [(TEXT, STAR * 65536)],
    None,
)


def run(client, data, step):
    """Frames and close code after `data` came in pieces of `step` bytes."""
    socket = WebSocket(client=client, max_message_bytes=LIMIT)
    received = []
    for start in range(0, len(data), step):
        received += socket.receive(data[start : start + step])
    return received, socket.failure and socket.failure.close_code


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("name", CASES)
def test_receive_autobahn_case_gives_the_verdict_of_the_suite(name, client):
    """Messages, control frames and failure code are those of the case, however the octets are chopped."""
    frames, delivered, code = CASES[name]
    data = b"".join(frame.wire(masked=not client) for frame in frames)
    steps = [len(data), 997] if len(data) < (1 << 21) else [1 << 16]
    if len(data) < 2000:
        steps += [1, 2, 7]
    for step in steps:
        assert run(client, data, step) == (delivered, code)
