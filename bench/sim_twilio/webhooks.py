"""Requests to the server's webhooks: signed, with Twilio's deadlines, retries and overrides.

Source: Twilio, "Webhooks security" and "Webhooks connection overrides". A URL's fragment
(`#rc=3&rp=5xx,ct`) steers the request and is neither sent nor signed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qs, urldefrag, urlencode, urljoin, urlsplit
from uuid import uuid4

import httpx
import trio

from bench.sim_twilio.signing import HEADER, signature, url_as_signed

Params: TypeAlias = Sequence[tuple[str, str]]

TOTAL_MAX_MS = 15_000
"""A voice webhook has 15 s in all, whatever the overrides say."""
_RANGES = {"ct": (100, 10_000, 5_000), "rt": (100, 15_000, 15_000), "tt": (100, 15_000, 15_000)}
_REDIRECTS_MAX = 5
POLICIES = frozenset({"4xx", "5xx", "ct", "rt", "all"})


@dataclass(frozen=True, slots=True)
class Overrides:
    """Connection overrides of one URL; the defaults are Twilio's."""

    connect_ms: int = 5_000
    read_ms: int = 15_000
    total_ms: int = TOTAL_MAX_MS
    retries: int = 1
    policy: frozenset[str] = frozenset({"ct"})

    def retries_after(self, outcome: str) -> bool:
        """Whether `outcome` (`ct`, `rt`, `4xx`, `5xx`, `2xx`, `other`) is worth another attempt."""
        return outcome in self.policy or ("all" in self.policy and outcome != "2xx")


def parse_overrides(url: str) -> Overrides:
    """The overrides in the fragment of `url`; values out of range or unknown keep the default."""
    given = {name: values[-1] for name, values in parse_qs(urldefrag(url).fragment).items()}

    def number(name: str, low: int, high: int, default: int) -> int:
        text = given.get(name, "")
        return int(text) if text.isdecimal() and low <= int(text) <= high else default

    policy = frozenset(given["rp"].split(",")) if "rp" in given else frozenset({"ct"})
    return Overrides(
        connect_ms=number("ct", *_RANGES["ct"]),
        read_ms=number("rt", *_RANGES["rt"]),
        total_ms=number("tt", *_RANGES["tt"]),
        retries=number("rc", 0, 5, 1),
        policy=policy & POLICIES or frozenset({"ct"}),
    )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a webhook, as it is kept for tests to look at."""

    call_sid: str
    method: str
    url: str
    params: tuple[tuple[str, str], ...]
    number: int
    idempotency_token: str
    outcome: str
    status: int | None
    began_s: float
    ms: float

    def param(self, name: str) -> str | None:
        """The first value of one parameter."""
        return next((value for key, value in self.params if key == name), None)


@dataclass(frozen=True, slots=True)
class Reply:
    """How a webhook went in the end. `outcome` is `2xx` when it was answered well."""

    outcome: str
    status: int | None = None
    content_type: str = ""
    body: bytes = b""
    url: str = ""


def _is_requestable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Webhooks:
    """Sends signed requests and remembers every attempt."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        auth_token: Callable[[str], str],
        remember: Callable[[Attempt], None],
    ) -> None:
        self._client = client
        self._auth_token = auth_token
        self._remember = remember

    async def request(
        self, url: str, method: str, params: Params, *, call_sid: str, token: str | None = None
    ) -> Reply:
        """Send one webhook with retries as its URL orders. Never raises for the server's failures."""
        overrides = parse_overrides(url)
        token = token or str(uuid4())
        reply = Reply("rt")
        with trio.move_on_after(overrides.total_ms / 1000):
            for number in range(overrides.retries + 1):
                began_s = trio.current_time()
                shown: Reply | None = None
                try:
                    shown = reply = await self._attempt(url, method, params, overrides, token)
                finally:
                    outcome = Reply("rt") if shown is None else shown
                    self._remember(
                        Attempt(
                            call_sid=call_sid,
                            method=method,
                            url=urldefrag(url).url,
                            params=tuple(params),
                            number=number,
                            idempotency_token=token,
                            outcome=outcome.outcome,
                            status=outcome.status,
                            began_s=began_s,
                            ms=(trio.current_time() - began_s) * 1000,
                        )
                    )
                if not overrides.retries_after(reply.outcome):
                    return reply
        return reply

    async def _attempt(
        self, url: str, method: str, params: Params, overrides: Overrides, token: str
    ) -> Reply:
        if not _is_requestable(url):
            return Reply("other")
        timeout = httpx.Timeout(
            overrides.total_ms / 1000,
            connect=overrides.connect_ms / 1000,
            read=overrides.read_ms / 1000,
        )
        try:
            return await self._follow(urldefrag(url).url, method, params, timeout, token)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Reply("ct")
        except httpx.TimeoutException:
            return Reply("rt")
        except (httpx.HTTPError, httpx.InvalidURL):
            return Reply("other")

    async def _follow(
        self, url: str, method: str, params: Params, timeout: httpx.Timeout, token: str
    ) -> Reply:
        auth_token = self._auth_token(dict(params).get("AccountSid", ""))
        for _ in range(_REDIRECTS_MAX):
            request = self._build(url, method, params, timeout, token, auth_token)
            response = await self._client.send(request, follow_redirects=False)
            if not response.has_redirect_location:
                break
            url = urljoin(url, response.headers["location"])
            if response.status_code in (301, 302, 303):
                # Followed with GET; the parameters of the POST are lost (Twilio, "Webhooks FAQ").
                method, params = "GET", ()
        status = response.status_code
        return Reply(
            outcome="2xx" if 200 <= status < 300 else "5xx" if status >= 500 else "4xx",
            status=status,
            content_type=response.headers.get("content-type", ""),
            body=response.content,
            url=url,
        )

    def _build(
        self,
        url: str,
        method: str,
        params: Params,
        timeout: httpx.Timeout,
        token: str,
        auth_token: str,
    ) -> httpx.Request:
        content = None
        headers = {
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
            "I-Twilio-Idempotency-Token": token,
            "X-Home-Region": "us1",
        }
        if method == "GET":
            if params:
                url += ("&" if urlsplit(url).query else "?") + urlencode(params)
            headers[HEADER] = signature(auth_token, url_as_signed(url))
        else:
            content = urlencode(params).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
            headers[HEADER] = signature(auth_token, url_as_signed(url), params)
        return self._client.build_request(
            method, url, content=content, headers=headers, timeout=timeout
        )
