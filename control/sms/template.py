"""Templates of text messages: `{field}` stands for a value of the call. Pure; nothing is executed.

Only plain names are known: `{party_size}`, never `{a.b}`, `{a[0]}` or `{a:>10}`. Doubled braces are braces.
The control API refuses an agent whose template names a field that no call of the agent will have; `BUILT_IN`
are those that every call has beside the agent's extractions and variables.

Source: 3GPP TS 23.038, 6.2.1 (GSM 7 bit default alphabet and its extension); Twilio, "What the heck is a
segment?": 160 and 153 septets, or 70 and 67 UTF-16 units; "Messages resource": 1,600 characters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

BUILT_IN = frozenset(
    (
        "agent_name",
        "business_name",
        "location",
        "caller_number",
        "called_number",
        "call_id",
        "summary",
    )
)
BODY_MAX_CHARS = 1_600
VALUE_MAX_CHARS = 500
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_AS_IN_PROMPTS = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
"""A dynamic variable, as a prompt of ElevenLabs has it. Nobody wants to send a customer a name in braces."""
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")


class TemplateProblem(ValueError):
    """The template cannot be used; the text says why."""


def fields(template: str) -> set[str]:
    """The names in single braces, whatever they look like; doubled braces are braces."""
    return {part[1].strip() for part in _PART.finditer(template) if part[1] is not None}


def check(template: str, known: Collection[str]) -> None:
    """Raises TemplateProblem for an empty template, a single brace, a field that is not `known`,
    and a prompt's `{{variable}}`.
    """
    if not template.strip():
        raise TemplateProblem("is empty")
    if len(template) > BODY_MAX_CHARS:
        raise TemplateProblem(f"longer than {BODY_MAX_CHARS} characters")
    for part in _PART.finditer(template):
        if part[0] in ("{", "}"):
            raise TemplateProblem(f"a single {part[0]} at {part.start()}; write {part[0] * 2}")
    if as_in_prompts := _AS_IN_PROMPTS.search(template):
        words = "would be sent with its braces: a prompt's variable is doubled, a message's is not"
        raise TemplateProblem(f"{as_in_prompts[0]} {words}; write {{{as_in_prompts[1]}}}")
    for name in sorted(fields(template)):
        if not NAME.fullmatch(name):
            raise TemplateProblem(f"{{{name}}} is no field: a field is a plain name")
        if name not in known:
            raise TemplateProblem(f"unknown field {name!r}; there are {', '.join(sorted(known))}")


def render(template: str, values: Mapping[str, Any]) -> str:
    """The message. Raises KeyError for a field without a value, TemplateProblem when it gets too long."""

    def filled(part: re.Match[str]) -> str:
        if part[1] is None:
            return part[0][0]
        value = values[part[1].strip()]
        if value is None:
            raise KeyError(part[1].strip())
        return text_of(value)

    body = _PART.sub(filled, template).strip()
    if len(body) > BODY_MAX_CHARS:
        raise TemplateProblem(
            f"the message has {len(body)} characters, {BODY_MAX_CHARS} can be sent"
        )
    return body


def text_of(value: Any) -> str:
    """A value as people write it, on one line and of bounded length."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split())[:VALUE_MAX_CHARS]


def segments(body: str) -> int:
    """How many parts the message is sent, and paid, in."""
    if all(char in _BASIC or char in _EXTENDED for char in body):
        septets = sum(2 if char in _EXTENDED else 1 for char in body)
        return 1 if septets <= 160 else _parts(_widths(body), 153)
    units = len(body.encode("utf-16-le", "surrogatepass")) // 2
    return 1 if units <= 70 else _parts([2 if ord(char) > 0xFFFF else 1 for char in body], 67)


def _widths(body: str) -> list[int]:
    return [2 if char in _EXTENDED else 1 for char in body]


def _parts(widths: list[int], room: int) -> int:
    """A character of two units is never cut in half."""
    parts, used = 1, 0
    for width in widths:
        if used + width > room:
            parts, used = parts + 1, 0
        used += width
    return parts
