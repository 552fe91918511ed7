"""Where a push may go, and one request to there.

A URL that a customer gives must not reach what only this machine reaches. So the name is resolved here, every
address is checked, and the connection goes to the very address that was checked: the URL's host is replaced by
it, `Host` and the TLS name stay the customer's. Redirects are not followed, and no proxy is used.

Source: OWASP, "Server-Side Request Forgery Prevention"; httpx, "Request extensions: sni_hostname".
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import httpx
import trio

CONNECT_TIMEOUT_S = 5.0
DEADLINE_S = 15.0
"""For name, connection, request and answer together."""
ANSWER_MAX_BYTES = 64 * 1024
ADDRESSES_MAX = 3
URL_MAX_CHARS = 2_000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]


class BadTarget(ValueError):
    """No push may go there; the text says why."""


class PushFailed(Exception):
    """It was not accepted. `status` is the HTTP status if there was one, `retry_after_s` what it asked for."""

    def __init__(
        self, error: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(error)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx."""

    status: int


def check_url(text: str, *, allow_private: bool) -> httpx.URL:
    """What can be seen of a URL without asking anybody. Raises BadTarget."""
    if len(text) > URL_MAX_CHARS:
        raise BadTarget(f"longer than {URL_MAX_CHARS} characters")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise BadTarget(f"not a URL: {error}") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if url.scheme not in schemes:
        raise BadTarget(f"expected {' or '.join(schemes)}://")
    if not url.host:
        raise BadTarget("names no host")
    if url.userinfo:
        raise BadTarget("a user and password in the URL are not supported; the pushes are signed")
    if url.fragment:
        raise BadTarget("a fragment is never sent")
    if check_literal(url.host, allow_private=allow_private) or allow_private:
        return url
    if url.host == "localhost" or url.host.endswith(".localhost"):
        raise BadTarget("is this machine itself")
    return url


def check_literal(host: str, *, allow_private: bool) -> bool:
    """Whether the host is an IP address, rather than a name. Raises BadTarget for one that is not public."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return False
    _check_address(literal, allow_private=allow_private)
    return True


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises OSError."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


async def addresses(url: httpx.URL, *, allow_private: bool, resolver: Resolve) -> list[str]:
    """The checked addresses of a URL's host. Raises BadTarget when any is not public, PushFailed for none."""
    if check_literal(url.host, allow_private=allow_private):
        return [url.host]
    try:
        found = await resolver(url.host, url.port or (443 if url.scheme == "https" else 80))
    except (OSError, UnicodeError) as error:
        raise PushFailed(f"{url.host} has no address: {error}") from error
    if not found:
        raise PushFailed(f"{url.host} has no address")
    for one in found:
        _check_address(ipaddress.ip_address(one.partition("%")[0]), allow_private=allow_private)
    return found[:ADDRESSES_MAX]


async def push(
    url: httpx.URL,
    body: bytes,
    headers: dict[str, str],
    *,
    allow_private: bool,
    resolver: Resolve = resolve,
    deadline_s: float = DEADLINE_S,
    verify: bool | object = True,
) -> Answer:
    """POST it once. Raises BadTarget, PushFailed."""
    try:
        with trio.fail_after(deadline_s):
            found = await addresses(url, allow_private=allow_private, resolver=resolver)
            async with httpx.AsyncClient(
                timeout=httpx.Timeout(deadline_s, connect=CONNECT_TIMEOUT_S),
                follow_redirects=False,
                trust_env=False,
                verify=verify,  # type: ignore[arg-type]
            ) as client:
                return await _first(client, url, found, body, headers)
    except trio.TooSlowError as error:
        raise PushFailed(f"no answer within {deadline_s:g} s") from error


async def _first(
    client: httpx.AsyncClient,
    url: httpx.URL,
    found: list[str],
    body: bytes,
    headers: dict[str, str],
) -> Answer:
    """The next address only while nothing can have been sent."""
    for left, address in zip(reversed(range(len(found))), found, strict=True):
        try:
            return await _post(client, url, address, body, headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if not left:
                raise PushFailed(f"no connection: {_cause(error)}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PushFailed(f"{type(error).__name__}: {error}") from error
    raise AssertionError("unreachable")


async def _post(
    client: httpx.AsyncClient,
    url: httpx.URL,
    address: str,
    body: bytes,
    headers: dict[str, str],
) -> Answer:
    request = client.build_request(
        "POST",
        url.copy_with(host=address),
        content=body,
        headers={
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "tandem",
            "Accept-Encoding": "identity",
            **headers,
        },
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
    )
    response = await client.send(request, stream=True)
    try:
        status = response.status_code
        retry_after_s = _seconds(response.headers.get("retry-after"))
        # Read a little, so that a target is not cut off while it writes; what it says is of no interest.
        with trio.CancelScope() as reading:
            size = 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > ANSWER_MAX_BYTES:
                    reading.cancel()
    finally:
        await response.aclose()
    if 200 <= status < 300:
        return Answer(status)
    if 300 <= status < 400:
        raise PushFailed(f"HTTP {status}: redirects are not followed", status)
    raise PushFailed(f"HTTP {status}", status, retry_after_s)


def _cause(error: BaseException) -> str:
    """The words of what was at the bottom of it; httpx has none of its own for a TLS failure."""
    words, at = "", error
    for _ in range(8):
        words = str(at) or words
        below = at.__cause__ or at.__context__
        if below is None:
            break
        at = below
    return (words or type(error).__name__)[:200]


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else None


def _check_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, *, allow_private: bool
) -> None:
    inner = _inner(address)
    if inner.is_multicast or inner.is_unspecified:
        raise BadTarget(f"{address} is no address of a host")
    if not allow_private and not inner.is_global:
        raise BadTarget(f"{address} is a private or local address")


def _inner(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
