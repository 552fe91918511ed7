"""Asking to be left alone, in four languages: what is a request, what is probably one, what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.compliance import phrases

REQUESTS = [
    "Please stop calling me.",
    "STOP CALLING!",
    "stop",
    "Stop.",
    "Opt-out",
    "I said, take me off your list.",
    "Could you take my number off of that calling list?",
    "Remove me from your list",
    "Put me on your do-not-call list, please",
    "Don’t call me again.",
    "don't ever call this number again",
    "Do not call here anymore",
    "no more calls please",
    "Lose my number!",
    "Leave me alone",
    "I don't want any more of these calls",
    "stop calling me at work at 5",
    "My wife told you: stop calling us.",
    "Quit calling me",
    "Stop sending these texts",
    "I withdraw my consent",
    "I do not want to be called",
    "Deje de llamarme, por favor.",
    "No me llamen más",
    "No quiero recibir más llamadas",
    "Quíteme de su lista",
    "Déjenme en paz",
    "Arrêtez de m'appeler !",
    "Ne m'appelez plus.",
    "Ne me rappelez plus jamais",
    "Retirez-moi de votre liste d'appels",
    "Laissez-moi tranquille",
    "Hören Sie auf, mich anzurufen!",
    "Rufen Sie mich nicht mehr an.",
    "Rufen Sie hier bitte nie wieder an",
    "Keine Anrufe mehr, bitte",
    "Streichen Sie mich von Ihrer Liste",
    "Lassen Sie mich in Ruhe",
]
REVIEW = [
    "Don't stop calling me, please",
    "Sorry, I'm not interested.",
    "Is this a scam?",
    "No me interesa",
    "Pas intéressé, merci",
    "Ich habe kein Interesse",
]
NOTHING = [
    "",
    "Hello?",
    "I was calling about my order.",
    "Could you stop by on Friday?",
    "Don't cancel my appointment",
    "Please do not hesitate to call me",
    "The bus stop is around the corner",
    "When did it stop working?",
    "Please call me again tomorrow",
    "I would like to make a list",
    "End of the month works",
    "Me puede llamar mañana",
    "Pouvez-vous me rappeler demain ?",
    "Rufen Sie mich morgen an",
    "I'd like to order the quiche, and that will be all",
]


@pytest.mark.parametrize("text", REQUESTS)
def test_request_is_found(text):
    """Whatever it is about, and whoever is quoted."""
    found = phrases.find(text)
    assert found is not None
    assert found.kind == "revoke"


@pytest.mark.parametrize("text", REVIEW)
def test_what_is_probably_a_request_suppresses_and_is_looked_at(text):
    """The strict side: one too many costs a look."""
    found = phrases.find(text)
    assert found is not None
    assert found.kind == "hold"


@pytest.mark.parametrize("text", NOTHING)
def test_ordinary_words_are_none(text):
    """A conversation goes on."""
    assert phrases.find(text) is None


@pytest.mark.parametrize(
    "text", ["You have the wrong number", "Número equivocado", "Falsche Nummer"]
)
def test_wrong_number_is_its_own_kind(text):
    """The number is not the customer's any more."""
    found = phrases.find(text)
    assert found is not None
    assert found.kind == "wrong_number"


def test_plain_request_weighs_more_than_a_doubtful_one():
    """Both in one breath."""
    found = phrases.find("I'm not interested, stop calling me")
    assert found is not None
    assert found.kind == "revoke"


@given(st.text(max_size=200), st.text(max_size=200))
def test_request_is_found_whatever_is_said_around_it(before, after):
    """Junk of any alphabet before and behind, as sentences of their own."""
    found = phrases.find(f"{before} . please stop calling me . {after}")
    assert found is not None
    assert found.kind == "revoke"


@given(st.text(max_size=3000))
def test_any_text_is_looked_at_without_an_error(text):
    """Whatever a transcription brings."""
    phrases.find(text)
