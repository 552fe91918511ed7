"""The dial queue: nobody above the account's pace, nobody starved, nobody called twice, whatever is killed."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
import trio
from sqlalchemy import Connection

from control import cluster, verdict
from control import switchboard as switchboard_module
from control.dialing import intake, pump
from control.ledger import Ruling
from control.refusals import PolicyRefused
from control.store import agents
from control.store import calls as table
from control.store import dialing as queue
from control.store.tables.dialing import dial_queue
from tests.control.dialing_rig import (
    InlineStore,
    agent_of,
    most_in_a_second,
    number_of,
    open_dialing,
)
from tests.control.switchboard_rig import NOW

# A store in memory, run without threads: a mock clock does not wait for a server.
pytestmark = pytest.mark.sqlite

TENANTS = 10
CPS = 5.0


@pytest.fixture(autouse=True)
def seldom_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days pass in here; a daemon that looks twice a second would look a million times."""
    monkeypatch.setattr(cluster, "LISTEN_EVERY_S", 600.0)
    monkeypatch.setattr(cluster, "BEAT_EVERY_S", 60.0)
    monkeypatch.setattr(cluster, "LEASE", timedelta(seconds=300))


@pytest.fixture
def long_wait(monkeypatch):
    """Hours of virtual time without a look every second."""
    monkeypatch.setattr(pump, "IDLE_S", 600.0)
    monkeypatch.setattr(switchboard_module, "FLUSH_EVERY_S", 600.0)


@pytest.fixture(autouse=True)
def policy(monkeypatch):
    """Whoever queues a call here waits for nothing, and policy says what the test wants."""
    monkeypatch.setattr(intake, "ANSWER_WITHIN_S", 0.0)
    script = Policy()
    monkeypatch.setattr(verdict, "ask", script.ask)
    return script


class Policy:
    """Allows, unless `says(question, at)` gives another decision."""

    def __init__(self):
        self.says = lambda question, at: {"allowed": True, "outcome": "allow", "rules": []}

    async def ask(self, office, question, at=None):
        now = office.clock.now()
        decision = self.says(question, at or now)
        ruling = Ruling(question.phase, question.tenant_id, decision, now)
        return verdict.Verdict(decision["allowed"], ruling, "" if decision["allowed"] else "TEST")


def _not_before(opens_at):
    """Calling hours that begin at `opens_at`."""

    def says(question, at):
        if at >= opens_at:
            return {"allowed": True, "outcome": "allow", "rules": []}
        retry_at = opens_at.isoformat()
        return {"allowed": False, "outcome": "defer", "retry_at": retry_at, "rules": []}

    return says


def _left(conn: Connection) -> int:
    return len(conn.execute(dial_queue.select()).all())


async def _empty(rig, within_s, every_s=0.5):
    with trio.fail_after(within_s):
        while await rig.store.read(_left):
            await trio.sleep(every_s)


