"""Provisioning: steps that fail, processes that end in between, and the lease of another daemon."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from control.numbers.values import Nearby, NumberProblem
from control.provisioning import saga, values
from control.provisioning.values import StepFailed
from control.store import StoreUnavailable, agents
from control.tenants.service import TenantBusy, TenantState
from control.twilio.rest import TwilioRefused, TwilioUnreachable
from tests.control.saga_rig import AT, open_impatient, statuses, steps

UNREACHABLE = NumberProblem("unreachable", "no connection to Twilio", transient=True)


@pytest.fixture
async def rig(tmp_path, monkeypatch):
    async with open_impatient(tmp_path, monkeypatch) as opened:
        yield opened


# ---- failures ------------------------------------------------------------------------------------


async def test_number_that_cannot_be_had_fails_with_the_reason_and_offers_compensation(rig):
    """The agent that was made meanwhile stays until somebody decides; another try uses it."""
    rig.numbers.trouble = [
        NumberProblem(
            "none_available",
            "no number in 907",
            nearby=(Nearby("206", "WA", None), Nearby("360", "WA", None)),
        )
    ]
    await rig.add_new()
    await rig.run()
    record = await rig.settled()
    assert record.status == "failed"
    assert steps(record)["number"] == (
        "failed",
        "no number in 907; area codes that have some: 206, 360",
    )
    assert statuses(record)["elevenlabs_agent"] == "done"
    again = [step for step in record.steps if step["status"] == "done"]
    record = await rig.again(status="provisioning", steps=again)
    assert record.status == "live"
    assert len(rig.made) == len(rig.numbers.bought) == 1


@pytest.mark.parametrize(
    ("trouble", "status", "reason"),
    [
        (TwilioRefused(401, 20003, "Authenticate"), "failed", "Authenticate"),
        (TenantState("the tenant is closed"), "failed", "the tenant is closed"),
        (TwilioUnreachable("no connection"), "done", None),
        (TenantBusy("busy"), "done", None),
    ],
    ids=str,
)
async def test_subaccount_that_cannot_be_had_fails_what_needs_it(rig, trouble, status, reason):
    """What may pass is tried again; nothing is bought without an account to buy in."""
    rig.accounts.trouble = [trouble]
    await rig.add_new()
    await rig.run()
    record = await rig.settled()
    assert statuses(record)["subaccount"] == status
    if reason:
        assert reason in steps(record)["subaccount"][1]
        assert steps(record)["number"] == ("failed", "not tried, because of: key")
        assert rig.numbers.bought == {}
        assert statuses(record)["elevenlabs_agent"] == "done"


async def test_transient_trouble_is_overcome_within_the_step(rig):
    """A provider that stumbles does not fail an agent."""
    rig.numbers.trouble = [UNREACHABLE, UNREACHABLE]
    await rig.add()
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    assert steps(record)["number"] == ("done", None)
    assert record.steps[2]["tries"] == 3


async def test_trouble_that_lasts_fails_at_the_deadline_with_its_reason(rig, monkeypatch):
    """The last reason says more than that time was up."""
    monkeypatch.setitem(values.DEADLINES_S, "number", 0.05)
    rig.numbers.trouble = [UNREACHABLE] * 100_000
    await rig.add()
    await rig.run()
    record = await rig.settled()
    assert steps(record)["number"] == ("failed", "no connection to Twilio")
    assert record.number_status == "unreachable"
    assert statuses(record)["elevenlabs_agent"] == "done"


async def test_provider_that_says_nothing_fails_at_the_deadline(rig, monkeypatch):
    """Every wait has an end."""
    monkeypatch.setitem(values.DEADLINES_S, "number", 0.05)
    rig.numbers.is_silent = True
    await rig.add()
    await rig.run()
    assert steps(await rig.settled())["number"] == ("failed", "no answer within 0.05 s")


async def test_self_test_that_fails_leaves_the_agent_degraded(rig):
    """The number is answered all the same: one silent conversation is no reason to refuse callers."""
    rig.probe.trouble = [StepFailed("the agent said nothing")]
    await rig.add_new()
    await rig.run()
    record = await rig.settled()
    assert record.status == "degraded"
    assert steps(record)["self_test"] == ("failed", "the agent said nothing")


async def test_agent_without_first_message_is_not_expected_to_speak(rig):
    """It waits for the caller; then the start of the conversation has to do."""
    await rig.add_new(settings={"first_message": ""})
    await rig.run()
    assert (await rig.settled()).status == "live"
    assert rig.probe.asked == [(rig.made[0].agent_id, False)]


# ---- going on ------------------------------------------------------------------------------------


async def test_unfinished_agent_of_an_earlier_run_goes_on_where_it_was(rig):
    """What was done stays done; what was running begins again; what is over is left alone."""
    begun = [
        {"name": "subaccount", "status": "done", "ms": 7},
        {"name": "key", "status": "running", "ms": 0},
    ]
    await rig.add(steps=begun, provisioning_started_at=AT.replace(hour=1))
    await rig.add("agt_2", number_e164=None, status="failed")
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    assert record.steps[0] == {"name": "subaccount", "status": "done", "ms": 7}
    assert rig.accounts.ensured == [("key", "tnt_default")]
    assert record.provisioning_started_at.hour == 1
    assert (await rig.get("agt_2")).status == "failed"


async def test_agent_closed_between_two_steps_is_not_written_any_more(rig):
    """The next commit sees it and stops, without a trace and without an error."""

    async def close(tenant_id):
        await rig.store.write(agents.update, "agt_1", status="closed")

    rig.accounts.ensure_key = close
    await rig.add()
    await rig.run()
    record = await rig.settled()
    with trio.fail_after(10):
        while rig.subject._taken:
            await trio.sleep(0.005)
    assert (await rig.get()).status == "closed"
    assert record.provisioning_ended_at is None


async def test_start_twice_runs_the_steps_once(rig):
    """A sweep and a request may meet."""
    await rig.run()
    await rig.add()
    rig.subject.start("agt_1")
    rig.subject.start("agt_1")
    await rig.settled()
    assert len(rig.accounts.ensured) == 2


async def test_mistake_of_ours_in_one_agent_does_not_reach_the_other(rig):
    """The boundary is around each agent; the broken one is tried again at the next sweep."""
    first_audio = rig.probe.first_audio

    async def broken(agent, *, speaks_first):
        if agent.id == "agt_1":
            raise KeyError("a mistake")
        return await first_audio(agent, speaks_first=speaks_first)

    rig.probe.first_audio = broken
    await rig.add()
    await rig.add_new("agt_2")
    await rig.run()
    assert (await rig.settled("agt_2")).status == "live"
    assert (await rig.get("agt_1")).status == "provisioning"


async def test_store_that_fails_postpones_to_the_next_sweep(rig, monkeypatch):
    """Nothing is lost: the agent is still `provisioning` in the store."""
    monkeypatch.setattr(saga, "SWEEP_INTERVAL_S", 0.01)
    write = rig.store.write
    failures = [StoreUnavailable("locked")] * 2

    async def failing_write(fn, *args, **kwargs):
        if failures:
            raise failures.pop()
        return await write(fn, *args, **kwargs)

    await rig.add()
    monkeypatch.setattr(rig.store, "write", failing_write)
    await rig.run()
    assert (await rig.settled()).status == "live"
    assert not failures


# ---- the lease -----------------------------------------------------------------------------------


async def test_agent_of_another_daemon_is_left_alone_until_its_lease_is_over(rig, monkeypatch):
    """Two daemons on one store buy one number."""
    monkeypatch.setattr(saga, "SWEEP_INTERVAL_S", 0.02)
    await rig.add()
    until = AT + timedelta(seconds=saga.LEASE_S)
    assert await rig.store.write(agents.lease, "agt_1", "elsewhere", AT, until) is not None
    await rig.run()
    await trio.sleep(0.1)
    assert (await rig.get()).status == "provisioning"
    assert rig.accounts.ensured == []
    rig.clock.forward(saga.LEASE_S + 1)
    assert (await rig.settled()).status == "live"


async def test_lease_of_the_same_daemon_is_taken_over_at_once(rig):
    """After a crash nobody waits."""
    await rig.add()
    until = AT + timedelta(seconds=saga.LEASE_S)
    await rig.store.write(agents.lease, "agt_1", rig.subject._owner, AT, until)
    await rig.run()
    assert (await rig.settled()).status == "live"
