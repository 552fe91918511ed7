"""WebSocket framing (RFC 6455 sections 5 and 7) without I/O, for both roles.

Bytes go into `receive`, whole messages and control frames come out; `encode_*` give the bytes to send.
Sockets, time limits and what to answer (a pong to a ping, a close to a close) are the caller's.
Extensions are never negotiated, so a reserved bit is always an error.

Whatever the peer does wrong ends up in `failure`, with the close code it has to be told; `receive` does
not raise. Whether and how a stream fails depends on its bytes alone, not on how they were cut.

Every 20 ms frame of every call passes `receive`: a whole text frame with a 16-bit length, which is what
audio looks like on both legs, is taken apart in the loop itself; all else goes through `_take_frame`.
"""

from __future__ import annotations

import codecs
import os
import struct
from collections.abc import Callable
from typing import Final

from gateway.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    CONTROL_MAX_BYTES,
    FIN,
    INVALID_DATA,
    LENGTH_16,
    MASKED,
    NORMAL,
    PING,
    PONG,
    TEXT,
    TOO_BIG,
    WebSocketError,
    check_opening,
    decode_close_payload,
    decode_length,
    encode_close_payload,
    encode_header,
    header_7,
    header_16,
    is_utf8,
)

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover  (an interpreter or machine that has no wheel of it)
    from websockets.utils import apply_mask

__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "WebSocket", "WebSocketError"]

_WHOLE_TEXT: Final = FIN | TEXT
_OPENING_16: Final = struct.Struct("!HH").unpack_from

# One call into the kernel for so many frames. The keys must be unpredictable to whoever chooses the
# payload (RFC 6455 section 10.3); each is used once.
_KEYS_PER_DRAW: Final = 256
_SPLIT_KEYS: Final = struct.Struct("4s" * _KEYS_PER_DRAW).unpack

_new_utf8_decoder: Final = codecs.getincrementaldecoder("utf-8")


