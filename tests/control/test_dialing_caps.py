"""Caps with the real rules and a real store: what rings counts, when it rings, and nothing else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from control import cluster, verdict
from control import switchboard as switchboard_module
from control.dialing import intake, pump
from control.refusals import PolicyRefused
from control.stats import gauges
from control.store import calls as table
from policy import evaluate, load_rules
from tests.control.dialing_rig import agent_of, open_dialing

FLORIDA = "+13055550123"
"""Three solicitations in 24 hours, counted when they ring (Fla. Stat. 501.616(6))."""
RULES = load_rules(("freq_st", "freq_inflight"), {}, lambda name: pytest.fail(name))


@pytest.fixture(autouse=True)
def virtual_days(monkeypatch):
    """Nobody waits for an answer, nothing looks every second, and rules are asked in Trio's own thread."""

    async def decide(office, known):
        await trio.sleep(0.05)  # others decide meanwhile
        return evaluate(office.rules, known)

    monkeypatch.setattr(verdict, "_decide", decide)
    monkeypatch.setattr(intake, "ANSWER_WITHIN_S", 0.0)
    monkeypatch.setattr(pump, "IDLE_S", 600.0)
    monkeypatch.setattr(switchboard_module, "FLUSH_EVERY_S", 600.0)
    monkeypatch.setattr(gauges, "EVERY_S", 3600.0)
    monkeypatch.setattr(cluster, "LISTEN_EVERY_S", 600.0)
    monkeypatch.setattr(cluster, "BEAT_EVERY_S", 600.0)
    monkeypatch.setattr(cluster, "LEASE", timedelta(hours=1))


async def _order(rig, switchboard, hours):
    """A call to Florida in so many hours."""
    at = rig.clock.now() + timedelta(hours=hours)
    order = {"agent_id": agent_of(0), "to": FLORIDA, "not_before": at, "may_be_put_off": True}
    return (await switchboard.initiate(**order)).id


async def _rings_out(rig, switchboard, seen):
    """What was dialled since rings and nobody answers."""
    new = rig.twilio.calls[seen:]
    await trio.sleep(1)  # until Twilio's answer has told the SID
    for call in new:
        for status in ("ringing", "no-answer"):
            await switchboard.call_status({"CallSid": call.sid, "CallStatus": status}, None)
    return seen + len(new)


async def _pass(rig, switchboard, hours):
    """Time passes; every telephone that rings is left ringing."""
    seen = len(rig.twilio.calls)
    for _ in range(hours * 60):
        await trio.sleep(59)
        seen = await _rings_out(rig, switchboard, seen)


async def test_four_scheduled_calls_ring_three_times_in_24_hours(autojump_clock):
    """Ordered together, an hour apart: none keeps another from ringing, and the fourth waits for the next day."""
    async with open_dialing(rules=RULES) as rig, rig.daemon() as switchboard:
        began_s = trio.current_time()
        calls = [await _order(rig, switchboard, hours) for hours in (1, 2, 3, 4)]
        await _pass(rig, switchboard, 8)
        assert len(rig.twilio.arrived) == 3
        last = await rig.store.read(table.get, calls[3])
        assert (last.status, last.decision["outcome"]) == ("queued", "defer")
        assert last.decision["rules"][0]["id"] == "FREQ-ST-FL"
        await _pass(rig, switchboard, 20)
        rang = [at_s - began_s for at_s, _, _ in rig.twilio.arrived]
        assert len(rang) == 4
        assert rang[3] - rang[0] >= 24 * 3600


async def test_calls_ordered_days_ahead_count_on_the_day_they_ring(autojump_clock):
    """Ordered on one day and rung on another: the other day's fourth is one too many."""
    async with open_dialing(rules=RULES) as rig, rig.daemon() as switchboard:
        for hours in (26, 27, 28):
            await _order(rig, switchboard, hours)
        await trio.sleep(25 * 3600)
        await _pass(rig, switchboard, 4)
        assert len(rig.twilio.arrived) == 3
        with pytest.raises(PolicyRefused) as refused:
            await switchboard.initiate(agent_id=agent_of(0), to=FLORIDA)
        deciding = [
            one["id"] for one in refused.value.decision["rules"] if one["outcome"] != "allow"
        ]
        assert deciding == ["FREQ-ST-FL"]


async def test_cancelled_and_refused_calls_use_up_no_cap(autojump_clock):
    """Three that never rang leave all three slots."""
    async with open_dialing(rules=RULES) as rig, rig.daemon() as switchboard:
        for hours in (1, 2, 3):
            await switchboard.hang_up(await _order(rig, switchboard, hours))
        for _ in range(3):
            await _order(rig, switchboard, 0)
            await _pass(rig, switchboard, 1)
        assert len(rig.twilio.arrived) == 3


async def test_calls_decided_at_one_moment_do_not_share_the_last_slot(autojump_clock):
    """Many at once, to one number: a slot is reserved with the decision, so no more than three leave."""
    rules = load_rules(("freq_st",), {}, lambda name: pytest.fail(name))
    async with open_dialing(rules=rules, cps=1000.0) as rig, rig.daemon() as switchboard:
        rig.twilio.latency_s = 20.0
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(_order, rig, switchboard, 0.01)
        await trio.sleep(120)
        assert len(rig.twilio.arrived) == 3
