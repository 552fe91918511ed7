"""What was found out in a call, against the agent's schema: lenient where the meaning is plain, else kept raw."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.extractions import TYPES, Extraction, fits
from control.results.conversation import findings
from control.results.fields import extract


def one(kind: str, raw: Any, **more: Any) -> Any:
    found = extract([Extraction("x", kind, **more)], {"x": raw})
    return found.problems["x"]["error"] if found.problems else found.values["x"]


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("string", " Ada ", "Ada"),
        ("string", 94110, "94110"),
        ("integer", 3, 3),
        ("integer", 3.0, 3),
        ("integer", " 3 ", 3),
        ("integer", "3.0", 3),
        ("number", "3.5", 3.5),
        ("number", 3, 3),
        ("boolean", True, True),
        ("boolean", "Yes", True),
        ("boolean", "no", False),
        ("boolean", 0, False),
        ("string", None, None),
        ("integer", "", None),
    ],
)
def test_value_that_is_plainly_meant_is_taken(kind: str, raw: Any, value: Any) -> None:
    """A language model filled the field in."""
    found = one(kind, raw)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "raw", "words"),
    [
        ("integer", "three", "expected an integer, got another text"),
        ("integer", 3.5, "expected an integer, got a number"),
        ("integer", True, "expected an integer, got true or false"),
        ("number", "nan", "expected a number, got another text"),
        ("number", float("inf"), "expected a number, got a number"),
        ("boolean", "perhaps", "expected a boolean, got another text"),
        ("string", ["a"], "expected a string, got a list"),
        ("string", True, "expected a string, got true or false"),
    ],
)
def test_value_that_does_not_fit_is_a_problem(kind: str, raw: Any, words: str) -> None:
    """No value then; the raw one is kept beside the reason."""
    found = extract([Extraction("x", kind)], {"x": raw})
    assert found.values == {"x": None}
    assert found.problems == {"x": {"error": words, "raw": raw}}


def test_enum_takes_its_own_spelling_and_nothing_else() -> None:
    """`Blue` is the enum's `blue`; green is not in it."""
    assert one("string", "BLUE", enum=("blue", "red")) == "blue"
    assert one("integer", "2", enum=(1, 2)) == 2
    assert one("string", "green", enum=("blue", "red")) == "not one of blue, red"


def test_required_field_that_is_missing_is_a_problem_without_raw() -> None:
    """Nothing came, so nothing is kept."""
    found = extract([Extraction("x", "string", required=True)], {})
    assert found.problems == {"x": {"error": "required, and not found in the call"}}


def test_field_that_nobody_declared_is_passed_on() -> None:
    """An adopted agent may collect more than its gateway knows of."""
    assert extract([], {"x": [1]}).values == {"x": [1]}


@given(
    st.sampled_from(TYPES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)
def test_value_fits_its_type_or_is_a_problem_whatever_comes(kind: str, raw: Any) -> None:
    """No junk gets through, and none raises."""
    found = extract([Extraction("x", kind)], {"x": raw})
    value = found.values["x"]
    assert value is None or fits(value, kind)
    assert value is None or not found.problems


@given(
    st.dictionaries(
        st.sampled_from(["status", "analysis", "metadata", "transcript"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["data_collection_results", "charging", "error", "message", "value", "a"]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_conversation_of_any_shape_is_read(data: dict[str, Any]) -> None:
    """A field that was renamed or has another type is not said; it never raises."""
    findings(data)


def test_findings_of_the_documented_object() -> None:
    """Names as in the API reference."""
    found = findings(
        {
            "status": "done",
            "metadata": {"cost": 296, "cost_fiat": 0.08, "charging": {"llm_price": 0.002}},
            "analysis": {
                "call_successful": "success",
                "transcript_summary": "They talked.",
                "call_summary_title": "Talk",
                "evaluation_criteria_results": {"polite": {"result": "success", "rationale": "r"}},
                "data_collection_results_list": [
                    {"data_collection_id": "a", "value": 1, "rationale": "said so"}
                ],
            },
            "transcript": [{"role": "agent", "message": "Hi", "time_in_call_secs": 1}],
        }
    )
    assert (found.summary, found.title, found.successful) == ("They talked.", "Talk", "success")
    assert found.cost == {"credits": 296, "usd": 0.08, "llm_usd": 0.002}
    assert (found.collected, found.rationales) == ({"a": 1}, {"a": "said so"})
    assert found.evaluation == {"polite": {"result": "success", "rationale": "r"}}
    assert [(turn.role, turn.text, turn.at_s) for turn in found.turns] == [("agent", "Hi", 1.0)]
