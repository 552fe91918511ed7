"""A customer's server that takes pushes, and checks them with Standard Webhooks' own library."""

from __future__ import annotations

from typing import Any

import h11
import standardwebhooks
import trio


class Receiver:
    """Answers `statuses` in turn, the last one for ever."""

    def __init__(self, statuses: list[int]) -> None:
        self.url = ""
        self.got: list[tuple[int, dict[str, str], bytes]] = []
        self._statuses = statuses

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; `url` is known once it has started."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/hook"
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve, listeners)
            task_status.started()

    def verified(self, secret: str) -> list[dict[str, Any]]:
        """What was accepted, in order. Raises WebhookVerificationError for a bad signature of any."""
        verifier = standardwebhooks.Webhook(secret)
        read = [(status, verifier.verify(body, headers)) for status, headers, body in self.got]
        return [event for status, event in read if status < 300]

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        headers: dict[str, str] = {}
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Request):
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                break
        status = self._statuses[min(len(self.got), len(self._statuses) - 1)]
        self.got.append((status, headers, body))
        answer = h11.Response(status_code=status, headers=[("content-length", "0")])
        await stream.send_all(
            (connection.send(answer) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        )
        await stream.aclose()
