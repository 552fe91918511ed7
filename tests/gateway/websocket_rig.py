"""Frames written without the code under test, and what becomes of them, whole and cut."""

from __future__ import annotations

import itertools
import struct

import pytest

from gateway.websocket import WebSocket

LIMIT = 64 * 1024
BOTH_ROLES = pytest.mark.parametrize("client", [False, True], ids=["server", "client"])


def wire(opcode, payload=b"", *, to_client, fin=True, reserved=0, masked=None, form=None):
    """A frame as the peer would send it, or as it must not; written without the code under test."""
    masked = not to_client if masked is None else masked
    bit = 0x80 if masked else 0
    size = len(payload)
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    if form == 7:
        head += bytes([bit | size])
    elif form == 16:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    key = b"\x11\x92\x33\xe4"
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def outcome(client, pieces, limit=LIMIT):
    """Everything observable after the pieces: frames, failure, close."""
    socket = WebSocket(client=client, max_message_bytes=limit)
    frames = [frame for piece in pieces for frame in socket.receive(piece)]
    failure = socket.failure and (socket.failure.close_code, socket.failure.reason)
    return frames, failure, socket.close_received


def cut(data, places):
    """The pieces of `data` between the places, some of them empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def whole_and_cut(client, data, places=(), limit=LIMIT):
    """The outcome, after a check that it does not depend on the cuts."""
    whole = outcome(client, [data], limit)
    single = [data[i : i + 1] for i in range(len(data))]
    assert outcome(client, single, limit) == whole
    assert outcome(client, cut(data, places), limit) == whole
    return whole
