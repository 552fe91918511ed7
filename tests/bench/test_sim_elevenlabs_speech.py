"""The simulator's own speech tools: recordings, µ-law, resampling, hearing."""

from __future__ import annotations

import array
import audioop
import wave

import numpy as np
import pytest

from bench.sim_elevenlabs import speech

CALLER = ("caller_complaint", "caller_barge_in", "caller_sorry", "caller_stop_calling")
AGENT = ("agent_greeting", "agent_long", "agent_hold", "agent_goodbye")


@pytest.mark.parametrize("name", CALLER + AGENT)
def test_prompt_recorded_is_real_speech_of_usable_length(name):
    """Every prompt loads, lasts two to eleven seconds and is loud enough to be heard."""
    prompt = speech.prompt(name)
    assert 2.0 < prompt.duration_s < 11.0
    assert len(prompt.pcm16) == 2 * len(prompt.ulaw)
    assert -30 < speech.level_dbfs(prompt.pcm16) < -10
    assert prompt.text[-1] in ".!"


def test_prompts_together_stay_small():
    """The recordings stay under 700 KB together."""
    assert sum(path.stat().st_size for path in speech.SPEECH_FOLDER.glob("*.wav")) < 700_000


def test_prompt_unknown_names_the_known_ones():
    """A wrong name is a KeyError that lists the names there are."""
    with pytest.raises(KeyError, match="agent_greeting"):
        speech.prompt("nobody")


def test_read_wav_of_another_kind_is_refused(tmp_path):
    """A WAV file at 16 kHz is no prompt."""
    path = tmp_path / "wide.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, 16000, 0, "NONE", ""))
        wav.writeframes(bytes(320))
    with pytest.raises(ValueError, match="16000"):
        speech.read_wav(path.read_bytes())


def test_ulaw_encoding_of_every_sample_equals_the_reference():
    """All 65,536 samples encode to the byte that audioop gives."""
    samples = array.array("h", range(-32768, 32768)).tobytes()
    assert speech.pcm16_to_ulaw(samples) == audioop.lin2ulaw(samples, 2)


def test_ulaw_decoding_of_every_byte_equals_the_reference():
    """All 256 bytes decode to the sample that audioop gives."""
    assert speech.ulaw_to_pcm16(bytes(range(256))) == audioop.ulaw2lin(bytes(range(256)), 2)


@pytest.mark.parametrize("rate_hz", [16000, 22050, 24000, 44100, 48000])
def test_resample_of_a_tone_keeps_level_length_and_pitch(rate_hz):
    """A 1 kHz tone comes out at the new rate with its level, length and frequency."""
    at = np.arange(8000) / 8000
    tone = (8000 * np.sin(2 * np.pi * 1000 * at)).astype("<i2").tobytes()
    wide = np.frombuffer(speech.resample(tone, 8000, rate_hz), "<i2").astype(float)
    assert len(wide) == rate_hz
    middle = wide[rate_hz // 10 : -rate_hz // 10]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * rate_hz / len(middle) == pytest.approx(1000, abs=2)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(8000 / np.sqrt(2), rel=0.01)


@pytest.mark.parametrize("name", speech.FORMATS)
def test_encode_of_a_prompt_has_the_duration_in_every_format(name):
    """A prompt lasts equally long in all seven formats."""
    prompt = speech.prompt("caller_sorry")
    seconds = len(speech.encode(prompt.pcm16, name)) / speech.bytes_per_second(name)
    assert seconds == pytest.approx(prompt.duration_s, abs=0.001)


@pytest.mark.parametrize("name", ["mp3_44100", "ulaw_16000", "pcm", ""])
def test_split_format_unknown_is_refused(name):
    """Only the seven formats exist."""
    with pytest.raises(ValueError, match="format"):
        speech.split_format(name)


@pytest.mark.parametrize("name", CALLER)
@pytest.mark.parametrize("audio_format", ["ulaw_8000", "pcm_16000", "pcm_22050"])
@pytest.mark.parametrize("chunk_bytes", [160, 641, 4000])
def test_ear_on_recorded_speech_hears_one_utterance(name, audio_format, chunk_bytes):
    """However it is chunked, a sentence and silence are one beginning and one end."""
    ear = speech.Ear(audio_format)
    audio = speech.encode(speech.prompt(name).pcm16 + bytes(16000), audio_format)
    events = []
    for at in range(0, len(audio), chunk_bytes):
        events += ear.hear(audio[at : at + chunk_bytes])
    assert events == ["began", "ended"]


def test_ear_on_silence_and_clicks_hears_nothing():
    """Neither digital silence nor single loud frames are speech."""
    ear = speech.Ear("ulaw_8000")
    loud = speech.prompt("caller_sorry").ulaw[8000:8160]
    assert ear.hear(b"\xff" * 8000) == []
    for _ in range(20):
        assert ear.hear(loud + b"\xff" * 480) == []
