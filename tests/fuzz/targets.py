"""What is fuzzed: each target takes any bytes and may only end as its docstring in the product says."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from control import config, journal, log, returning
from control.config_sources import ConfigError
from control.twilio import signature
from gateway import convai, link, twilio_media, websocket
from gateway.errors import GatewayError, LinkError

log.configure(level="error", format="json", secrets=())

MESSAGE_MAX_BYTES = 4_096


def websocket_frames(data: bytes) -> None:
    """Any bytes in any two pieces give what they give in one; nothing raises; memory is bounded."""
    if not data:
        return
    is_client, cut, wire = bool(data[0] & 1), data[0] >> 1, data[1:]
    whole = websocket.WebSocket(client=is_client, max_message_bytes=MESSAGE_MAX_BYTES)
    parts = websocket.WebSocket(client=is_client, max_message_bytes=MESSAGE_MAX_BYTES)
    at_once = whole.receive(wire)
    in_parts = parts.receive(wire[:cut]) + parts.receive(wire[cut:])
    assert at_once == in_parts, "another cut, other messages"
    assert (whole.failure is None) == (parts.failure is None), "another cut, another failure"
    for _, payload in at_once:
        assert len(payload) <= MESSAGE_MAX_BYTES, "longer than the bound"


def twilio(data: bytes) -> None:
    """The short cut never disagrees with the decoder; only MediaStreamError leaves."""
    quick = twilio_media.split_media(data)
    try:
        event = twilio_media.decode(data)
    except GatewayError:
        assert quick is None, "the short cut took what the decoder refuses"
        return
    if quick is not None:
        assert isinstance(event, twilio_media.CallerMedia), "the short cut took another event"
        assert quick[1] == event.timestamp_ms, "the short cut read another timestamp"


def elevenlabs(data: bytes) -> None:
    """The short cut never disagrees with the decoder; only ConversationError leaves."""
    quick = convai.split_audio(data)
    try:
        event = convai.decode(data)
    except GatewayError:
        assert quick is None, "the short cut took what the decoder refuses"
        return
    if quick is not None:
        assert event is not None, "the short cut took an unknown event"


def link_packets(data: bytes) -> None:
    """Only LinkError leaves; what is understood is encoded and understood again."""
    try:
        message = link.decode(data)
    except LinkError:
        return
    try:
        packet = link.encode(message)
    except LinkError:
        return
    assert link.encode(link.decode(packet)) == packet, "not the same the second time"


def webhook_form(data: bytes) -> None:
    """A form has a value for each name, or is refused with ValueError; a stranger's signature never fits."""
    try:
        form = signature.parse_form(data)
    except ValueError:
        return
    assert all(form.values()), "a name without values"
    url = "https://voice.example.com/twilio/voice"
    given = data[:28].decode("latin-1")
    signed = signature.sign(url, form, "token")
    assert signature.valid(url, form, signed, ("token",)), "our own signature does not fit"
    if given != signed:
        assert not signature.valid(url, form, given, ("other",)), "a foreign signature fits"


def configuration(data: bytes) -> None:
    """Any file gives settings or ConfigError."""
    with _file(data, ".toml") as path, contextlib.suppress(ConfigError):
        config.load(path, {})


@contextlib.contextmanager
def _file(data: bytes, suffix: str) -> Iterator[Path]:
    descriptor, name = tempfile.mkstemp(suffix=suffix)
    try:
        os.write(descriptor, data)
        yield Path(name)
    finally:
        os.close(descriptor)
        os.unlink(name)


def worker_spool(data: bytes) -> None:
    """What a worker has left on the disk: messages, lines that are no messages left out."""
    with _file(data, ".spool") as path:
        messages = returning.read_spool(path, lambda *_, **__: None)
    for message in messages:
        assert link.decode(link.encode(message)) == message, "not the same the second time"


def journal_lines(data: bytes) -> None:
    """What a daemon has left of ended calls: changes, lines that are none left out."""
    with _file(data, ".journal") as path:
        for changes in journal._read(path):
            assert changes.call_id
            assert all(isinstance(name, str) for name, _, _ in changes.lines)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "websocket": websocket_frames,
    "twilio": twilio,
    "elevenlabs": elevenlabs,
    "link": link_packets,
    "webhook_form": webhook_form,
    "config": configuration,
    "spool": worker_spool,
    "journal": journal_lines,
}
