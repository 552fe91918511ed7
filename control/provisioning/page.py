"""A business's page: an address that ElevenLabs can read from the internet. Pure.

ElevenLabs asks for the page, from its own network; we never do. So only what the address itself says is looked at
here: where its name leads, and where the page sends its reader, is theirs to find out, and nothing of ours is reached.

Source: ElevenLabs, "Create knowledge base document from URL"; RFC 6761, 6762, 7686, 8375, 9476 and ICANN's `internal`
for names that no public resolver knows; WHATWG URL, "ends in a number", for addresses in other spellings (`127.1`,
`0x7f000001`).
"""

from __future__ import annotations

import re

import httpx

from control.webhooks_out.targets import check_literal

_NOT_PUBLIC = frozenset(
    (
        *("localhost", "local", "internal", "home.arpa", "invalid", "test", "onion", "alt"),
        *("lan", "intranet", "corp", "home", "private"),
    )
)
"""Names, and all below them."""
_NAME = re.compile(r"[a-z0-9_.-]+")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)


def check_page(text: str, *, allow_private: bool) -> None:
    """Raises ValueError that says why ElevenLabs cannot read it, or must not be told to.

    `allow_private` is for set-ups without the internet: names and addresses of one's own network then pass.
    """
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii").lower().rstrip(".")
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not host:
        raise ValueError("expected http:// or https:// and a host")
    if url.userinfo:
        raise ValueError("a user and password in the URL would be told to ElevenLabs")
    if check_literal(host, allow_private=allow_private) or allow_private:
        return
    if not _NAME.fullmatch(host):
        raise ValueError("is no name of a host")
    last = host.rpartition(".")[2]
    if _NUMBER.fullmatch(last):
        raise ValueError("is an IP address in an unusual spelling")
    if "." not in host or any(host == name or host.endswith(f".{name}") for name in _NOT_PUBLIC):
        raise ValueError("is no public name: ElevenLabs reads the page from the internet")
