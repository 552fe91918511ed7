"""What may be logged of a message, and which JSON values are counts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire_json import COUNT_MAX, SAMPLE_MAX_CHARS, as_count, redacted


@pytest.mark.parametrize(
    ("message", "sample"),
    [
        (b'{"text":"call me","n":415,"ok":true}', '36 bytes: {"text":"…","n":###,"ok":true}'),
        (b'{"sequenceNumber" : "7"', '23 bytes: {"sequenceNumber": "…"'),
        (b'{"+14155550123":"x"}', '20 bytes: {"…":"…"}'),
        (b'{"a":"never closed \\', '20 bytes: {"a":"…"'),
        (b"HTTP/1.1 401 secrettokensecret\r\n", "32 bytes: HTTP/#.# ### …??"),
        (b"\xff\x00", "2 bytes: \N{REPLACEMENT CHARACTER}?"),
        (b"", "0 bytes: "),
    ],
)
def test_redacted_message_shows_shape_without_values(message, sample):
    """Keys and punctuation stay; values, digits and long words go."""
    assert redacted(message) == sample


@settings(deadline=None)
@given(st.binary(max_size=600) | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_redacted_any_bytes_give_one_short_printable_line_without_digits(message):
    """A sample is always fit for a log line."""
    size, _, sample = redacted(message).partition(" bytes: ")
    assert int(size) == len(message)
    assert len(sample) <= SAMPLE_MAX_CHARS
    assert sample.isprintable()
    assert not any(char.isdecimal() for char in sample.replace("#", ""))


@pytest.mark.parametrize(
    ("value", "count"),
    [(7, 7), ("7", 7), (7.0, 7), ("-3", -3), ("007", 7), (COUNT_MAX, COUNT_MAX), (str(COUNT_MAX), COUNT_MAX)],
)  # fmt: skip
def test_as_count_whole_number_in_any_form_is_read(value, count):
    """Providers write counters as numbers or as strings."""
    assert as_count(value) == count


@pytest.mark.parametrize(
    "value",
    [True, None, 1.5, float("inf"), float("nan"), "", "1.0", "+1", " 1", "1\n", "٣", "9" * 19, COUNT_MAX + 1,
     -COUNT_MAX - 1, 1e300, [], {}],
    ids=repr,
)  # fmt: skip
def test_as_count_anything_else_is_none(value):
    """Neither truth values nor fractions nor numbers without measure are counts."""
    assert as_count(value) is None
