"""What single settings may be: addresses, origins, ranges. Pure.

The functions take a value as it was read and return the field's value, or raise ValueError with what is
wrong and what would be right; the caller puts the key before it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.settings import MediaSettings

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_LABEL = re.compile(r"[a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on. Port 0 lets the kernel choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Listen:
        """From `host:port`, an IPv6 host in brackets. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f'expected "host:port", got {text!r}')
        if host.startswith("[") and host.endswith("]"):
            host = str(ipaddress.IPv6Address(host[1:-1]))
        elif ":" in host:
            raise ValueError(f'an IPv6 address goes in brackets: "[{host}]:{port}"')
        elif not _HOST_NAME.fullmatch(host):
            raise ValueError(f'expected "host:port", got {text!r}')
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. Of names only `localhost` is known."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def clashes_with(self, other: Listen) -> bool:
        """Whether both cannot be listened on at once, as far as the texts tell."""
        return self.port != 0 and self == other


def origin(text: str) -> str:
    """`http(s)://host[:port]`, returned without a trailing slash. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected http(s)://host[:port], got {text!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password")
    if parts.path not in ("", "/") or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError(f"must have no path and no query, got {text!r}")
    if any(char.isspace() for char in text) or parts.port == 0:  # .port raises when out of range
        raise ValueError(f"expected http(s)://host[:port], got {text!r}")
    return text.removesuffix("/")


def origin_or_none(text: str) -> str:
    """The same, or the empty text. Raises ValueError."""
    return origin(text) if text else ""


def websocket_origin(http_origin: str) -> str:
    """`https://host` as `wss://host`, `http://host` as `ws://host`."""
    scheme, _, rest = http_origin.partition("://")
    return ("wss://" if scheme == "https" else "ws://") + rest


def media_origin(text: str) -> str:
    """`ws(s)://host[:port]`, or nothing. Raises ValueError."""
    if not text:
        return ""
    scheme, separator, rest = text.partition("://")
    if scheme not in ("ws", "wss"):
        raise ValueError(f"expected wss://host[:port], got {text!r}")
    try:
        return scheme + origin("http" + separator + rest).removeprefix("http")
    except ValueError as error:
        raise ValueError(str(error).replace("http", "ws")) from error


def account_sid(text: str) -> str:
    """A Twilio account SID. Raises ValueError, above all for an API key's SID (`SK…`)."""
    if not text.startswith("AC"):
        raise ValueError(f"expected an account SID, which begins with AC, got {text[:2]}…")
    return text


def host_label(text: str) -> str:
    """One label of a host name, or nothing. Raises ValueError."""
    if not _LABEL.fullmatch(text):
        raise ValueError(f'expected a name like "dublin" or "ie1", got {text!r}')
    return text


def positive(number: float) -> float:
    """A finite number above zero. Raises ValueError."""
    if not 0 < number < float("inf"):
        raise ValueError(f"must be above 0, got {number}")
    return number


def not_negative(number: int) -> int:
    """A number that is not below zero. Raises ValueError."""
    if number < 0:
        raise ValueError(f"expected 0 or more, got {number}")
    return number


def percent(number: int) -> int:
    """A part that is not the whole. Raises ValueError."""
    if not 0 <= number < 100:
        raise ValueError(f"expected 0 to 99, got {number}")
    return number


def one_of(*choices: str) -> Callable[[str], str]:
    """A check that the value is one of the choices."""

    def check(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}, got {text!r}")
        return text

    return check


def store_url(text: str) -> str:
    """`sqlite:///path` or `postgresql://…`. Raises ValueError (which shows the scheme alone)."""
    scheme = text.partition(":")[0]
    if not re.fullmatch(r"(sqlite|postgresql)(\+\w+)?", scheme) or "://" not in text:
        raise ValueError(f"expected sqlite:///path or postgresql://…, got {scheme[:20]}:…")
    return text


def store_url_masked(text: str) -> tuple[str, str]:
    """The URL with its password as `***`, and that password (empty when there is none)."""
    match = re.match(r"([^:/]+://[^:/@]*:)(.+)(@[^@]*)$", text)
    return (f"{match[1]}***{match[3]}", match[2]) if match else (text, "")


_MEDIA_RANGES: dict[str, tuple[float, float]] = {
    "workers": (0, 1024),
    "max_calls_per_worker": (1, 100_000),
    "admit_lateness_ms": (0, 1_000),
    "admit_load_percent": (0, 100),
    "frame_ms": (20, 200),
    "lead_ms": (20, 5_000),
    "lead_max_ms": (20, 10_000),
    "prebuffer_max_ms": (0, 5_000),
    "playout_max_ms": (1_000, 3_600_000),
    "mark_interval_ms": (20, 10_000),
    "caller_audio_max_ms": (20, 60_000),
    "gap_fill_min_ms": (20, 60_000),
    "gap_fill_max_ms": (20, 600_000),
    "caller_message_max_bytes": (1_024, 16 * 1024 * 1024),
    "agent_message_max_bytes": (64 * 1024, 256 * 1024 * 1024),
    "leg_write_max_bytes": (4_096, 64 * 1024 * 1024),
    "agent_connect_timeout_s": (0.1, 120),
    "agent_handshake_timeout_s": (0.1, 120),
    "agent_first_message_timeout_s": (0.1, 120),
    "agent_idle_timeout_s": (1, 3_600),
    "agent_redials": (0, 5),
    "agent_redial_s": (0.5, 10),
    "stream_start_timeout_s": (0.1, 120),
    "inbound_attach_timeout_s": (0.1, 600),
    "outbound_attach_timeout_s": (0.1, 600),
    "drain_margin_s": (0, 60),
    "close_timeout_s": (0.05, 60),
    "max_call_s": (1, 24 * 3600),
    "drain_timeout_s": (0, 24 * 3600),
    "control_return_timeout_s": (0, 600),
}
"""Lowest and highest value, both included, in the key's own unit. A call of Twilio's lasts 24 h at most."""

_MEDIA_NOT_ABOVE: tuple[tuple[str, str], ...] = (
    ("lead_ms", "lead_max_ms"),
    ("gap_fill_min_ms", "gap_fill_max_ms"),
)


def problems_of(media: MediaSettings) -> list[str]:
    """One line for each value of `[media]` that is out of its range or fits no other."""
    found = []
    for key, (low, high) in _MEDIA_RANGES.items():
        value = getattr(media, key)
        if not low <= value <= high:
            found.append(f"media.{key}: must be between {low:g} and {high:g}, got {value}")
    if media.frame_ms % 20:
        found.append(f"media.frame_ms: must be a multiple of 20, got {media.frame_ms}")
    for low_key, high_key in _MEDIA_NOT_ABOVE:
        low, high = getattr(media, low_key), getattr(media, high_key)
        if low > high:
            found.append(f"media.{low_key}: must not be above {high_key} ({high}), got {low}")
    if media.warm_outbound not in ("ringing", "answer"):
        found.append(
            f"media.warm_outbound: expected one of ringing, answer, got {media.warm_outbound!r}"
        )
    if not media.recording_dir:
        found.append("media.recording_dir: is empty")
    return found