async def _order(switchboard, tenant, calls, **more):
    for number in range(calls):
        await switchboard.initiate(
            agent_id=agent_of(tenant), to=f"+1303{tenant:02}{number:05}", **more
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_thousand_calls_of_ten_tenants_with_daemons_killed(autojump_clock, seed):
    """1,000 calls, 5 a second and tenant, the daemon killed at random moments: each is dialled once."""
    chance = random.Random(seed)
    async with open_dialing(tenants_count=TENANTS, cps=CPS) as rig:
        async with rig.daemon() as switchboard:
            for tenant in range(TENANTS):
                await _order(switchboard, tenant, 100)
        kills = 0
        while await rig.store.read(_left):
            # Every third time it is another machine: then leases have to run out first.
            async with rig.daemon(port=9000 + kills if kills % 3 == 2 else 8080):
                await trio.sleep(chance.uniform(0.01, 3.0) if kills < 12 else 400)
            kills += 1
        assert kills > 10
        dialled = Counter((from_, to) for _, from_, to in rig.twilio.arrived)
        assert len(dialled) == 1000
        assert set(dialled.values()) == {1}
        for times in rig.twilio.times().values():
            assert len(times) == 100
            assert most_in_a_second(times) <= CPS
        records, _ = await rig.store.read(table.list_calls, limit=2000)
        assert {record.dial_state for record in records} <= {"created"}
        assert len({record.twilio_call_sid for record in records}) == 1000


async def test_call_that_waits_for_its_slot_has_not_been_sent(autojump_clock):
    """Who is killed while it waits loses no call: the store says that nothing has left."""
    async with open_dialing(tenants_count=1, cps=CPS) as rig, rig.daemon() as switchboard:
        tenant_id = (await rig.store.read(agents.get, agent_of(0))).tenant_id
        switchboard._dialer._last_sent_s[tenant_id] = trio.current_time() + 10
        await _order(switchboard, 0, 1)
        await trio.sleep(5)
        ((record,), _) = await rig.store.read(table.list_calls, limit=10)
        assert (record.dial_state, rig.twilio.arrived) == ("intent", [])
        await _empty(rig, 30)
        ((record,), _) = await rig.store.read(table.list_calls, limit=10)
        assert (record.dial_state, len(rig.twilio.arrived)) == ("created", 1)


async def test_undisturbed_each_account_dials_at_its_full_pace(autojump_clock):
    """Ten accounts at five a second: all are through in the time of one, and no second has six."""
    async with open_dialing(tenants_count=TENANTS, cps=CPS) as rig, rig.daemon() as switchboard:
        began_s = trio.current_time()
        for tenant in range(TENANTS):
            await _order(switchboard, tenant, 100)
        await _empty(rig, 60)
        assert trio.current_time() - began_s < 100 / CPS * 1.1
        assert len(rig.twilio.arrived) == 1000
        assert max(most_in_a_second(times) for times in rig.twilio.times().values()) == CPS


async def test_slow_store_costs_no_account_its_pace(autojump_clock, monkeypatch):
    """Every look and every commit takes 30 ms: turns come late, but the next ones do not come later for it."""

    async def slow(store, fn, limiter, deadline_s):
        await trio.sleep(0.03)
        return fn()

    async with open_dialing(tenants_count=2, cps=CPS) as rig, rig.daemon() as switchboard:
        at = rig.clock.now() + timedelta(seconds=60)
        for tenant in range(2):
            await _order(switchboard, tenant, 100, not_before=at)
        monkeypatch.setattr(InlineStore, "_in_thread", slow)
        await _empty(rig, 120)
        for times in rig.twilio.times().values():
            assert len(times) == 100
            assert max(times) - min(times) < 99 / CPS + 1.0
            assert (
                most_in_a_second(times) <= CPS + 1
            )  # of what left 200 ms apart, a commit later or not


async def test_a_tenant_with_many_calls_delays_the_others_by_no_more_than_a_turn(autojump_clock):
    """Room for few calls: a big campaign that was queued first does not keep small ones waiting."""
    async with open_dialing(tenants_count=4, cps=50.0, seats=2) as rig:
        async with rig.daemon() as switchboard, trio.open_nursery() as nursery:
            nursery.start_soon(_end_calls_after, rig, switchboard, 1.0)
            await _order(switchboard, 0, 200)
            for tenant in (1, 2, 3):
                await _order(switchboard, tenant, 10)
            with trio.fail_after(600):
                while len(rig.twilio.arrived) < 40:
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        callers = [from_ for _, from_, _ in rig.twilio.arrived]
        everybody_waits = callers.index(number_of(3))
        served = Counter(callers[everybody_waits : everybody_waits + 28])
        assert all(6 <= served[number_of(tenant)] <= 8 for tenant in range(4)), served


async def _end_calls_after(rig, switchboard, talk_s):
    """Nobody answers, so a seat is free again."""
    seen = 0
    while True:
        await trio.sleep(talk_s)
        for call in rig.twilio.calls[seen:]:
            await switchboard.call_status({"CallSid": call.sid, "CallStatus": "no-answer"}, None)
            seen += 1


async def test_within_a_tenant_first_come_first_served(autojump_clock):
    """In the order in which they were ordered."""
    async with open_dialing() as rig, rig.daemon() as switchboard:
        await _order(switchboard, 0, 50)
        await _empty(rig, 60)
        assert [to for _, _, to in rig.twilio.arrived] == [f"+130300{n:05}" for n in range(50)]


async def test_not_before_waits_for_its_time(autojump_clock, long_wait):
    """Queued with the moment; dialled then, and not earlier."""
    async with open_dialing() as rig, rig.daemon() as switchboard:
        at = NOW + timedelta(seconds=trio.current_time() + 3600)
        record = await switchboard.initiate(agent_id=agent_of(0), to="+13035550100", not_before=at)
        entry = await rig.store.read(queue.get, record.id)
        assert (entry.due_at, entry.waiting_for) == (at, "not_before")
        await trio.sleep(3590)
        assert not rig.twilio.arrived
        await trio.sleep(11)
        assert len(rig.twilio.arrived) == 1


async def test_put_off_by_policy_is_dialled_when_it_may_be(autojump_clock, policy, long_wait):
    """`on_blocked: schedule`: queued until the moment that policy named, and asked about again then."""
    async with open_dialing() as rig, rig.daemon() as switchboard:
        opens_at = rig.clock.now() + timedelta(hours=9)
        policy.says = _not_before(opens_at)
        with pytest.raises(PolicyRefused):
            await switchboard.initiate(agent_id=agent_of(0), to="+13035550100")
        record = await switchboard.initiate(
            agent_id=agent_of(0), to="+13035550101", may_be_put_off=True
        )
        assert (record.status, record.decision["outcome"]) == ("queued", "defer")
        entry = await rig.store.read(queue.get, record.id)
        assert (entry.due_at, entry.waiting_for) == (opens_at, "policy")
        await trio.sleep(9 * 3600 - 1)
        assert not rig.twilio.arrived
        await _empty(rig, 5)
        assert [to for _, _, to in rig.twilio.arrived] == ["+13035550101"]
        phases = [phase for phase, *_ in await rig.store.read(table.decisions_of, record.id)]
        assert phases == ["accept", "dial"]


async def test_hours_that_end_while_calls_wait_put_the_rest_off(autojump_clock, policy, long_wait):
    """Accepted at 20:59:30 behind a queue: what is not dialled in time rings the next morning."""
    async with open_dialing(cps=1.0) as rig, rig.daemon() as switchboard:
        closes_at = rig.clock.now() + timedelta(seconds=30)
        opens_at = closes_at + timedelta(hours=11)

        def says(question, at):
            is_open = at < closes_at or at >= opens_at
            more = {} if is_open else {"retry_at": opens_at.isoformat()}
            outcome = "allow" if is_open else "defer"
            return {"allowed": is_open, "outcome": outcome, "rules": []} | more

        policy.says = says
        began_s = trio.current_time()
        await _order(switchboard, 0, 60, may_be_put_off=True)
        await trio.sleep(3600)
        evening = [at_s - began_s for at_s, _, _ in rig.twilio.arrived]
        assert 25 <= len(evening) <= 30
        assert max(evening) < 30
        await _empty(rig, 12 * 3600, 60)
        assert len({to for _, _, to in rig.twilio.arrived}) == len(rig.twilio.arrived) == 60
        assert all(
            at_s - began_s < 30 or at_s - began_s >= 11 * 3600 for at_s, _, _ in rig.twilio.arrived
        )


async def test_horizon_over_gives_up_with_a_reason(autojump_clock, policy, long_wait):
    """Deferred again and again: after a week nobody waits for this call any more."""
    async with open_dialing() as rig, rig.daemon() as switchboard:
        policy.says = lambda question, at: {
            "allowed": False,
            "outcome": "defer",
            "retry_at": (at + timedelta(days=2)).isoformat(),
            "rules": [],
        }
        record = await switchboard.initiate(
            agent_id=agent_of(0), to="+13035550101", may_be_put_off=True
        )
        for day in (0, 2, 4):
            found = await rig.store.read(table.get, record.id)
            assert (day, found.status) == (day, "queued")
            rig.clock.ahead += timedelta(days=2)  # what is due then is found at the next look
            await trio.sleep(pump.IDLE_S + 1)
        found = await rig.store.read(table.get, record.id)
        assert (found.status, found.result) == ("blocked", "policy")
        assert not rig.twilio.arrived


async def test_limit_of_calls_at_once_holds(autojump_clock):
    """A tenant with two calls in progress gets no third one."""
    async with open_dialing(limits={"calls_max": 2}) as rig, rig.daemon() as switchboard:
        await _order(switchboard, 0, 5)
        await trio.sleep(30)
        assert len(rig.twilio.arrived) == 2
        sid = rig.twilio.calls[0].sid
        await switchboard.call_status({"CallSid": sid, "CallStatus": "busy"}, None)
        await trio.sleep(5)
        assert len(rig.twilio.arrived) == 3


async def test_calls_of_a_minute_are_spread_over_the_minutes(autojump_clock):
    """Ten are ordered, three may begin in a minute."""
    async with open_dialing(limits={"calls_per_minute": 3}) as rig, rig.daemon() as switchboard:
        await _order(switchboard, 0, 10)
        await _empty(rig, 300)
        times = sorted(rig.twilio.times()[number_of(0)])
        assert len(times) == 10
        assert max(sum(at <= t < at + 59.0 for t in times) for at in times) == 3
        assert times[-1] - times[0] < 3 * 60 + 10


async def test_own_cps_of_a_tenant_counts(autojump_clock):
    """The tenant's setting goes before the configuration's."""
    async with open_dialing(limits={"cps": 2.0}) as rig, rig.daemon() as switchboard:
        await _order(switchboard, 0, 20)
        await _empty(rig, 60)
        assert most_in_a_second(rig.twilio.times()[number_of(0)]) == 2


async def test_queue_at_twilio_slows_down_until_it_is_empty(autojump_clock):
    """The account may do one a second, whatever we were told: its queue stays short all the same."""
    async with open_dialing(cps=5.0) as rig, rig.daemon() as switchboard:
        rig.twilio.true_cps = 1.0
        await _order(switchboard, 0, 200)
        await _empty(rig, 400)
        assert max(rig.twilio.queued_ms) <= 4_000
        assert sum(rig.twilio.queued_ms) / 200 < 1_500
        times = rig.twilio.times()[number_of(0)]
        assert times[-1] - times[0] < 280  # near the true pace, not far below it


async def test_too_many_requests_is_tried_again(autojump_clock):
    """429 made nothing: the call goes back and is dialled later, once."""
    async with open_dialing() as rig, rig.daemon() as switchboard:
        rig.twilio.busy = 3
        await _order(switchboard, 0, 2)
        await _empty(rig, 60)
        assert (rig.twilio.refused, len(rig.twilio.arrived)) == (3, 2)


async def test_two_daemons_share_the_queue(autojump_clock):
    """Each row is taken by one of them, and together they keep the pace."""
    async with open_dialing(tenants_count=3) as rig:
        async with rig.daemon(8081) as one, rig.daemon(8082):
            for tenant in range(3):
                await _order(one, tenant, 60)
            await _empty(rig, 60)
        assert len({to for _, _, to in rig.twilio.arrived}) == len(rig.twilio.arrived) == 180
