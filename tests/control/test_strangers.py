"""What comes from outside becomes something that the store takes, or is refused."""

from __future__ import annotations

import orjson
import pytest
from sqlalchemy import text

from control.results.conversation import findings
from control.store import Store, calls, conversations
from control.store.conversations import ConversationRecord
from control.store.records import CallRecord
from control.strangers import caller_of, is_somebody, read_json, whole_number, whole_text
from tests.control.api_rig import NOW


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
        (b'"\\ud800 cut"', "� cut"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"\\udfff": {"b": ["\\ud800"]}}', {"�": {"b": ["�"]}}),
        (b"[18446744073709551616]", [1.8446744073709552e19]),
        (b"[1" + b"0" * 400 + b"]", [None]),
    ],
)
def test_json_of_strangers_can_be_written_again(body, read):
    """What is no character, and what no column has room for, is replaced."""
    found = read_json(body)
    assert found == read
    orjson.dumps(found)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 300 + b"]" * 300])
def test_what_is_no_json_or_nested_too_deep_is_refused(body):
    """By an exception that its readers know."""
    with pytest.raises((ValueError, RecursionError)):
        read_json(body)


@pytest.mark.parametrize(
    ("given", "number"),
    [("0", 0), ("999999999", 999999999), ("1000000000", None), ("-1", None), ("", None), ("²", None), ("٣", None)],
)  # fmt: skip
def test_numbers_of_forms_fit_a_column(given, number):
    """Digits of other scripts and exponents are no digits of Twilio's."""
    assert whole_number(given) == number


def test_text_of_two_halves_is_one_character():
    """Others stay as they are."""
    assert whole_text("a\ud83d\ude00\ud800") == "a\U0001f600�"


@pytest.mark.parametrize("at_s", [float("inf"), float("nan"), -1, 1e300, 10**400, True, "5"])
def test_time_of_a_turn_that_is_none_is_zero(at_s):
    """It becomes a row's milliseconds."""
    (turn,) = findings({"transcript": [{"message": "x", "time_in_call_secs": at_s}]}).turns
    assert turn.at_s in (0.0, 1.0)


async def test_nul_in_a_text_costs_that_character_and_no_row(store_url):
    """PostgreSQL has no NUL in its texts: a transcript with one was refused whole."""
    store = Store.open(store_url)
    try:
        await store.write(calls.insert, CallRecord("call_1", "inbound", NOW, summary="a\0b"))
        await store.write(calls.upsert_turn, "call_1", 1, "agent", "c\0d", 1)
        told = ConversationRecord("conv_1", "t", "done", "poll", NOW, "call_1", {"x": "e\0f"})
        await store.write(conversations.put, told)
        record = await store.read(calls.get, "call_1")
        (turn,) = await store.read(calls.turns, "call_1")
        known = await store.read(conversations.get, "conv_1")
        mark = "\0" if store._engine.dialect.name == "sqlite" else "�"
        assert (record.summary, turn.text) == (f"a{mark}b", f"c{mark}d")
        assert known.data == {"x": "e\0f"}
        assert await store.read(lambda conn: conn.execute(text("SELECT 1")).scalar()) == 1
    finally:
        store.close()


@pytest.mark.parametrize(
    ("said", "caller"),
    [
        ("+14155550100", "+14155550100"),
        ("sip:+14155550100@example.com", "sip:+14155550100@example.com"),
        ("client:ada", "client:ada"),
        ("+266696687", "anonymous"),
        ("+7378742833", "restricted"),
        ("anonymous", "anonymous"),
        ("", ""),
    ],
)
def test_number_that_stands_for_a_withheld_one_is_told_apart(said, caller):
    """Twilio spells the word on the keys of a telephone; in Lesotho somebody may have nearly that number."""
    assert caller_of(said) == caller


@pytest.mark.parametrize(
    "caller",
    ["", "anonymous", "Anonymous", "+86282452253", "private", "sip:anonymous@anonymous.invalid"],
)
def test_caller_who_withholds_the_number_is_nobody_in_particular(caller):
    """Many people are called so."""
    assert not is_somebody(caller)
    assert is_somebody("+14155550100")
    assert is_somebody("sip:ada@example.com")
    assert is_somebody("client:anonymous")
