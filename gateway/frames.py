"""What a single WebSocket frame may be (RFC 6455 sections 5.2 to 5.5 and 7.4): opcodes, headers, closes.

Pure. What a sequence of frames means is `gateway.websocket`.
"""

from __future__ import annotations

import struct
from typing import Final

from gateway.errors import GatewayError

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

FIN: Final = 0x80
RESERVED: Final = 0x70
MASKED: Final = 0x80
LENGTH_16: Final = 126
LENGTH_64: Final = 127
CONTROL_MAX_BYTES: Final = 125

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005
"""Stands for a close frame without a code; never on the wire."""
INVALID_DATA: Final = 1007
TOO_BIG: Final = 1009

header_7: Final = struct.Struct("!BB").pack
header_16: Final = struct.Struct("!BBH").pack
header_64: Final = struct.Struct("!BBQ").pack
_CODE: Final = struct.Struct("!H")


class WebSocketError(GatewayError):
    """The peer broke the protocol. `close_code` and `reason` are what to put into our close frame."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(f"{reason} ({close_code})")
        self.close_code = close_code
        self.reason = reason


def encode_header(first: int, length: int, masked: int) -> bytes:
    """First byte and payload length in its shortest form; `masked` is `MASKED` or 0. No mask key."""
    if length < LENGTH_16:
        return header_7(first, masked | length)
    if length < 0x10000:
        return header_16(first, masked | LENGTH_16, length)
    return header_64(first, masked | LENGTH_64, length)


def decode_length(encoded: bytes) -> int:
    """The payload length in the 2 or 8 bytes after the first two.

    Raises WebSocketError (1002) when a shorter form would have done, or for more than 63 bits.
    """
    length = int.from_bytes(encoded, "big")
    if length < (LENGTH_16 if len(encoded) == 2 else 0x10000):
        raise WebSocketError(PROTOCOL_ERROR, "length not in its shortest form")
    if length >> 63:
        raise WebSocketError(PROTOCOL_ERROR, "length of more than 63 bits")
    return length


def check_opening(first: int, second: int, *, masked: bool, within_message: bool) -> None:
    """Judge the first two bytes of a frame that has to be `masked`, or must not be.

    `within_message`: a fragmented message has begun and not ended. Raises WebSocketError (1002).
    """
    opcode = first & 0x0F
    if first & RESERVED:
        raise WebSocketError(PROTOCOL_ERROR, "reserved bit set")
    if opcode > PONG or BINARY < opcode < CLOSE:
        raise WebSocketError(PROTOCOL_ERROR, f"unknown opcode {opcode}")
    if masked and not second & MASKED:
        raise WebSocketError(PROTOCOL_ERROR, "unmasked frame from a client")
    if second & MASKED and not masked:
        raise WebSocketError(PROTOCOL_ERROR, "masked frame from a server")
    if opcode >= CLOSE:
        _check_control(first, second)
    elif opcode == CONTINUATION and not within_message:
        raise WebSocketError(PROTOCOL_ERROR, "continuation without a message")
    elif opcode != CONTINUATION and within_message:
        raise WebSocketError(PROTOCOL_ERROR, "new message within a fragmented one")


def _check_control(first: int, second: int) -> None:
    if not first & FIN:
        raise WebSocketError(PROTOCOL_ERROR, "fragmented control frame")
    if second & 0x7F > CONTROL_MAX_BYTES:
        raise WebSocketError(PROTOCOL_ERROR, "control frame of more than 125 bytes")


def is_close_code(code: int) -> bool:
    """Whether an endpoint may send this code (RFC 6455 section 7.4 and its IANA registry)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def encode_close_payload(code: int, reason: str) -> bytes:
    """The payload of a close frame. A reason that does not fit is cut to 123 bytes at a character.

    1005 gives the empty payload, so that a received code can be handed back as it is. Raises ValueError
    for a code that no endpoint may send.
    """
    if code == NO_CODE:
        return b""
    if not is_close_code(code):
        raise ValueError(f"{code} is no close code to send")
    text = reason.encode("utf-8", "replace")[: CONTROL_MAX_BYTES - _CODE.size]
    return _CODE.pack(code) + text.decode("utf-8", "ignore").encode()


def decode_close_payload(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; (1005, "") when it is empty.

    Raises WebSocketError: 1002 for half a code or one that may not be sent, 1007 for a reason that is
    not UTF-8.
    """
    if not payload:
        return NO_CODE, ""
    if len(payload) < _CODE.size:
        raise WebSocketError(PROTOCOL_ERROR, "close frame with half a code")
    code: int = _CODE.unpack_from(payload)[0]
    if not is_close_code(code):
        raise WebSocketError(PROTOCOL_ERROR, f"invalid close code {code}")
    reason = payload[_CODE.size :]
    if not is_utf8(reason):
        raise WebSocketError(INVALID_DATA, "close reason is not UTF-8")
    return code, reason.decode()


def is_utf8(payload: bytes) -> bool:
    """A yes or no: the decoder's error would stay with a WebSocketError as its context, payload and all."""
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
