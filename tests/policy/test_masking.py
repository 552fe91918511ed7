"""Masked telephone numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from policy import mask_number, mask_numbers


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+14155550100", "+1415•••••00"),
        ("+442071838750", "+4420••••••50"),
        ("+1415555", "+1415•55"),
        ("+12345", "+•••45"),
        ("911", "•11"),
        ("", ""),
    ],
)
def test_mask_number_keeps_the_head_and_two_digits(number, shown):
    """Enough to tell country and area."""
    assert mask_number(number) == shown


@hypothesis_settings(deadline=None)
@given(st.text(), st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True), st.text())
def test_mask_numbers_in_any_text_never_leaves_a_whole_number(before, number, after):
    """Whatever is around it, also letters and other numbers."""
    assert number not in mask_numbers(before + number + after)


def test_mask_numbers_in_a_url_masks_the_encoded_plus_sign():
    """Form bodies and query strings carry `%2B`."""
    assert mask_numbers("From=%2B14155550100&x=1") == "From=+1415•••••00&x=1"


@pytest.mark.parametrize(
    "text", ["2026-11-21T09:00:00+00:00", "1 + 1", "a+b", "+0123456789", "%20"]
)
def test_mask_numbers_leaves_other_texts_alone(text):
    """Times and sums are no telephone numbers."""
    assert mask_numbers(text) == text
