"""What is known of the one who calls, as dynamic variables of the conversation. Pure.

What Twilio says of a caller comes from strangers' networks, and a summary from a model: it is cleaned of
control characters and cut before it gets into a prompt. Every name below is always there, empty when nothing is
known, because a prompt that refers to a variable that is missing fails its conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control.store.routes import Acquaintance

NAME_MAX_CHARS = 80
PLACE_MAX_CHARS = 60
SUMMARY_MAX_CHARS = 600

NAMES = (
    "caller_name",
    "caller_city",
    "caller_state",
    "caller_zip",
    "caller_country",
    "earlier_calls",
    "last_call_at",
    "last_call_summary",
    "business_open",
)
"""Documented in `docs/routing.md`."""

UNKNOWN: dict[str, Any] = dict.fromkeys(NAMES, "") | {"earlier_calls": 0}
"""Nothing is known: what outbound calls start with."""

_PLACES = {
    "caller_city": "FromCity",
    "caller_state": "FromState",
    "caller_zip": "FromZip",
    "caller_country": "FromCountry",
}


def variables(form: Mapping[str, str], known: Acquaintance) -> dict[str, Any]:
    """The variables NAMES, from Twilio's parameters and from the tenant's earlier calls."""
    found: dict[str, Any] = {
        name: clean(form.get(key, ""), PLACE_MAX_CHARS) for name, key in _PLACES.items()
    }
    found["caller_name"] = clean(form.get("CallerName", ""), NAME_MAX_CHARS)
    found["business_open"] = ""  # known once the rules were asked
    found["earlier_calls"] = known.calls
    found["last_call_at"] = known.last_at.isoformat(timespec="seconds") if known.last_at else ""
    found["last_call_summary"] = clean(known.last_summary or "", SUMMARY_MAX_CHARS)
    return found


def clean(text: str, most_chars: int) -> str:
    """One line of printable characters, at most so many; no braces, which are a prompt's own."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(line.replace("{", "(").replace("}", ")").split())[:most_chars]


def address_of(text: str) -> str:
    """The number in a SIP address (`sip:+14155550100@example.com` gives `+14155550100`), else as it is.

    A SIP domain's calls name a number of ours in the user part, with or without its plus.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or scheme.lower() not in ("sip", "sips"):
        return text
    user = rest.partition("@")[0].partition(";")[0]
    digits = user.removeprefix("+").removeprefix("%2B").removeprefix("%2b")
    return f"+{digits}" if digits.isascii() and digits.isdecimal() else text
