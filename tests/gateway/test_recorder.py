"""Recordings: two tracks on one time line, written by a thread that may fail or fall behind."""

import os
import wave

import pytest

from gateway import recorder
from gateway.g711 import ulaw_to_pcm16
from gateway.recorder import CallTap, Recorder

START_S = 5_000.0
QUIET = 0


def tone(value: int, frames: int = 1) -> bytes:
    return bytes([value]) * (160 * frames)


def pcm(value: int) -> int:
    return int.from_bytes(ulaw_to_pcm16(bytes([value])), "little", signed=True)


def tracks(path) -> tuple[list[int], list[int]]:
    with wave.open(os.fspath(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        samples = memoryview(file.readframes(file.getnframes())).cast("h").tolist()
    return samples[0::2], samples[1::2]


@pytest.fixture
def writer():
    """A running recorder, stopped at the end of the test."""
    recorder = Recorder()
    recorder.start()
    yield recorder
    recorder.stop()


def begin(writer: Recorder, path) -> CallTap:
    tap = CallTap(writer, os.fspath(path))
    tap.start(START_S)
    return tap


def end(tap: CallTap, at_s: float) -> dict:
    tap.finish(START_S + at_s)
    assert tap.finished.wait(30)
    return tap.report()


def test_tracks_are_placed_by_timestamp_and_by_clock(writer, tmp_path):
    """Caller left by media time, agent right by the time it is heard; nothing in between is silence."""
    tap = begin(writer, tmp_path / "calls" / "a.wav")
    tap.caller(0, tone(0x10))
    tap.caller(4 * 160, tone(0x20))
    tap.agent(START_S + 0.04, tone(0x90))
    report = end(tap, 1.0)
    left, right = tracks(tmp_path / "calls" / "a.wav")
    assert left == [pcm(0x10)] * 160 + [QUIET] * 480 + [pcm(0x20)] * 160
    assert right == [QUIET] * 320 + [pcm(0x90)] * 160 + [QUIET] * 320
    assert report == {
        "path": tap.path,
        "duration_s": 0.1,
        "dropped_blocks": 0,
        "error": None,
    }


def test_file_is_private_to_the_daemon(writer, tmp_path):
    """What people said is nobody else's."""
    end(begin(writer, tmp_path / "a.wav"), 0.0)
    assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o600


def test_consecutive_agent_audio_has_no_seam(writer, tmp_path):
    """Rounding of the clock neither overlaps nor tears audio that belongs together."""
    tap = begin(writer, tmp_path / "a.wav")
    for n in range(50):
        tap.agent(START_S + n * 0.02 + (n % 3 - 1) * 0.0001, tone(0x90))
    end(tap, 10.0)
    assert tracks(tmp_path / "a.wav")[1] == [pcm(0x90)] * 8000


@pytest.mark.parametrize("cut_at_s", [0.3, 1.5], ids=["in_the_queue", "in_the_last_message"])
def test_barge_in_cuts_what_was_sent_ahead(writer, tmp_path, cut_at_s):
    """The recording ends where the caller's hearing ended; later audio begins where it was heard."""
    tap = begin(writer, tmp_path / "a.wav")
    tap.agent(START_S, tone(0x90, 100))
    tap.cut_agent(START_S + cut_at_s)
    tap.agent(START_S + 1.6, tone(0x91))
    end(tap, 2.0)
    heard = int(cut_at_s * 8000)
    expected = [pcm(0x90)] * heard + [QUIET] * (12_800 - heard) + [pcm(0x91)] * 160
    assert tracks(tmp_path / "a.wav")[1] == expected


def test_end_of_the_call_cuts_what_was_still_ahead(writer, tmp_path):
    """A caller who hangs up in the middle of a sentence has not heard its rest."""
    tap = begin(writer, tmp_path / "a.wav")
    tap.agent(START_S, tone(0x90, 100))
    end(tap, 0.5)
    assert tracks(tmp_path / "a.wav")[1] == [pcm(0x90)] * 4000


def test_long_call_is_written_piece_by_piece(writer, tmp_path):
    """Both tracks leave memory while the call goes on, and come out whole."""
    tap = begin(writer, tmp_path / "a.wav")
    values = [0x10 + n % 64 for n in range(1_000)]
    for n, value in enumerate(values):
        tap.caller(160 * n, tone(value))
        tap.agent(START_S + 0.02 * n, tone(value ^ 0x80))
        assert len(tap._caller._data) <= (recorder.SETTLE_S + recorder.COMMIT_EVERY_S) * 8000 + 320
    end(tap, 60.0)
    left, right = tracks(tmp_path / "a.wav")
    assert left == [pcm(value) for value in values for _ in range(160)]
    assert right == [pcm(value ^ 0x80) for value in values for _ in range(160)]


def test_slow_disk_drops_and_counts_but_keeps_the_time_and_the_end(tmp_path, monkeypatch):
    """Over the bound blocks are dropped; what follows is still in its place, and the file is closed."""
    monkeypatch.setattr(recorder, "QUEUE_MAX_BLOCKS", 1)
    writer = Recorder()  # its thread does not run yet: the disk stands still
    tap = begin(writer, tmp_path / "a.wav")
    for n in range(400):
        tap.caller(160 * n, tone(0x10))
    assert tap.dropped_blocks == 4
    tap.caller(160 * 400, tone(0x20))
    monkeypatch.setattr(recorder, "QUEUE_MAX_BLOCKS", 100)
    writer.start()
    report = end(tap, 8.02)
    writer.stop()
    left, _ = tracks(tmp_path / "a.wav")
    assert left[:8_000] == [pcm(0x10)] * 8_000
    assert left[8_000:48_000] == [QUIET] * 40_000
    assert left[48_000:] == [pcm(0x10)] * 16_000 + [pcm(0x20)] * 160
    assert report["dropped_blocks"] == 5


def test_end_of_a_file_is_written_although_the_queue_is_full(tmp_path, monkeypatch):
    """A recording that lost its last second is a whole file all the same, and no descriptor stays open."""
    writer = Recorder()
    tap = begin(writer, tmp_path / "a.wav")
    for n in range(200):
        tap.caller(160 * n, tone(0x10))
    monkeypatch.setattr(recorder, "QUEUE_MAX_BLOCKS", 1)
    tap.finish(START_S + 4.0)
    assert not tap.finished.is_set()
    assert tap.report()["error"] == "not written in time"
    writer.start()
    assert tap.finished.wait(30)
    writer.stop()
    assert tap.dropped_blocks == 1
    assert tap.file is None
    assert len(tracks(tmp_path / "a.wav")[0]) == tap.samples_written == 8_000


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dev/null/a.wav", "FileExistsError"),
        ("/dev/full", "No space left"),
        ("a\0.wav", "null"),
    ],
    ids=["no_directory", "disk_full", "impossible_name"],
)
def test_recording_that_cannot_be_written_says_so_and_harms_no_other(writer, tmp_path, path, words):
    """The reason is in the report, the file is closed, the thread lives on."""
    broken = begin(writer, path)
    for n in range(400):
        broken.caller(160 * n, tone(0x10))
    good = begin(writer, tmp_path / "good.wav")
    good.caller(0, tone(0x10))
    assert words in end(broken, 8.0)["error"]
    assert broken.file is None
    assert end(good, 1.0)["error"] is None
    assert tracks(tmp_path / "good.wav")[0] == [pcm(0x10)] * 160


def test_finish_twice_ends_the_file_once(writer, tmp_path):
    """The call's task may end it in order and clean up after itself."""
    tap = begin(writer, tmp_path / "a.wav")
    tap.caller(0, tone(0x10))
    end(tap, 1.0)
    before = (tmp_path / "a.wav").read_bytes()
    assert end(tap, 2.0)["error"] is None
    assert (tmp_path / "a.wav").read_bytes() == before


def test_call_that_was_never_joined_leaves_no_file(writer, tmp_path):
    """No stream came: there is nothing to keep."""
    tap = CallTap(writer, os.fspath(tmp_path / "a.wav"))
    tap.agent(START_S, tone(0x90))
    tap.finish(START_S)
    assert tap.finished.wait(30)
    assert not tap.has_started
    assert not (tmp_path / "a.wav").exists()


def test_stop_waits_for_what_is_queued(tmp_path):
    """The worker's exit loses no recording."""
    writer = Recorder()
    writer.start()
    tap = begin(writer, tmp_path / "a.wav")
    tap.caller(0, tone(0x10))
    tap.finish(START_S + 1.0)
    writer.stop(30.0)
    assert tap.finished.is_set()
    assert len(tracks(tmp_path / "a.wav")[0]) == 160
