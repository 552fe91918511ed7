"""Verticals: the built-in files, a user's folder, and what is wrong with a file; extractions' schema."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import extractions, verticals
from control.config import ConfigError, load
from control.elevenlabs.agent_body import hours_text, location_text
from control.extractions import ExtractionProblem

GOOD = 'title = "Pets"\nfirst_message = "Hi"\nprompt = "For {business} at {{location}}."\n'


def test_built_in_verticals_are_there_and_complete():
    """Prompt, first words and something to find out; nothing left unfilled."""
    known = verticals.load()
    assert set(known) >= {"hvac", "dental", "legal", "real_estate", "restaurant", "generic"}
    values = {"business": "B", "hours": "H", "language": "English"}
    for vertical in known.values():
        text = verticals.fill(vertical.prompt, values)
        assert "B" in text
        assert "{{location}}" in text
        assert "{business}" not in text
        assert extractions.parse(vertical.extractions)
        assert "end the call" in " ".join(text.split())


def test_folder_of_the_users_adds_and_replaces(tmp_path):
    """By the name of the file."""
    (tmp_path / "pets.toml").write_text(GOOD)
    (tmp_path / "dental.toml").write_text(GOOD)
    known = verticals.load(tmp_path)
    assert known["pets"].title == known["dental"].title == "Pets"
    assert known["hvac"].title != "Pets"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", GOOD + "colour = 1\n", "colour: unknown key"),
        ("a.toml", GOOD + "[voice]\nspeed = 3.0\n", "voice.speed: "),
        ("a.toml", 'title = "x"\nprompt = "y"\n', "first_message: "),
        (
            "a.toml",
            GOOD.replace("{business}", "{company}"),
            "prompt: .*{company} is no placeholder",
        ),
        ("a.toml", GOOD + 'language = "English"\n', "language: "),
        ("a.toml", GOOD + 'name = "b"\n', "name: unknown key"),
        ("a.toml", GOOD + '[[extractions]]\nname = "a"\ntype = "int"\n', "extractions.a.type: "),
        ("a.toml", "title = ", "not TOML"),
        ("A b.toml", GOOD, "a name has lower case letters"),
    ],
    ids=str,
)
def test_file_that_cannot_be_used_is_an_error_that_names_file_and_key(tmp_path, name, text, words):
    """At load, not when an agent is made from it."""
    (tmp_path / name).write_text(text)
    with pytest.raises(verticals.VerticalProblem, match=words) as caught:
        verticals.load(tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_configuration_with_a_bad_folder_names_its_key(tmp_path):
    """The daemon does not start with it, and check-config says the same."""
    config = tmp_path / "config.toml"
    config.write_text(
        '[public]\nurl = "https://v.example.com"\n[control]\nadmin_key = "0123456789abcdef"\n'
        f'verticals_dir = "{tmp_path}/none"\n[twilio]\naccount_sid = "AC1"\nauth_token = "t"\n'
        '[elevenlabs]\napi_key = "x"\n'
    )
    with pytest.raises(ConfigError, match=r"control.verticals_dir: .*none: no such folder"):
        load(config, {})


def test_extractions_by_list_and_by_name_are_the_same():
    """Order, types and choices; ElevenLabs gets what it takes."""
    by_name = {"size": {"type": "integer", "enum": [1, 2]}, "kind": {"type": "string"}}
    listed = [{"name": name, **body} for name, body in by_name.items()]
    fields = extractions.parse(by_name)
    assert fields == extractions.parse(listed)
    assert extractions.data_collection(fields) == {
        "size": {"type": "integer", "description": "Size One of: 1, 2."},
        "kind": {"type": "string", "description": "Kind"},
    }


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    )
)
def test_extractions_of_any_junk_are_fields_or_a_problem_that_names_its_place(given_value):
    """Never another exception."""
    places = []
    try:
        extractions.parse(given_value)
    except ExtractionProblem as problem:
        places.append(problem.field)
    assert all(place.startswith("extractions") for place in places)


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (None, ""),
        ({"mon": ["09:00-12:00", "13:00-17:00"]}, "Monday 09:00-12:00, 13:00-17:00"),
        ({"tue": [["09:00", "17:00"]], "wed": None}, "Tuesday 09:00-17:00; Wednesday closed"),
        ({"fri": {"open": "09:00", "close": "17:00"}}, "Friday 09:00-17:00"),
        ({"always": "24/7"}, "Always 24/7"),
        ({"mon": True, "tue": 9}, "Monday True; Tuesday 9"),
        ("by appointment", "by appointment"),
    ],
)
def test_hours_are_said_in_words(hours, text):
    """In whichever of the usual shapes they come."""
    assert hours_text(hours) == text


def test_location_is_said_in_one_line():
    """From a text or from parts."""
    assert location_text({"street": "1 A St", "zip": None, "city": "B"}) == "1 A St, B"
    assert location_text("Pier 1") == "Pier 1"
    assert location_text(None) == ""
