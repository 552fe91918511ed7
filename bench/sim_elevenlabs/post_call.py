"""The post-call webhook: signed like the service's own, sent once a conversation's analysis is there.

Source: ElevenLabs docs, "Webhooks" (`ElevenLabs-Signature: t=…,v0=…`), "Post-call webhooks".
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import trio

from bench.sim_elevenlabs import views
from bench.sim_elevenlabs.record import ConversationRecord

if TYPE_CHECKING:
    from bench.sim_elevenlabs.server import ElevenLabsSim

LOOK_EVERY_S = 0.05
TIMEOUT_S = 10.0


def signature(secret: str, body: bytes, at_s: float) -> str:
    """The header's value."""
    signed = f"{int(at_s)}.".encode() + body
    return f"t={int(at_s)},v0=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def envelope(data: dict[str, Any], at_s: float, kind: str = "post_call_transcription") -> bytes:
    """The body of the webhook."""
    return json.dumps({"type": kind, "event_timestamp": int(at_s), "data": data}).encode()


class PostCall:
    """Sends the webhook for each conversation that has ended; `answers` are `(conversation id, status)`.

    `delay_s` is how long the analysis takes; `copies` how often each webhook is sent.
    """

    def __init__(
        self, sim: ElevenLabsSim, url: str, secret: str, *, delay_s: float = 0.2, copies: int = 1
    ) -> None:
        self.answers: list[tuple[str, int | None]] = []
        self._sim = sim
        self._url = url
        self._secret = secret
        self._delay_s = delay_s
        self._copies = copies
        self._begun: set[str] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    for record in list(self._sim.conversations.values()):
                        is_over = record.ended_at_s is not None
                        if is_over and record.conversation_id not in self._begun:
                            self._begun.add(record.conversation_id)
                            nursery.start_soon(self._send, client, record)
                    await trio.sleep(LOOK_EVERY_S)

    async def _send(self, client: httpx.AsyncClient, record: ConversationRecord) -> None:
        await trio.sleep(self._delay_s)
        # What the webhook tells is done, whatever polling would be told meanwhile.
        record.status_polls = record.script.rest.processing_polls
        data = views.conversation_full(record)
        for _ in range(self._copies):
            now_s = time.time()
            body = envelope(data, now_s)
            headers = {
                "ElevenLabs-Signature": signature(self._secret, body, now_s),
                "Content-Type": "application/json",
            }
            status: int | None = None
            with contextlib.suppress(httpx.HTTPError):
                status = (await client.post(self._url, content=body, headers=headers)).status_code
            self.answers.append((record.conversation_id, status))