class WebSocket:
    """One end of one WebSocket connection after its handshake.

    `max_message_bytes` bounds a message, and with it what is kept here: a frame whose header announces
    more, alone or on top of the fragments before it, fails with 1009 before any of it is stored. What is
    kept is at most one incomplete frame and the fragments of one message, `max_message_bytes` together,
    plus a control frame.
    """

    __slots__ = (
        "_client",
        "_header_bytes",
        "_incomplete",
        "_keys",
        "_long_text",
        "_max_message_bytes",
        "_message",
        "_message_opcode",
        "_needed_bytes",
        "_over",
        "_random_bytes",
        "_utf8",
        "close_received",
        "close_sent",
        "failure",
    )

    def __init__(
        self,
        *,
        client: bool,
        max_message_bytes: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.failure: WebSocketError | None = None
        self.close_received: tuple[int, str] | None = None
        self.close_sent = False
        self._client = client
        self._max_message_bytes = max_message_bytes
        self._random_bytes = random_bytes
        self._keys: list[bytes] = []
        self._over = False
        # The start of a frame that has not come in full, and how long it has to get to say more.
        self._incomplete = bytearray()
        self._needed_bytes = 0
        # A fragmented message: 0 or the opcode it began with, its bytes, and its check when it is text.
        # Joined as it comes: a list would grow without bound from empty fragments.
        self._message_opcode = 0
        self._message = bytearray()
        self._utf8: codecs.IncrementalDecoder | None = None
        # How a whole text frame with a 16-bit length from the peer begins, and the size of its header.
        self._long_text = _WHOLE_TEXT << 8 | LENGTH_16 | (0 if client else MASKED)
        self._header_bytes = 4 if client else 8

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """What `data` completes, in order: `(TEXT | BINARY, whole message)`, `(PING | PONG, payload)`,
        `(CLOSE, raw payload)`.

        Look at `failure` afterwards: frames before the fault are in the list. After a failure or a close
        frame all further bytes are ignored.
        """
        if self._incomplete:
            self._incomplete += data
            if len(self._incomplete) < self._needed_bytes:
                return []
            data = bytes(self._incomplete)
            self._incomplete.clear()
        elif self._over:
            return []
        frames: list[tuple[int, bytes]] = []
        position = 0
        size = len(data)
        while position < size:
            start = position + self._header_bytes
            if start < size and not self._message_opcode:
                opening, length = _OPENING_16(data, position)
                stop = start + length
                if (
                    opening == self._long_text
                    and LENGTH_16 <= length <= self._max_message_bytes
                    and stop <= size
                ):
                    payload = data[start:stop]
                    if not self._client:
                        payload = apply_mask(payload, data[start - 4 : start])
                    if payload.isascii() or is_utf8(payload):
                        frames.append((TEXT, payload))
                        position = stop
                        continue
            stop = self._take_frame_or_fail(data, position, frames)
            if not stop:
                self._incomplete += data[position:] if position else data
            if not stop or self._over:
                break
            position = stop
        return frames

    @property
    def is_between_frames(self) -> bool:
        """Open, and nothing of the peer's is pending: the next byte begins a message."""
        return not (self._incomplete or self._message_opcode or self._over)

    def sole_text(self, data: bytes) -> bytes | None:
        """The payload when `data` is exactly one whole text message of usual length, and nothing is pending.

        The short cut of `receive` for whoever recognises the payload at sight: it has *not* been checked to
        be UTF-8. None says nothing about `data`: then, and when the payload was not recognised, `receive`
        takes it, which this leaves as it was.
        """
        size = len(data) - self._header_bytes
        if size < LENGTH_16 or size > self._max_message_bytes:
            return None
        if self._incomplete or self._message_opcode or self._over:
            return None
        opening, length = _OPENING_16(data, 0)
        if opening != self._long_text or length != size:
            return None
        if self._client:
            return data[4:]
        return apply_mask(data[8:], data[4:8])

    def encode_text(self, payload: bytes) -> bytes:
        """One unfragmented text frame of `payload`, which has to be UTF-8; `b""` once a close was sent."""
        if self.close_sent:
            return b""
        length = len(payload)
        if self._client:
            key = (self._keys or self._draw_keys()).pop()
            if LENGTH_16 <= length < 0x10000:
                return (
                    header_16(_WHOLE_TEXT, MASKED | LENGTH_16, length)
                    + key
                    + apply_mask(payload, key)
                )
            return encode_header(_WHOLE_TEXT, length, MASKED) + key + apply_mask(payload, key)
        if LENGTH_16 <= length < 0x10000:
            return header_16(_WHOLE_TEXT, LENGTH_16, length) + payload
        return encode_header(_WHOLE_TEXT, length, 0) + payload

    def encode_ping(self, payload: bytes = b"") -> bytes:
        """A ping; `b""` once a close was sent. Raises ValueError for a payload of more than 125 bytes."""
        return self._encode_control(PING, payload)

    def encode_pong(self, payload: bytes = b"") -> bytes:
        """The answer to a ping of that payload, with the same rules as `encode_ping`."""
        return self._encode_control(PONG, payload)

    def encode_close(self, code: int = NORMAL, reason: str = "") -> bytes:
        """Our one close frame: sets `close_sent`, and every `encode_*` from then on gives `b""`.

        A reason that does not fit is cut to 123 bytes at a character. 1005 sends a close without code,
        so that a received code can be handed back as it is. Raises ValueError for a code that no endpoint
        may send (RFC 6455 section 7.4).
        """
        frame = self._encode_control(CLOSE, encode_close_payload(code, reason))
        self.close_sent = True
        return frame

    def _encode_control(self, opcode: int, payload: bytes) -> bytes:
        if len(payload) > CONTROL_MAX_BYTES:
            raise ValueError(f"a control frame holds 125 bytes, not {len(payload)}")
        if self.close_sent:
            return b""
        if not self._client:
            return header_7(FIN | opcode, len(payload)) + payload
        key = (self._keys or self._draw_keys()).pop()
        return header_7(FIN | opcode, MASKED | len(payload)) + key + apply_mask(payload, key)

    def _draw_keys(self) -> list[bytes]:
        self._keys = list(_SPLIT_KEYS(self._random_bytes(4 * _KEYS_PER_DRAW)))
        return self._keys

    def _take_frame_or_fail(
        self, data: bytes, position: int, frames: list[tuple[int, bytes]]
    ) -> int:
        try:
            return self._take_frame(data, position, frames)
        except WebSocketError as error:
            # The traceback leads to this frame and thereby to `self`: a cycle with `data` in it.
            self._end(error.with_traceback(None))
            return len(data)

    def _take_frame(self, data: bytes, position: int, frames: list[tuple[int, bytes]]) -> int:
        """Take the frame at `position`; returns where it ends, or 0 when `data` ends before it.

        All that the header says is judged as soon as the header is there.
        """
        available = len(data) - position
        if available < 2:
            return self._wait_for(2)
        first, second = data[position], data[position + 1]
        check_opening(
            first, second, masked=not self._client, within_message=self._message_opcode != 0
        )
        start = position + 2
        length = second & 0x7F
        if length >= LENGTH_16:
            start += 2 if length == LENGTH_16 else 8
            if available < start - position:
                return self._wait_for(start - position)
            length = decode_length(data[position + 2 : start])
        opcode = first & 0x0F
        if opcode < CLOSE and len(self._message) + length > self._max_message_bytes:
            raise WebSocketError(TOO_BIG, f"message of more than {self._max_message_bytes} bytes")
        if not self._client:
            start += 4
        stop = start + length
        if available < stop - position:
            return self._wait_for(stop - position)
        payload = data[start:stop]
        if not self._client:
            payload = apply_mask(payload, data[start - 4 : start])
        if opcode >= CLOSE:
            self._take_control(opcode, payload, frames)
        else:
            self._take_data(opcode, first & FIN != 0, payload, frames)
        return stop

    def _wait_for(self, needed_bytes: int) -> int:
        self._needed_bytes = needed_bytes
        return 0

    def _take_data(
        self, opcode: int, final: bool, payload: bytes, frames: list[tuple[int, bytes]]
    ) -> None:
        if opcode != CONTINUATION:
            if final:
                if opcode == TEXT and not is_utf8(payload):
                    raise WebSocketError(INVALID_DATA, "text message is not UTF-8")
                frames.append((opcode, payload))
                return
            self._message_opcode = opcode
            self._utf8 = _new_utf8_decoder() if opcode == TEXT else None
        if self._utf8 is not None and not _continues_utf8(self._utf8, payload, final):
            raise WebSocketError(INVALID_DATA, "text message is not UTF-8")
        self._message += payload
        if final:
            frames.append((self._message_opcode, bytes(self._message)))
            self._forget_message()

    def _take_control(self, opcode: int, payload: bytes, frames: list[tuple[int, bytes]]) -> None:
        if opcode == CLOSE:
            self.close_received = decode_close_payload(payload)
            self._end()
        frames.append((opcode, payload))

    def _end(self, failure: WebSocketError | None = None) -> None:
        self.failure = failure
        self._over = True
        self._forget_message()

    def _forget_message(self) -> None:
        self._message_opcode = 0
        self._message.clear()
        self._utf8 = None


def _continues_utf8(decoder: codecs.IncrementalDecoder, payload: bytes, final: bool) -> bool:
    try:
        decoder.decode(payload, final)
    except UnicodeDecodeError:
        return False
    return True
