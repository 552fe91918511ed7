"""Provisioning: an agent's steps, what becomes of it, and what the operator reads."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio

from control.provisioning import saga as provisioning
from control.config import (
    ControlSettings,
    ElevenLabsSettings,
    PublicSettings,
    Secret,
    Settings,
    TwilioSettings,
)
from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsUnavailable
from control.provisioning import Provisioning
from control.store import Store, StoreUnavailable, agents
from control.store.records import AgentRecord
from control.twilio.rest import OwnedNumber, TwilioRefused, TwilioUncertain, TwilioUnreachable

AT = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
NUMBER = "+14155550100"
SETTINGS = Settings(
    public=PublicSettings(url="https://voice.example.com"),
    control=ControlSettings(admin_key=Secret("k")),
    twilio=TwilioSettings(account_sid="AC1", auth_token=Secret("t")),
    elevenlabs=ElevenLabsSettings(api_key=Secret("e")),
)
EVENTS = ["audio", "interruption", "user_transcript", "agent_response"]


def agent_object(input_format="ulaw_8000", output_format="ulaw_8000", events=EVENTS):
    """What ElevenLabs answers for an agent."""
    return {
        "conversation_config": {
            "asr": {"user_input_audio_format": input_format},
            "tts": {"agent_output_audio_format": output_format},
            "conversation": {"client_events": events},
        }
    }


class FakeClock:
    def now(self):
        return AT


class FakeTwilio:
    """An account with one number. `trouble` is raised one by one before it answers."""

    def __init__(self):
        self.owned = {NUMBER: "PN1"}
        self.trouble = []
        self.webhooks = []
        self.is_silent = False

    async def find_number(self, e164):
        if self.is_silent:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if self.trouble:
            raise self.trouble.pop(0)
        sid = self.owned.get(e164)
        return OwnedNumber(sid, e164, "in-use", "", "", "") if sid else None

    async def set_number_webhooks(self, sid, *, voice_url, voice_fallback_url, status_callback):
        await trio.lowlevel.checkpoint()
        self.webhooks.append((sid, voice_url, voice_fallback_url, status_callback))
        return OwnedNumber(sid, NUMBER, "in-use", voice_url, voice_fallback_url, status_callback)


class FakeElevenLabs:
    """One agent. `trouble` is raised one by one before it answers."""

    def __init__(self):
        self.agents = {"agent_1": agent_object()}
        self.trouble = []
        self.asked = 0

    async def get_agent(self, agent_id):
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.trouble:
            raise self.trouble.pop(0)
        if agent_id not in self.agents:
            raise ElevenLabsRefused(404, "agent_not_found", "No agent")
        return self.agents[agent_id]


class Rig:
    """A store, two fakes and the subject."""

    def __init__(self, store):
        self.store = store
        self.twilio = FakeTwilio()
        self.elevenlabs = FakeElevenLabs()
        self.subject = Provisioning(SETTINGS, store, self.twilio, self.elevenlabs, FakeClock())

    async def add(self, agent_id="agt_1", **more):
        values = {"number_e164": NUMBER, "elevenlabs_agent_id": "agent_1", **more}
        record = AgentRecord(id=agent_id, name="a", created_at=AT, updated_at=AT, **values)
        await self.store.write(agents.insert, record)

    async def get(self, agent_id="agt_1"):
        return await self.store.read(agents.get, agent_id)

    async def settled(self, agent_id="agt_1"):
        """The agent once it is no longer being provisioned."""
        with trio.fail_after(10):
            while True:
                record = await self.get(agent_id)
                if record.status != "provisioning":
                    return record
                await trio.lowlevel.checkpoint()


@pytest.fixture
def store(tmp_path):
    """A real store in a file of its own."""
    store = Store.open(f"sqlite:///{tmp_path}/tandem.db")
    yield store
    store.close()


@pytest.fixture
def rig(store, monkeypatch):
    """No waiting between attempts: threads of the store do not see a mock clock."""
    monkeypatch.setattr(provisioning, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(provisioning, "RETRY_MAX_S", 0.001)
    return Rig(store)


def steps(record):
    return {step["name"]: (step["status"], step.get("error")) for step in record.steps}


async def test_start_with_everything_in_order_makes_the_agent_live(rig, nursery):
    """Webhooks set, agent checked, every step done, times kept."""
    await nursery.start(rig.subject.run)
    await rig.add()
    rig.subject.start("agt_1")
    record = await rig.settled()
    assert record.status == "live"
    assert steps(record) == {
        "number": ("done", None),
        "elevenlabs_agent": ("done", None),
        "live": ("done", None),
    }
    assert all(isinstance(step["ms"], int) for step in record.steps)
    assert (record.number_sid, record.number_status) == ("PN1", "in-use")
    assert record.elevenlabs_status == "live"
    assert record.provisioning_started_at == record.provisioning_ended_at == AT
    assert rig.twilio.webhooks == [
        (
            "PN1",
            "https://voice.example.com/twilio/voice",
            "https://voice.example.com/twilio/voice/fallback",
            "https://voice.example.com/twilio/status",
        )
    ]
    nursery.cancel_scope.cancel()


async def test_agent_that_could_be_better_is_degraded_with_what_to_do(rig, nursery):
    """Calls work, so it is not failed; the operator reads what to set."""
    rig.elevenlabs.agents["agent_1"] = agent_object("pcm_16000", events=["audio"])
    await rig.add()
    await nursery.start(rig.subject.run)
    record = await rig.settled()
    assert (record.status, record.elevenlabs_status) == ("degraded", "degraded")
    status, error = steps(record)["elevenlabs_agent"]
    assert status == "done"
    assert "audio_format" not in error
    assert "lacks 'interruption'" in error
    nursery.cancel_scope.cancel()


async def test_agent_that_cannot_be_looked_up_is_taken_with_a_remark(rig, nursery):
    """A 404 without ElevenLabs' own status word is somebody else's: it does not prove the agent missing."""
    rig.elevenlabs.trouble.append(ElevenLabsRefused(404, "", "Not Found"))
    await rig.add()
    await nursery.start(rig.subject.run)
    record = await rig.settled()
    assert (record.status, record.elevenlabs_status) == ("degraded", "unchecked")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("change", "step", "reason", "column", "value"),
    [
        (lambda rig: rig.twilio.owned.clear(), "number",
         f"does not own {NUMBER}: buy or port it",
         "number_status", "missing"),
        (lambda rig: rig.twilio.trouble.append(TwilioRefused(401, 20003, "Authenticate")), "number",
         "Authenticate (HTTP 401, error 20003): check twilio.auth_token",
         "number_status", "refused"),
        (lambda rig: rig.elevenlabs.agents.clear(), "elevenlabs_agent",
         "ElevenLabs knows no agent agent_1: check elevenlabs_agent_id",
         "elevenlabs_status", "missing"),
        (lambda rig: rig.elevenlabs.trouble.append(ElevenLabsRefused(401, "x", "bad key")),
         "elevenlabs_agent", "bad key (HTTP 401): check elevenlabs.api_key",
         "elevenlabs_status", "refused"),
        (lambda rig: rig.elevenlabs.agents.update(agent_1=agent_object("mp3_44100")),
         "elevenlabs_agent", "asr.user_input_audio_format is 'mp3_44100'",
         "elevenlabs_status", "unusable"),
    ],
    ids=["number-missing", "twilio-key", "agent-missing", "elevenlabs-key", "unusable"],
)  # fmt: skip
async def test_step_that_cannot_be_done_fails_the_agent_and_says_why(
    rig, nursery, change, step, reason, column, value
):
    """The other step is still tried, so that all that is wrong is seen at once."""
    change(rig)
    await rig.add()
    await nursery.start(rig.subject.run)
    record = await rig.settled()
    found = steps(record)
    assert record.status == "failed"
    assert found[step][0] == "failed"
    assert reason in found[step][1]
    assert getattr(record, column) == value
    assert found["live"] == ("failed", f"not live, because of: {step}")
    assert [status for status, _ in found.values()].count("done") == 1
    nursery.cancel_scope.cancel()


async def test_agent_without_number_and_elevenlabs_agent_fails_with_both_reasons(rig, nursery):
    """Nothing to adopt and nothing is made."""
    await rig.add(number_e164=None, elevenlabs_agent_id=None)
    await nursery.start(rig.subject.run)
    found = steps(await rig.settled())
    assert found["number"] == ("failed", "the agent has no number: give number.e164")
    assert "give elevenlabs_agent_id" in found["elevenlabs_agent"][1]
    nursery.cancel_scope.cancel()


async def test_transient_trouble_is_overcome_within_the_step(rig, nursery):
    """A provider that stumbles does not fail an agent."""
    rig.twilio.trouble = [TwilioUnreachable("no connection"), TwilioUncertain("lost")]
    rig.elevenlabs.trouble = [ElevenLabsUnavailable("HTTP 503")] * 3
    await rig.add()
    await nursery.start(rig.subject.run)
    record = await rig.settled()
    assert record.status == "live"
    assert record.number_status == "in-use"
    assert steps(record)["number"] == ("done", None)
    assert rig.elevenlabs.asked == 4
    nursery.cancel_scope.cancel()


async def test_trouble_that_lasts_fails_at_the_deadline_with_its_reason(rig, nursery, monkeypatch):
    """The last reason says more than that time was up."""
    monkeypatch.setattr(provisioning, "STEP_TIMEOUT_S", 0.05)
    rig.twilio.trouble = [TwilioUnreachable("no connection to Twilio")] * 100_000
    await rig.add()
    await nursery.start(rig.subject.run)
    record = await rig.settled()
    assert steps(record)["number"] == ("failed", "no connection to Twilio")
    assert record.number_status == "unreachable"
    assert steps(record)["elevenlabs_agent"][0] == "done"
    nursery.cancel_scope.cancel()


async def test_provider_that_says_nothing_fails_at_the_deadline(rig, nursery, monkeypatch):
    """Every wait has an end."""
    monkeypatch.setattr(provisioning, "STEP_TIMEOUT_S", 0.05)
    rig.twilio.is_silent = True
    await rig.add()
    await nursery.start(rig.subject.run)
    status, error = steps(await rig.settled())["number"]
    assert status == "failed"
    assert error.startswith("no answer within 0.05 s")
    nursery.cancel_scope.cancel()


async def test_unfinished_agent_of_an_earlier_run_goes_on_where_it_was(rig, nursery):
    """What was done stays done; what was running begins again; what is over is left alone."""
    begun = [
        {"name": "number", "status": "done", "ms": 7},
        {"name": "elevenlabs_agent", "status": "running", "ms": 0},
    ]
    await rig.add(steps=begun, provisioning_started_at=AT.replace(hour=1))
    await rig.add("agt_2", number_e164=None, status="failed")
    await nursery.start(rig.subject.run)
    record = await rig.settled()
    assert record.status == "live"
    assert record.steps[0] == {"name": "number", "status": "done", "ms": 7}
    assert rig.twilio.webhooks == []
    assert record.provisioning_started_at.hour == 1
    assert (await rig.get("agt_2")).status == "failed"
    nursery.cancel_scope.cancel()


async def test_agent_closed_between_two_steps_is_not_written_any_more(rig, nursery):
    """The next commit sees it and stops, without a trace and without an error."""

    async def close(agent_id):
        await rig.store.write(agents.update, "agt_1", status="closed")
        return agent_object()

    rig.elevenlabs.get_agent = close
    await rig.add()
    await nursery.start(rig.subject.run)
    record = await rig.settled()
    with trio.fail_after(10):
        while rig.subject._taken:
            await trio.lowlevel.checkpoint()
    assert (await rig.get()).status == "closed"
    assert record.provisioning_ended_at is None
    nursery.cancel_scope.cancel()


async def test_start_twice_runs_the_steps_once(rig, nursery):
    """A sweep and a request may meet."""
    await nursery.start(rig.subject.run)
    await rig.add()
    rig.subject.start("agt_1")
    rig.subject.start("agt_1")
    await rig.settled()
    assert len(rig.twilio.webhooks) == 1
    nursery.cancel_scope.cancel()


async def test_mistake_of_ours_in_one_agent_does_not_reach_the_other(rig, nursery):
    """The boundary is around each agent; the broken one is tried again at the next sweep."""
    rig.elevenlabs.agents["agent_2"] = agent_object()
    answer = rig.elevenlabs.get_agent

    async def get_agent(agent_id):
        if agent_id == "agent_1":
            raise KeyError("a mistake")
        return await answer(agent_id)

    rig.elevenlabs.get_agent = get_agent
    rig.twilio.owned["+14155550101"] = "PN2"
    await rig.add()
    await rig.add("agt_2", number_e164="+14155550101", elevenlabs_agent_id="agent_2")
    await nursery.start(rig.subject.run)
    assert (await rig.settled("agt_2")).status == "live"
    assert (await rig.get("agt_1")).status == "provisioning"
    nursery.cancel_scope.cancel()


async def test_store_that_fails_postpones_to_the_next_sweep(rig, nursery, monkeypatch):
    """Nothing is lost: the agent is still `provisioning` in the store."""
    monkeypatch.setattr(provisioning, "SWEEP_INTERVAL_S", 0.01)
    write = rig.store.write
    failures = [StoreUnavailable("locked")] * 2

    async def failing_write(fn, *args, **kwargs):
        if failures:
            raise failures.pop()
        return await write(fn, *args, **kwargs)

    await rig.add()
    monkeypatch.setattr(rig.store, "write", failing_write)
    await nursery.start(rig.subject.run)
    assert (await rig.settled()).status == "live"
    assert not failures
    nursery.cancel_scope.cancel()


async def test_start_before_run_is_taken_up_by_run(rig, nursery):
    """The store is the queue."""
    await rig.add()
    rig.subject.start("agt_1")
    await nursery.start(rig.subject.run)
    assert (await rig.settled()).status == "live"
    nursery.cancel_scope.cancel()
