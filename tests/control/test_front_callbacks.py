"""Callbacks at the public port, as they come over a connection."""

from __future__ import annotations

import pytest
import trio

from control.hooks.app import BODY_MAX_BYTES, create_hooks
from control.metrics import Metrics
from tests.control.front_rig import TOKEN, open_front, read_all

CHUNK = b"%x\r\n%b\r\n" % (BODY_MAX_BYTES, b"a" * BODY_MAX_BYTES)


PATHS = [b"/twilio/status", b"/twilio/stream", b"/twilio/amd", b"/twilio/voice"]


@pytest.mark.parametrize("path", PATHS)
async def test_callback_length_beside_chunks_is_not_believed(path):
    """h11 reads the chunks then, as many as come: refused as soon as they are too much, though the body has no end."""
    app = create_hooks(
        object(),  # type: ignore[arg-type]  # nothing gets so far
        public_url="https://gw.example.com",
        tokens=(TOKEN,),
        metrics=Metrics(),
    )
    head = (
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
        % path
    )
    async with open_front(app) as rig, await rig.connect() as stream:
        with trio.fail_after(5):
            await stream.send_all(head + CHUNK + CHUNK)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 413 ")
