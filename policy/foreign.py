"""What a plug-in said, so that it can be recorded: no telephone number in it, and nothing that no store takes. Pure.

A rule of ours puts numbers into its inputs alone, and with a plus sign. Foreign code may put one anywhere and in
any form, also a text that no JSON holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from policy.decision import Obligation, RuleResult
from policy.facts import Facts
from policy.masking import digits_of, mask_foreign, own_digits

HIDDEN = "•••"
"""Instead of a text from which one of the call's numbers can still be read."""
TEXT_MAX_CHARS = 500
_INTEGER_BITS_MAX = 63
_SEVEN_DIGITS = re.compile(r"\d(?:\D*\d){6}")


def recordable(result: RuleResult, facts: Facts, rule_id: str) -> RuleResult:
    """The result with every text in it covered. An id that would have to be is no id, and denies."""
    is_short = _is_harmless(result.id) and _is_harmless(result.reason)
    if is_short and not result.inputs and not result.obligations:
        return result
    numbers = [facts.to_number, facts.from_number]
    if facts.opt_out is not None:
        numbers.append(facts.opt_out.e164)
    cover = _Cover(own_digits(numbers))
    if cover.text(result.id) != result.id:
        return RuleResult(cover.text(rule_id), result.version, "deny", "rule_invalid: bad id")
    duties = [
        Obligation(cover.text(one.kind), cover.value(one.details)) for one in result.obligations
    ]
    reason, inputs = cover.text(result.reason), cover.value(result.inputs)
    return replace(result, reason=reason, inputs=inputs, obligations=tuple(duties))


def _is_harmless(text: str) -> bool:
    """Plain ASCII, and too few digits for a number: most codes are."""
    if type(text) is not str or len(text) > TEXT_MAX_CHARS or not text.isascii() or "\0" in text:
        return False
    return _SEVEN_DIGITS.search(text) is None


class _Cover:
    __slots__ = ("_own",)

    def __init__(self, own: frozenset[str]) -> None:
        self._own = own

    def text(self, text: str) -> str:
        if _is_harmless(text):
            return text
        text = str.__str__(text)  # of a subclass its characters, not what it says that they are
        if len(text) > TEXT_MAX_CHARS:
            text = text[:TEXT_MAX_CHARS] + "…"
        # Half a character, which UTF-8 has no bytes for; and the one that PostgreSQL's JSON does not take.
        text = text.encode("utf-8", "replace").decode().replace("\0", "?")
        masked = mask_foreign(text)
        return HIDDEN if self._shows(masked) else masked

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            shown = int.__repr__(value)
            is_too_long = value.bit_length() > _INTEGER_BITS_MAX
            return HIDDEN if is_too_long or self._shows(shown) else value
        return HIDDEN if self._shows(float.__repr__(value)) else value

    def _shows(self, text: str) -> bool:
        digits = digits_of(text)
        return any(own in digits for own in self._own)
