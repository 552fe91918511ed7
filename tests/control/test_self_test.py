"""The self-test: what the workers say of a conversation without a caller, and what becomes of it."""

from __future__ import annotations

import pytest
import trio

from control.config import (
    ControlSettings,
    ElevenLabsSettings,
    PublicSettings,
    Secret,
    Settings,
    TwilioSettings,
)
from control.elevenlabs.agent_body import own_variables
from control.provisioning import self_test
from control.provisioning.self_test import Probes
from control.provisioning.values import StepFailed
from control.store.records import AgentRecord
from control.workers import PoolFull, WorkerLost
from gateway.link import CallEvent, CallReport
from tests.control.saga_rig import AT, FakeClock

SETTINGS = Settings(
    public=PublicSettings(url="https://voice.example.com"),
    control=ControlSettings(admin_key=Secret("k")),
    twilio=TwilioSettings(account_sid="AC1", auth_token=Secret("t")),
    elevenlabs=ElevenLabsSettings(api_key=Secret("xi")),
)
AGENT = AgentRecord("agt_1", "Coastal", AT, AT, elevenlabs_agent_id="agent_1", location="Pier 1")


class FakePool:
    """Answers a plan with these event names; a report once it is cancelled, unless told otherwise."""

    def __init__(self, *names, report=None):
        self.names, self.report = names, report
        self.plans, self.cancelled = [], []
        self.probes = None
        self.is_full = False

    def prepare(self, plan):
        if self.is_full:
            raise PoolFull
        self.plans.append(plan)
        for name in self.names:
            self.probes.offer(CallEvent(plan.call_id, name, 0))
        if self.report is not None:
            self.probes.offer(report(plan.call_id, *self.report))
        return "w1"

    def cancel(self, call_id, reason):
        self.cancelled.append(call_id)
        self.probes.offer(report(call_id, "cancelled", "the self-test is over"))


def report(call_id, result, reason):
    return CallReport(
        call_id, result, "agent", reason, 0, False, None, None, None, media={}, legs={}
    )


def probes_over(pool):
    pool.probes = Probes(SETTINGS, pool, FakeClock(), own_variables)
    return pool.probes


async def test_first_audio_passes_and_the_conversation_is_dropped():
    """The agent's own id, the place among the variables, and no caller."""
    pool = FakePool("agent_dialing", "agent_ready", "agent_first_audio")
    assert await probes_over(pool).first_audio(AGENT, speaks_first=True) is None
    (plan,) = pool.plans
    assert plan.elevenlabs_agent_id == "agent_1"
    assert plan.dynamic_variables["location"] == "Pier 1"
    assert plan.twilio_call_sid is None
    assert pool.cancelled == [plan.call_id]


async def test_agent_that_waits_for_the_caller_passes_when_the_conversation_stands():
    """There is no audio to wait for."""
    pool = FakePool("agent_ready")
    assert await probes_over(pool).first_audio(AGENT, speaks_first=False) is None
    assert len(pool.cancelled) == 1


async def test_agent_that_says_nothing_fails_at_the_deadline(autojump_clock):
    """With what to look at; the conversation is dropped. It is not repeated at once, but later."""
    pool = FakePool("agent_ready")
    with pytest.raises(StepFailed, match="said nothing within 10 s") as caught:
        await probes_over(pool).first_audio(AGENT, speaks_first=True)
    assert len(pool.cancelled) == 1
    assert (caught.value.transient, caught.value.later) == (False, True)


async def test_conversation_that_does_not_come_up_fails_at_the_deadline(autojump_clock):
    """ElevenLabs may be there in a minute: it is tried again then."""
    pool = FakePool("agent_dialing")
    begin_s = trio.current_time()
    with pytest.raises(StepFailed, match="no conversation within 10 s") as caught:
        await probes_over(pool).first_audio(AGENT, speaks_first=True)
    assert (caught.value.transient, caught.value.later) == (False, True)
    assert trio.current_time() - begin_s == self_test.FIRST_AUDIO_TIMEOUT_S


async def test_conversation_that_fails_gives_its_reason_and_is_not_waited_for(autojump_clock):
    """The worker has reported: there is nothing left to drop."""
    pool = FakePool("agent_dialing", report=("agent_fault", "signed URL refused (404)"))
    begin_s = trio.current_time()
    with pytest.raises(StepFailed, match="signed URL refused") as caught:
        await probes_over(pool).first_audio(AGENT, speaks_first=True)
    assert caught.value.transient
    assert pool.cancelled == []
    assert trio.current_time() == begin_s


async def test_worker_that_dies_makes_the_test_fail_for_now(autojump_clock):
    """Another worker may do better."""
    pool = FakePool("agent_ready")
    probes = probes_over(pool)
    async with trio.open_nursery() as nursery:

        async def lose():
            await trio.testing.wait_all_tasks_blocked()
            probes.offer(WorkerLost("w1", (pool.plans[0].call_id, "call_other")))

        nursery.start_soon(lose)
        with pytest.raises(StepFailed, match="worker died") as caught:
            await probes.first_audio(AGENT, speaks_first=True)
    assert caught.value.transient


async def test_no_room_makes_the_test_fail_for_now(monkeypatch):
    """Calls come first; so do the tests that are under way."""
    pool = FakePool()
    pool.is_full = True
    with pytest.raises(StepFailed, match="no media worker") as caught:
        await probes_over(pool).first_audio(AGENT, speaks_first=True)
    assert caught.value.transient
    monkeypatch.setattr(self_test, "PROBES_MAX", 0)
    with pytest.raises(StepFailed, match="too many"):
        await pool.probes.first_audio(AGENT, speaks_first=True)


def test_messages_of_calls_are_left_to_the_calls():
    """Only those of a probe are taken; a lost worker is everybody's news."""
    probes = probes_over(FakePool())
    assert probes.offer(CallEvent("call_1", "agent_ready", 0)) is False
    assert probes.offer(WorkerLost("w1", ("call_1",))) is False
