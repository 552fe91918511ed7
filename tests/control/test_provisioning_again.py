"""Agents that an outage has kept from going live go on by themselves; what was refused waits for a person."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from control.numbers.values import NumberProblem
from control.provisioning import again, elevenlabs_steps, saga, values
from control.provisioning.values import StepFailed
from control.store import agents
from tests.control.saga_rig import open_impatient, statuses, steps

AWAY = NumberProblem("unreachable", "no connection to Twilio", transient=True)
URL = "https://coastal.example.com"


@pytest.fixture
async def rig(tmp_path, monkeypatch):
    """No waiting between attempts and sweeps: threads of the store do not see a mock clock."""
    monkeypatch.setattr(saga, "SWEEP_INTERVAL_S", 0.01)
    async with open_impatient(tmp_path, monkeypatch) as opened:
        yield opened


async def _until(rig, is_so):
    with trio.fail_after(15):
        while not is_so(record := await rig.get()):
            await trio.sleep(0.005)
    return record


def _step(record, name):
    return next(step for step in record.steps if step["name"] == name)


async def test_agent_failed_by_an_outage_is_live_when_it_is_over(rig, monkeypatch):
    """Tried after a minute, then after two; what is done is not done again, and nothing is bought twice."""
    monkeypatch.setitem(values.DEADLINES_S, "number", 0.05)
    rig.numbers.trouble = [AWAY] * 1_000_000
    await rig.add_new()
    await rig.run()
    failed = await rig.settled()
    live = _step(failed, "live")
    assert (failed.status, live["retries"]) == ("failed", 1)
    assert live["retry_at"] == (rig.clock.now() + timedelta(minutes=1)).isoformat()
    assert live["error"].startswith("not live, because of: number, routing; tried again at 2027-")
    rig.clock.forward(59)
    await trio.sleep(0.1)
    assert _step(await rig.get(), "live")["retries"] == 1
    rig.clock.forward(1)
    failed = await _until(rig, lambda r: r.status == "failed" and _step(r, "live")["retries"] == 2)
    assert _step(failed, "live")["retry_at"] == (rig.clock.now() + timedelta(minutes=2)).isoformat()
    rig.numbers.trouble = []
    rig.clock.forward(120)
    record = await _until(rig, lambda r: r.status == "live" and r.pending is None)
    assert "retry_at" not in _step(record, "live")
    assert len(rig.numbers.bought) == len(rig.sim.book.agents) - _given(rig) == 1


def _given(rig):
    """Agents that the simulator had before anybody made one."""
    return sum(1 for agent_id in rig.sim.book.agents if agent_id == "agent_1")


async def test_agent_that_was_refused_waits_for_a_person(rig, monkeypatch):
    """Its error says how it goes on; an outage beside the refusal changes nothing."""
    monkeypatch.setitem(values.DEADLINES_S, "number", 0.05)
    rig.numbers.trouble = [AWAY] * 1_000_000
    await rig.add(elevenlabs_agent_id="agent_none")
    await rig.add("agt_2", elevenlabs_agent_id="agent_none", number_e164=None)
    await rig.run()
    record = await rig.settled()
    assert record.status == "failed"
    assert "POST /v2/agents/{id}/retry goes on" in steps(record)["live"][1]
    assert "retry_at" not in _step(record, "live")
    assert await rig.store.read(again.due_ids, rig.clock.now() + timedelta(days=9)) == []


async def test_self_test_that_timed_out_is_made_again_until_the_agent_speaks(rig):
    """Alone and later and later, while the agent answers calls; then it is live, and nobody had to ask for it."""
    silent = StepFailed("no conversation within 10 s", later=True)
    rig.probe.trouble = [silent] * 2
    await rig.add_new()
    await rig.run()
    record = await rig.settled()
    assert record.status == "degraded"
    error = "no conversation within 10 s; tried again at 2027-01-13 18:01:00Z"
    assert steps(record)["self_test"] == ("failed", error)
    asked = sum(one.method != "GET" for one in rig.sim.requests)
    seen = set()
    for seconds, retries in ((60, 2), (120, None)):
        rig.clock.forward(seconds - 1)
        await trio.sleep(0.1)
        assert (
            _step(await rig.get(), "self_test")["retry_at"]
            == (rig.clock.now() + timedelta(seconds=1)).isoformat()
        )
        rig.clock.forward(1)
        record = await _until(
            rig,
            lambda r, n=retries: (
                seen.add(r.status)
                or (r.pending is None and _step(r, "self_test").get("retries") == n)
            ),
        )
    assert seen <= {"degraded", "live"}
    assert record.status == "live"
    assert (steps(record)["self_test"], len(rig.probe.asked)) == (("done", None), 3)
    assert sum(one.method != "GET" for one in rig.sim.requests) == asked


async def test_self_test_that_was_refused_waits_for_a_person(rig):
    """Nothing would be different in a minute."""
    rig.probe.trouble = [StepFailed("the account is over its quota")]
    await rig.add_new()
    await rig.run()
    record = await rig.settled()
    assert steps(record)["self_test"] == ("failed", "the account is over its quota")
    assert "retry_at" not in _step(record, "self_test")


async def test_sweep_reads_of_agents_with_a_planned_try_only_their_steps(rig):
    """Of those that have failed for good nothing, however many they are."""
    planned = {"name": "live", "retry_at": rig.clock.now().isoformat(), "retries": 1}
    for number in range(20):
        await rig.add(
            f"agt_{number:02}",
            number_e164=None,
            status="failed" if number % 2 else "degraded",
            steps=[planned if number == 7 else {"name": "live", "error": "refused"}],
        )
    assert await rig.store.read(agents.with_retries) == [("agt_07", "failed", [planned])]
    assert await rig.store.read(again.due_ids, rig.clock.now()) == ["agt_07"]
    assert await rig.store.read(again.due_ids, rig.clock.now() - timedelta(seconds=1)) == []


def test_tries_end_after_a_day():
    """Later and later, never more than half an hour apart; the last one says how to go on."""
    step, now, begin = {"name": "live"}, saga_now(), saga_now()
    pauses = []
    while "tried again at" in again.schedule(step, now):
        at = again.datetime.fromisoformat(step["retry_at"])
        pauses.append((at - now).total_seconds() / 60)
        now = at
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert set(pauses[6:]) == {30}
    assert timedelta(hours=23) < now - begin < timedelta(hours=25)
    assert "retry_at" not in step


def saga_now():
    """Any moment."""
    return again.datetime.fromisoformat("2027-01-13T18:00:00+00:00")


async def test_page_indexed_late_reaches_the_agent_which_answers_meanwhile(rig, monkeypatch):
    """Degraded, never out of service; then the page is part of it, and nothing is wrong any more."""
    monkeypatch.setitem(values.DEADLINES_S, "knowledge_base", 0.05)
    monkeypatch.setattr(elevenlabs_steps, "READ_WITHIN_S", 0.05)
    rig.sim.book.indexing_s = 3_600.0
    await rig.add_new(business_url=URL)
    await rig.run()
    record = await rig.settled()
    assert (record.status, statuses(record)["knowledge_base"]) == ("degraded", "failed")
    seen = set()
    for retries in (2, 3):
        rig.clock.forward(3_600)
        record = await _until(
            rig,
            lambda r, n=retries: (
                seen.add(r.status)
                or (r.pending is None and _step(r, "knowledge_base").get("retries") == n)
            ),
        )
    assert _knowledge(rig, record) == []
    rig.sim.book.indexing_s = 0.0
    rig.clock.forward(3_600)
    record = await _until(
        rig,
        lambda r: (
            seen.add(r.status) or (r.pending is None and statuses(r)["knowledge_base"] == "done")
        ),
    )
    assert seen <= {"degraded", "live"}
    assert len(_knowledge(rig, record)) == 1
    assert not [step for step in record.steps if step.get("error") or step.get("retry_at")]
    assert record.status == "live"


async def test_change_of_the_page_that_is_indexed_late_is_looked_at_again(rig, monkeypatch):
    """The other changes do not wait for it."""
    monkeypatch.setattr(elevenlabs_steps, "READ_WITHIN_S", 0.05)
    await rig.add_new()
    await rig.run()
    made = await rig.settled()
    rig.sim.book.indexing_s = 3_600.0
    asked = {"name": "elevenlabs_update", "status": "pending", "ms": 0, "asked_at": "1"}
    record = await rig.again(
        business_url=URL,
        pending="update",
        steps=[*made.steps, asked],
        settings=made.settings | {"first_message": "Good day."},
    )
    agent = rig.agent(record.elevenlabs_agent_id)["conversation_config"]["agent"]
    assert agent["first_message"] == "Good day."
    assert steps(record)["elevenlabs_update"] == ("done", f"ElevenLabs still reads {URL}")
    assert _step(record, "knowledge_base")["retries"] == 1
    await rig.subject.check(record.id)
    rig.sim.book.indexing_s = 0.0
    rig.clock.forward(60)
    record = await _until(
        rig, lambda r: r.pending is None and statuses(r)["knowledge_base"] == "done"
    )
    assert len(_knowledge(rig, record)) == 1


def _knowledge(rig, record):
    agent = rig.agent(record.elevenlabs_agent_id)["conversation_config"]["agent"]
    return agent["prompt"]["knowledge_base"]
