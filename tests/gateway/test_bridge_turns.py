"""Turns on the bridge: barge-in, stale audio, what was heard, and the transcript."""

from gateway.settings import MediaSettings
from tests.peers import SPEECH, STREAM_SID, Table


def test_interruption_clears_in_the_same_instant(talk):
    """Queue emptied, Twilio told, both in the step that brought the interruption."""
    talk.speak(SPEECH)
    talk.run(0.3)
    before = len(talk.messages("media"))
    talk.interrupt(1)
    assert talk.caller.received[-1] == (talk.now_s, {"event": "clear", "streamSid": STREAM_SID})
    talk.run(0.5)
    assert len(talk.messages("media")) == before
    assert talk.bridge.barge_ins == 1


def test_late_audio_of_the_old_turn_is_dropped_and_the_new_turn_is_played(talk):
    """Stale is decided by id, never by time: fresh audio may follow at once."""
    talk.speak(SPEECH, event_id=1)
    talk.run(0.1)
    talk.interrupt(1)
    sent = talk.agent_audio()
    talk.speak(SPEECH, event_id=1)
    talk.run(0.2)
    assert talk.agent_audio() == sent
    talk.speak(SPEECH[:1_600], event_id=2)
    talk.run(0.5)
    assert talk.agent_audio() == sent + SPEECH[:1_600]
    assert talk.bridge.downlink.report()["stale_chunks"] == 1


def test_equal_event_id_is_played_when_configured_so():
    """The providers' SDKs disagree about equality, so it is a setting."""
    table = Table(settings=MediaSettings(interruption_drops_equal=False))
    table.connect_agent()
    table.start()
    table.interrupt(1)
    table.speak(SPEECH[:800], event_id=1)
    table.run(0.2)
    assert table.agent_audio() == SPEECH[:800]
    assert table.bridge.downlink.report()["stale_equal_chunks"] == 1


def test_interruption_while_nothing_plays_is_no_barge_in(talk):
    """It still raises the watermark and clears, which is harmless."""
    talk.interrupt(3)
    assert talk.bridge.barge_ins == 0
    assert talk.bridge.downlink.watermark == 3


def test_older_interruption_does_not_lower_the_watermark(talk):
    """Interruptions are idempotent and may come out of order."""
    talk.interrupt(5)
    talk.interrupt(2)
    talk.speak(SPEECH[:800], event_id=4)
    talk.run(0.2)
    assert talk.agent_audio() == b""


def test_first_word_is_heard_when_a_mark_says_so_and_not_when_it_was_sent(talk):
    """Sent audio that no mark confirms was heard by nobody, as far as we know."""
    talk.tell("agent_response", "agent_response_event", agent_response="A long story", event_id=1)
    talk.speak(SPEECH)
    talk.run(0.4, echo_marks=False)
    assert "first_audio_sent" in talk.names()
    assert "first_word_heard" not in talk.names()
    talk.run(2.0)
    assert talk.names().count("first_word_heard") == 1


def test_marks_returned_by_clear_are_not_taken_for_heard(talk):
    """Twilio echoes all pending marks on `clear`; nothing in the echo says "discarded"."""
    talk.tell("agent_response", "agent_response_event", agent_response="A long story", event_id=1)
    talk.speak(SPEECH)
    talk.run(0.4, echo_marks=False)
    talk.interrupt(1)
    for mark in talk.messages("mark"):
        talk.echo(mark["mark"]["name"])
    turn = talk.turns()[1]
    assert turn.interrupted
    assert turn.heard == "A"  # 400 of 1,000 ms, and "lo" is no word


def test_interrupted_turn_tells_what_was_heard_with_alignment(talk):
    """To the character, from the alignment that came with the audio."""
    alignment = {
        "chars": list("0123456789"),
        "char_start_times_ms": list(range(0, 1_000, 100)),
        "char_durations_ms": [100] * 10,
    }
    talk.tell("agent_response", "agent_response_event", agent_response="0123456789", event_id=1)
    talk.speak(SPEECH, alignment=alignment)
    talk.run(0.46)
    talk.interrupt(1)
    assert talk.turns()[1].heard == "01234"


def test_uninterrupted_turn_is_heard_whole(talk):
    """Marks prove it."""
    talk.tell("agent_response", "agent_response_event", agent_response="Good day.", event_id=1)
    talk.speak(SPEECH)
    talk.tell("agent_response_complete", "agent_response_complete_event", event_id=1)
    talk.run(1.5)
    turn = talk.turns()[1]
    assert (turn.text, turn.heard, turn.interrupted) == ("Good day.", "Good day.", False)


def test_transcript_holds_both_sides_in_order(talk):
    """User and agent turns share one numbering."""
    talk.speak(SPEECH[:800], event_id=1)
    talk.tell("agent_response", "agent_response_event", agent_response="Hi.", event_id=1)
    talk.run(0.3)
    talk.tell("user_transcript", "user_transcription_event", user_transcript="Yes?", event_id=2)
    talk.tell("agent_response", "agent_response_event", agent_response="Ok.", event_id=3)
    talk.speak(SPEECH[:800], event_id=3)
    turns = talk.turns()
    assert [(turns[n].role, turns[n].text) for n in sorted(turns)] == [
        ("agent", "Hi."),
        ("user", "Yes?"),
        ("agent", "Ok."),
    ]


def test_tentative_transcripts_are_left_out(talk):
    """They may be revised."""
    talk.tell(
        "tentative_user_transcript",
        "tentative_user_transcription_event",
        user_transcript="Ye",
        event_id=2,
    )
    assert talk.turns() == {}


def test_mark_with_a_number_that_cannot_be_is_ignored(talk):
    """Python refuses to read five thousand digits; the call goes on."""
    talk.echo("0:" + "9" * 5_000)
    assert talk.end is None


def test_stale_audio_of_a_pcm_agent_is_counted_by_its_length():
    """A second is a second in every format."""
    table = Table()
    table.connect_agent(speaks="pcm_16000")
    table.start()
    table.interrupt(5)
    table.speak(bytes(32_000), event_id=5)
    report = table.bridge.report()["agent_audio"]
    assert (report["stale_ms"], report["received_ms"]) == (1_000.0, 1_000.0)
