"""The REST calls that control makes to ElevenLabs: the transport, and reading agents and conversations.

Errors say whether asking again can help:

    ElevenLabsRefused        it answered no (4xx); `code` is its own word for why
    ElevenLabsUnavailable    no usable answer: network, deadline, 429, 5xx, garbage, an answer too large

No request is repeated by this module. After ElevenLabsUnavailable a read may simply be repeated; of a write
it is not known whether it came to pass, so what was to be made is looked for first
(`control.elevenlabs.workspace`).

Source: ElevenLabs API reference, "Get agent", "Get conversation details"; error bodies as seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import trio

from control.config import ElevenLabsSettings
from control.strangers import read_json

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 15.0
"""For the whole exchange: a body that trickles is no answer."""
REPLY_MAX_BYTES = 8 * 1024 * 1024
"""A long call's transcript with every tool result is below 2 MB."""
CONNECTIONS_MAX = 16
_SAMPLE_MAX_CHARS = 300
_LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


class ElevenLabsError(Exception):
    """Base of what a request to ElevenLabs can end in."""


class ElevenLabsRefused(ElevenLabsError):
    """It said no: `status` is the HTTP status, `code` its own status word ("" when it gave none)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"ElevenLabs refused: {message or 'no reason given'} (HTTP {status})")
        self.status = status
        self.code = code
        self.message = message


class ElevenLabsUnavailable(ElevenLabsError):
    """No usable answer now; `status` is the HTTP status if there was one."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(f"ElevenLabs is not available: {reason}")
        self.reason = reason
        self.status = status


class ElevenLabsRest:
    """One workspace. Use it as an async context manager, or call `aclose()`.

    `count(endpoint, outcome)` is called once for each request; outcomes are `ok`, `refused`, `unavailable`.
    """

    def __init__(
        self,
        settings: ElevenLabsSettings,
        *,
        count: Callable[[str, str], None] = lambda endpoint, outcome: None,
        reply_timeout_s: float = REPLY_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._count = count
        self.observe: Callable[[str, float], None] = lambda endpoint, seconds: None
        """Told how long each request took."""
        self._reply_timeout_s = reply_timeout_s
        self._http = httpx.AsyncClient(
            base_url=settings.base_url,
            # Compressed, a small answer could become a large one.
            headers={"xi-api-key": settings.api_key.reveal(), "accept-encoding": "identity"},
            timeout=httpx.Timeout(reply_timeout_s, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            follow_redirects=False,  # the key must not follow to another host
            trust_env=urlsplit(settings.base_url).hostname not in _LOOPBACK,
            transport=transport,
        )

    async def __aenter__(self) -> ElevenLabsRest:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def get_agent(self, agent_id: str) -> dict[str, Any]:
        """The whole agent object. Raises ElevenLabsRefused (404: no such agent), ElevenLabsUnavailable."""
        return await self._get("agents.get", f"/v1/convai/agents/{part(agent_id)}")

    async def get_conversation(self, conversation_id: str) -> dict[str, Any]:
        """The conversation object, also while it is still being processed. Raises as `get_agent`."""
        return await self._get(
            "conversations.get", f"/v1/convai/conversations/{part(conversation_id)}"
        )

    async def _get(self, endpoint: str, path: str) -> dict[str, Any]:
        return await self.request(endpoint, "GET", path)

    async def request(
        self,
        endpoint: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One request; the object of its answer, empty for a DELETE. `endpoint` is for the metrics alone.

        Raises ElevenLabsRefused, ElevenLabsUnavailable.
        """
        outcome = "unavailable"
        began_s = trio.current_time()
        try:
            with trio.fail_after(self._reply_timeout_s):
                status, reply = await self._exchange(method, path, query, body)
            answer = {} if method == "DELETE" and status in (200, 204) else _judge(status, reply)
            outcome = "ok"
        except ElevenLabsRefused:
            outcome = "refused"
            raise
        except (trio.TooSlowError, httpx.TimeoutException) as error:
            raise ElevenLabsUnavailable(
                f"no answer within {self._reply_timeout_s:g} s"
                if not isinstance(error, httpx.ConnectTimeout)
                else f"no connection within {CONNECT_TIMEOUT_S:g} s"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ElevenLabsUnavailable(f"{type(error).__name__}: {error}") from error
        finally:
            self._count(endpoint, outcome)
            self.observe(endpoint, trio.current_time() - began_s)
        return answer

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> tuple[int, bytes]:
        async with self._http.stream(method, path, params=query, json=body) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ElevenLabsUnavailable("the answer is compressed", response.status_code)
            return response.status_code, await _read(response)


async def _read(response: httpx.Response) -> bytes:
    """The body. Raises ElevenLabsUnavailable as soon as it is too large."""
    body = bytearray()
    # A loop that is left early leaves httpx's nested generators to the garbage collector; a read that is
    # cancelled unwinds them.
    with trio.CancelScope() as reading:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > REPLY_MAX_BYTES:
                reading.cancel(reason="answer too large")
    if len(body) > REPLY_MAX_BYTES:
        raise ElevenLabsUnavailable(
            f"the answer is larger than {REPLY_MAX_BYTES} bytes", response.status_code
        )
    return bytes(body)


def part(opaque_id: str) -> str:
    """An id as one part of a path; dots too, or `..` would lead elsewhere."""
    return quote(opaque_id, safe="").replace(".", "%2E")


def _judge(status: int, body: bytes) -> dict[str, Any]:
    """The object in a 200, or the error that the answer stands for."""
    try:
        answer = read_json(body)
    except (ValueError, RecursionError):
        answer = None
    if status == 200:
        if not isinstance(answer, dict):
            raise ElevenLabsUnavailable("the answer is no JSON object", status)
        return answer
    code, message = _reason(answer)
    if status == 429 or not 400 <= status < 500:
        raise ElevenLabsUnavailable(f"HTTP {status} {message}".strip(), status)
    raise ElevenLabsRefused(status, code, message)


def _reason(answer: Any) -> tuple[str, str]:
    """Status word and message of the three known shapes of `detail`: object, list, text."""
    detail = answer.get("detail") if isinstance(answer, dict) else None
    code, message = "", ""
    if isinstance(detail, dict):
        code = str(detail.get("status") or detail.get("code") or "")
        message = str(detail.get("message") or code)
    elif isinstance(detail, list):
        code = "validation"
        message = "; ".join(_validation(item) for item in detail[:5] if isinstance(item, dict))
    elif isinstance(detail, str):
        message = detail
    return code, message[:_SAMPLE_MAX_CHARS]


def _validation(item: dict[str, Any]) -> str:
    place = item.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {item.get('msg', '')}".strip(": ")
