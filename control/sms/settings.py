"""An agent's `sms`: what is sent after a call, to whom, and when. Pure.

    {"template": "Hi {name}, see you at {time}.",      fields of the extractions, the variables, the call
     "when": {"result": ["completed"],                 how the call ended; this is the default
              "extracted": ["time"],                   fields that must have been found
              "equals": {"booked": true},              fields with this value
              "direction": "inbound"},                 only calls of this direction
     "to": "{callback_number}",                        a field or a number; the customer's own when absent
     "help": "Coastal Heating: call +1…",              the answer to HELP; none when absent
     "sender": "a2p_10dlc",                            what the carriers know the number as; policy asks for it
     "purpose": "informational",                       this is the default
     "enabled": true}

A message is sent when all of `when` holds, and every field of the template has a value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from control.sms import template
from control.telephone_number import can_be_dialled, check_number

RESULTS = frozenset(
    (
        "completed",
        "agent_fault",
        "caller_fault",
        "carrier_fault",
        "gateway_fault",
        "fallback",
        "drained",
        "cancelled",
        "policy",
        "no_answer",
        "busy",
        "machine",
    )
)
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_KEYS = frozenset(("template", "when", "to", "help", "enabled", "sender", "purpose"))
SENDERS = ("a2p_10dlc", "toll_free_verified", "short_code", "unregistered")
PURPOSES = ("informational", "healthcare_hipaa", "marketing", "survey", "nonprofit")
_CONDITIONS = frozenset(("result", "extracted", "equals", "direction"))


class SmsProblem(ValueError):
    """`field` is the place, such as `sms.when.result`."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


@dataclass(frozen=True, slots=True)
class SmsSettings:
    """Checked. `to` is None, a number, or the name of a field in braces."""

    template: str = ""
    results: tuple[str, ...] = ("completed",)
    extracted: tuple[str, ...] = ()
    equals: dict[str, Any] = field(default_factory=dict)
    direction: str | None = None
    to: str | None = None
    help: str | None = None
    enabled: bool = True
    sender: Any = None
    purpose: str = "informational"


def parse(given: Any, known: Collection[str] | None = None) -> SmsSettings:
    """Read an agent's `sms`; `known` are its fields (None: not checked). Raises SmsProblem."""
    if not isinstance(given, dict):
        raise SmsProblem("sms", "expected an object with a template")
    _only(given, _KEYS, "sms")
    text = given.get("template", "")
    if not isinstance(text, str):
        raise SmsProblem("sms.template", "expected a text")
    if text or "help" not in given:
        try:
            template.check(text, template.fields(text) if known is None else known)
        except template.TemplateProblem as problem:
            raise SmsProblem("sms.template", str(problem)) from problem
    when = given.get("when")
    when = {} if when is None else when
    if not isinstance(when, dict):
        raise SmsProblem("sms.when", "expected an object")
    _only(when, _CONDITIONS, "sms.when")
    words = given.get("help")
    if words is not None and (not isinstance(words, str) or not 0 < len(words) <= 320):
        raise SmsProblem("sms.help", "expected a text of at most 320 characters")
    enabled = given.get("enabled", True)
    if not isinstance(enabled, bool):
        raise SmsProblem("sms.enabled", "expected true or false")
    return SmsSettings(
        template=text,
        results=_results(when.get("result")),
        extracted=_names(when.get("extracted"), "sms.when.extracted", known),
        equals=_equals(when.get("equals"), known),
        direction=_direction(when.get("direction")),
        to=_to(given.get("to"), known),
        help=words,
        enabled=enabled,
        sender=_one_of(given.get("sender"), SENDERS, "sms.sender"),
        purpose=_one_of(given.get("purpose"), PURPOSES, "sms.purpose") or PURPOSES[0],
    )


def unmet(
    settings: SmsSettings, *, result: str | None, direction: str, values: Mapping[str, Any]
) -> str | None:
    """Why no message is due after this call; None when one is."""
    if not settings.enabled or not settings.template:
        return "switched off"
    if result not in settings.results:
        return f"the call's result is {result}"
    if settings.direction not in (None, direction):
        return f"the call was {direction}"
    for name in settings.extracted:
        if values.get(name) is None:
            return f"{name} was not found in the call"
    for name, wanted in settings.equals.items():
        if values.get(name) != wanted:
            return f"{name} is not {template.text_of(wanted)}"
    for name in sorted(template.fields(settings.template)):
        if values.get(name) is None:
            return f"{name} has no value"
    return None


def recipient(settings: SmsSettings, customer: str | None, values: Mapping[str, Any]) -> str | None:
    """The number to write to; None when there is none that could be written to."""
    to = customer if settings.to is None else settings.to
    if to is not None and to.startswith("{"):
        to = re.sub(r"[\s().-]", "", str(values.get(to[1:-1].strip()) or ""))
        return to if can_be_dialled(to) else None
    return to if to is not None and E164.fullmatch(to) else None


def _only(given: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise SmsProblem(f"{where}.{name}", "unknown field")


def _one_of(given: Any, known: Sequence[str], where: str) -> str | None:
    if given is not None and given not in known:
        raise SmsProblem(where, f"expected one of {', '.join(known)}")
    return given if isinstance(given, str) else None


def _results(given: Any) -> tuple[str, ...]:
    if given is None:
        return ("completed",)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(name in RESULTS for name in names):
        raise SmsProblem("sms.when.result", f"expected some of {', '.join(sorted(RESULTS))}")
    return tuple(names)


def _names(given: Any, where: str, known: Collection[str] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SmsProblem(where, "expected a list of fields")
    for name in names:
        if known is not None and name not in known:
            raise SmsProblem(where, f"unknown field {name!r:.70}")
    return tuple(names)


def _equals(given: Any, known: Collection[str] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise SmsProblem("sms.when.equals", "expected an object of fields and values")
    _names(list(given), "sms.when.equals", known)
    for name, value in given.items():
        if not isinstance(value, str | int | float | bool):
            raise SmsProblem(f"sms.when.equals.{name}", "expected a text, a number, true or false")
    return dict(given)


def _direction(given: Any) -> str | None:
    if given not in (None, "inbound", "outbound"):
        raise SmsProblem("sms.when.direction", "expected inbound or outbound")
    return given if isinstance(given, str) else None


def _to(given: Any, known: Collection[str] | None) -> str | None:
    if given is None:
        return None
    if isinstance(given, str) and E164.fullmatch(given):
        try:
            return given if known is None else check_number(given)
        except ValueError as error:
            raise SmsProblem("sms.to", str(error)) from None
    if not isinstance(given, str) or not re.fullmatch(r"\{[^{}]+\}", given):
        raise SmsProblem("sms.to", "expected a number in E.164, or one {field}")
    _names([given[1:-1].strip()], "sms.to", known)
    return given
