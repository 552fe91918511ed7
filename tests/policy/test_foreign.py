"""A hostile plug-in: wherever and however it says a telephone number, nothing that is kept or shown has it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import Facts, Obligation, OptOut, RuleResult, evaluate
from policy.foreign import HIDDEN

AT = datetime(2027, 1, 13, 18, tzinfo=UTC)
OURS = "+14155550199"
numbers = st.builds(
    lambda area, rest: f"+1{area}{rest:07}",
    st.integers(201, 989),
    st.integers(2_000_000, 9_999_999),
) | st.sampled_from(["+442071838750", "+61412345678", "+33142685300", "+491701234567"])


class Lies(str):
    """A text that denies what it is."""

    __slots__ = ()

    def __iter__(self):
        return iter("nothing")

    def __str__(self):
        return "nothing"


def spaced(digits, separator):
    return separator.join(re.findall("..?.?", digits))


SHAPES = {
    "E.164": lambda e164: e164,
    "bare": lambda e164: e164[1:],
    "national": lambda e164: e164[-10:],
    "subscriber": lambda e164: e164[-7:],
    "exit code": lambda e164: "00" + e164[1:],
    "zeros before it": lambda e164: "0000" + e164[1:],
    "in words": lambda e164: f"no{e164[1:]}way",
    "spaces": lambda e164: spaced(e164, " "),
    "dashes": lambda e164: spaced(e164[1:], "-"),
    "dots": lambda e164: spaced(e164[1:], "."),
    "parentheses": lambda e164: f"+{e164[1:3]} ({e164[3:6]}) {e164[6:]}",
    "every digit apart": lambda e164: "_".join(e164[1:]),
    "far apart": lambda e164: " – – – ".join(e164[1:]),
    "letters between": lambda e164: "a".join(e164[1:]),
    "url": lambda e164: "tel:%2B" + e164[1:],
    "invisible": lambda e164: "\u200b".join(e164),
    "other digits": lambda e164: "".join(chr(0x0660 + int(one)) for one in e164[1:]),
    "behind a date": lambda e164: f"2026-11-21T09:00:00Z {e164[1:]}",
    "a text that lies": Lies,
}


def digits(text):
    """All digits of a text, one behind the other, whatever their script."""
    return "".join(str(int(one)) for one in text if one.isdecimal())


def is_readable(number, shown):
    """Whether the end of the number, which is what makes it one person's, is in any text, name or figure."""
    if isinstance(shown, dict):
        return any(is_readable(number, one) for pair in shown.items() for one in pair)
    if isinstance(shown, list):
        return any(is_readable(number, one) for one in shown)
    return number[-7:] in digits(str(shown))


class Hostile:
    """Puts a text where it is told to."""

    id, version = "ACME-LEAK", 1

    def __init__(self, where, text):
        self._where, self._text = where, text

    def __call__(self, facts):
        said, later = self._text, facts.at + timedelta(hours=1)
        one = RuleResult(self.id, 1, "deny", "because")
        match self._where:
            case "reason":
                return replace(one, reason=said)
            case "reason of an allow":
                return replace(one, outcome="allow", reason=said)
            case "reason of a deferral":
                return replace(one, outcome="defer", reason=said, retry_at=later)
            case "missing":
                return replace(one, reason="not_known", inputs={"missing": said})
            case "input":
                return replace(one, inputs={"crm": {"rows": [("x", said)]}})
            case "name of an input":
                return replace(one, inputs={said: 1})
            case "id":
                return replace(one, id=f"{self.id}-{said}")
            case "kind of a duty":
                return replace(one, outcome="allow", obligations=(Obligation(said),))
            case "duty":
                return replace(one, outcome="allow", obligations=(Obligation("x", {"to": [said]}),))
            case "exception":
                raise type(str.__str__(said).replace("\0", "") or "E", (Exception,), {})(said)
            case "type":
                return type(str.__str__(said), (), {})()
        raise AssertionError(self._where)


PLACES = [
    "reason", "reason of an allow", "reason of a deferral", "missing", "input", "name of an input",
    "id", "kind of a duty", "duty", "exception", "type",
]  # fmt: skip


def call_to(number, **more):
    return Facts("outbound", "dial", "tnt_1", "agt_1", OURS, number, AT, **more)


@pytest.mark.parametrize("where", PLACES)
@settings(deadline=None, max_examples=60)
@given(numbers, st.sampled_from(sorted(SHAPES)), st.text(max_size=5), st.text(max_size=5))
def test_number_of_the_call_is_in_no_form_in_the_decision(where, number, shape, before, after):
    """In the reason, the inputs, the duties, the rule's own id, an exception's class: never."""
    text = SHAPES[shape](number)
    if shape != "a text that lies":
        text = before + text + after
    shown = json.dumps(
        evaluate([Hostile(where, text)], call_to(number)).to_dict(), ensure_ascii=False
    )
    assert "ACME-LEAK" in shown
    assert not is_readable(number, json.loads(shown)), shown


@settings(deadline=None)
@given(numbers, numbers, st.sampled_from(["E.164", "bare", "national", "spaces", "dashes", "dots"]))
def test_number_of_somebody_else_is_masked_too(number, other, shape):
    """A plug-in may speak of people that the call is not about."""
    said = evaluate([Hostile("reason", SHAPES[shape](other))], call_to(number)).reason
    assert not is_readable(other, said)


@pytest.mark.parametrize(
    "value", [12125550100, 2125550100, 5550100, -12125550100, 12125550100.0, 1 << 70]
)
def test_number_that_is_a_number_is_hidden_and_so_is_one_that_no_json_holds(value):
    """Digits without quotes are digits; more than 64 bits is what our JSON cannot write."""

    class Counts:
        id, version = "ACME-COUNT", 1

        def __call__(self, facts):
            return RuleResult(self.id, 1, "deny", "no", {"value": value, "others": [value, 17]})

    decision = evaluate([Counts()], call_to("+12125550100")).to_dict()
    assert decision["rules"][0]["inputs"] == {"value": HIDDEN, "others": [HIDDEN, 17]}


def test_entry_of_the_opt_out_list_is_one_of_the_calls_numbers():
    """It may be known by another number than was dialled."""
    entry = OptOut("+13105550142", AT, "api")
    said = evaluate(
        [Hostile("reason", "310x555x0142")], call_to("+12125550100", opt_out=entry)
    ).reason
    assert said == f"ACME-LEAK: {HIDDEN}"


@pytest.mark.parametrize(
    "text",
    [
        "opted_out",
        "since 2026-11-21",
        "2026-11-21T09:00:00.123+01:00",
        "4 of 20 calls",
        "row 123456",
        "+1",
    ],
)
def test_what_is_no_number_stays(text):
    """Codes, dates and small figures are what people read."""
    said = evaluate([Hostile("reason", text)], call_to("+12125550100")).rules[0].reason
    assert said == text


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "x" * 100_000, "é" * 499])
def test_text_that_no_store_takes_is_made_one(text):
    """Half a character, a NUL, a book: the decision can be kept and hashed all the same."""
    decision = evaluate([Hostile("reason", text), Hostile("input", text)], call_to("+12125550100"))
    kept = orjson.dumps(decision.to_dict())
    assert b"\\u0000" not in kept
    assert len(kept) < 5_000
    assert decision.outcome == "deny"
