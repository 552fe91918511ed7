"""What the caller heard, to the character."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.heard import Heard

ALIGNED = (tuple("Hello you"), tuple(range(0, 900, 100)))
"""Nine characters, 100 ms each."""


def test_text_before_audio_belongs_to_the_turn_that_audio_opens():
    """The usual order: the reply's text, then its audio."""
    heard = Heard()
    assert heard.text("Hello!", 1) is None
    turn = heard.audio(8_000, 1, 0.0, 1)
    assert turn.text == "Hello!"


def test_text_after_first_audio_belongs_to_the_open_turn():
    """The order is not promised: audio may come first."""
    heard = Heard()
    turn = heard.audio(8_000, 1, 0.0, 1)
    assert heard.text("Hello!", 1) is turn
    assert turn.text == "Hello!"


def test_more_audio_of_the_turn_does_not_open_another():
    """A reply comes in many chunks."""
    heard = Heard()
    heard.text("Hello!", 1)
    assert heard.audio(800, 1, 0.0, 1) is not None
    assert heard.audio(800, 1, 0.0, 2) is None


def test_text_with_a_new_event_id_opens_the_next_turn():
    """Two replies in a row are two turns."""
    heard = Heard()
    heard.text("One.", 1)
    heard.audio(800, 1, 0.0, 1)
    assert heard.text("Two.", 2) is None
    assert heard.audio(800, 2, 0.0, 2).text == "Two."


def test_turn_is_done_when_its_end_was_played_and_the_agent_has_finished():
    """Marks settle turns in order."""
    heard = Heard()
    heard.text("One.", 1)
    heard.audio(800, 1, 0.0, 1)
    assert heard.played(800) == []
    heard.end_turn()
    (turn,) = heard.played(800)
    assert turn.heard_text(heard.heard_bytes) == "One."
    assert not turn.interrupted


def test_cut_with_alignment_is_exact_to_the_character():
    """450 ms of nine characters of 100 ms each: the fifth had begun."""
    heard = Heard()
    heard.text("Hello you", 1)
    heard.audio(7_200, 1, 0.0, 1, ALIGNED)
    ((turn, said),) = heard.cut(450 * 8, 4_000)
    assert said == "Hello"
    assert turn.interrupted


def test_alignment_of_later_chunks_counts_from_their_place_in_the_turn():
    """Alignment is relative to its chunk."""
    heard = Heard()
    heard.audio(7_200, 1, 0.0, 1, ALIGNED)
    heard.audio(7_200, 1, 0.0, 1, ALIGNED)
    ((_, said),) = heard.cut(7_200 + 250 * 8, 14_400)
    assert said == "Hello youHel"


def test_cut_without_alignment_is_in_proportion_and_at_a_word():
    """Half of the time is half of the text, and no half words."""
    heard = Heard()
    heard.text("one two three four five six", 1)
    heard.audio(8_000, 1, 0.0, 1)
    ((_, said),) = heard.cut(4_000, 5_000)
    assert said == "one two"


def test_cut_before_anything_was_played_hears_nothing():
    """Interrupted before the first word: heard nothing, and said so."""
    heard = Heard()
    heard.text("Hello you", 1)
    heard.audio(7_200, 1, 0.0, 1, ALIGNED)
    ((turn, said),) = heard.cut(0, 0)
    assert said == ""
    assert turn.interrupted


def test_turn_after_a_cut_starts_from_its_own_audio():
    """Positions move past what was lost: the next turn is measured from its first byte."""
    heard = Heard()
    heard.text("Lost.", 1)
    heard.audio(8_000, 1, 0.0, 1)
    heard.cut(1_000, 1_600)
    heard.text("Hello you", 2)
    turn = heard.audio(7_200, 2, 0.0, 2, ALIGNED)
    assert turn.start_byte == 1_600
    assert heard.played(1_600 + 3_600) == []
    assert turn.heard_text(heard.heard_bytes) == "Hello"


def test_first_mark_behind_its_start_tells_when_a_turn_began_to_be_heard():
    """Half a second into the audio: it began half a second ago. The playout clock alone tells nothing."""
    heard = Heard()
    heard.text("Hello you", 1)
    turn = heard.audio(7_200, 1, 0.0, 1, ALIGNED)
    heard.played(1_600)
    assert (turn.heard_from_s, heard.first_heard_s) == (None, None)
    heard.played(4_000, 12.5)
    heard.played(7_200, 13.5)
    assert (turn.heard_from_s, heard.first_heard_s) == (12.0, 12.0)
    heard.end_turn()
    later = heard.audio(800, 2, 14.0, 2)
    heard.played(7_600, 15.05)
    assert (later.heard_from_s, heard.first_heard_s) == (15.0, 12.0)


def test_words_begin_where_the_alignment_says_or_in_proportion():
    """And the audio's end is the last figure."""
    heard = Heard()
    heard.text("Hello you", 1)
    aligned = heard.audio(7_200, 1, 0.0, 1, ALIGNED)
    assert aligned.word_ms() == (0, 600, 900)
    heard.end_turn()
    heard.text(" one  three ", 2)
    assert heard.audio(9_600, 2, 0.0, 2).word_ms() == (100, 600, 1_200)


def test_rest_names_what_was_heard_of_unfinished_turns():
    """At the end of a call the last turn is told as far as it was heard."""
    heard = Heard()
    heard.text("Hello you", 1)
    heard.audio(7_200, 1, 0.0, 1, ALIGNED)
    heard.played(250 * 8)
    ((_, said),) = heard.rest()
    assert said == "Hel"
    assert heard.rest() == []


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("audio"), st.integers(1, 5_000), st.integers(1, 5)),
            st.tuples(st.just("text"), st.text(max_size=30), st.integers(1, 5)),
            st.tuples(st.just("played"), st.integers(0, 60_000), st.just(0)),
            st.tuples(st.just("end"), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_heard_never_runs_ahead_and_turns_never_overlap(steps):
    """Whatever the order of events: heard <= accepted, and turns follow each other without overlap."""
    heard = Heard()
    accepted, number, last_end = 0, 0, 0
    for kind, value, event_id in steps:
        if kind == "audio":
            turn = heard.audio(value, event_id, 0.0, number + 1)
            accepted += value
            if turn is not None:
                number += 1
                assert turn.start_byte >= last_end
        elif kind == "text":
            heard.text(value, event_id)
        elif kind == "end":
            heard.end_turn()
        else:
            for turn in heard.played(value):
                assert turn.end_byte >= turn.start_byte >= last_end
                last_end = turn.end_byte
        assert heard.heard_bytes <= accepted
