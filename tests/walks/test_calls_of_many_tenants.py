"""Queued calls of several tenants through the real daemon, killed three times while it dials.

As many as a busy machine dials in half a minute; a thousand of ten tenants are dialled under a mock clock
(`tests/control/test_dialing_queue.py`), and here with TANDEM_WALK_CALLS=10x100, tenants by calls of each.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import NullPool, create_engine, select

from bench.rig import Rig, open_rig
from bench.sim_elevenlabs import AgentScript
from bench.sim_twilio import Caller
from control.store.tables import calls as table

TENANTS, CALLS_EACH = (int(n) for n in os.environ.get("TANDEM_WALK_CALLS", "5x40").split("x"))
CALLS = TENANTS * CALLS_EACH
CPS = 5.0
KILLED_AT = (CALLS // 10, CALLS * 7 // 20, CALLS * 3 // 5)
"""So many calls have reached Twilio when the daemon is killed."""
AT_ONCE = 8
"""Orders on their way to the API at the same time."""
ORDERED_AHEAD_S = 8.0 * max(1.0, CALLS / 200)
"""Most of the calls are queued before the first one is due."""
PATIENCE_S = 240.0 * max(1.0, CALLS / 450)
WINDOWS_S = (1.0, 5.0, 10.0)
DECIDED_WITHIN_S = 0.8
"""Calls leave their slots 1/CPS apart. Between slot and Twilio lie the last decision, for which this is allowed,
then a commit and the request, whose time is known from the record. So what arrives within T seconds left within
T and the longest of these, H: at most CPS * (T + H) + 1 calls. Without pacing a tenant's forty calls come within
two seconds."""


def _caller(tenant: int) -> str:
    return f"+1415555{2000 + tenant}"


def _callee(tenant: int, number: int) -> str:
    return f"+1415556{tenant * CALLS_EACH + number:04d}"


async def test_calls_of_tenants_are_dialled_once_at_their_pace_whatever_is_killed(
    tmp_path: Path,
) -> None:
    """Seen from Twilio: no subaccount above its rate, nobody called twice, no tenant left behind."""
    chance = random.Random(7)
    with trio.fail_after(PATIENCE_S):
        async with open_rig(
            tmp_path,
            agents={"agent_1": AgentScript()},
            numbers=[_caller(tenant) for tenant in range(TENANTS)],
            media={"max_calls_per_worker": 400},
        ) as rig:
            accounts, agents = {}, []
            for tenant in range(TENANTS):
                made = await rig.post("/v2/tenants", {"name": f"Tenant {tenant}"})
                path = f"/v2/tenants/{made['id']}"
                limited = await rig.api.patch(path, json={"limits": {"cps": CPS}})
                assert limited.status_code == 200, limited.text
                accounts[made["subaccount"]["sid"]] = tenant
                rig.twilio.numbers[_caller(tenant)].account_sid = made["subaccount"]["sid"]
                agent = await rig.create_agent(_caller(tenant), "agent_1", tenant_id=made["id"])
                agents.append(agent["id"])
            orders = [(tenant, n) for tenant in range(TENANTS) for n in range(CALLS_EACH)]
            chance.shuffle(orders)
            for order in orders:
                rig.twilio.destinations[_callee(*order)] = Caller(result="busy", answer_after_s=0.1)
            await _queue(rig, agents, orders)
            for count in KILLED_AT:
                while len(rig.twilio.calls) < count:
                    await trio.sleep(0.02)
                await rig.daemon.stop(signal.SIGKILL)
                await rig.restart_daemon()
            items = await _settled(rig)

            calls = sorted(rig.twilio.calls.values(), key=lambda call: call.created_at.timestamp())
            assert set(Counter(call.to_number for call in calls).values()) == {1}
            sids = {
                it["metadata"]["twilio_call_sid"] for it in items if it["dial_state"] == "created"
            }
            assert sids <= {call.sid for call in calls}
            # Between a commit and the end of its request a kill leaves doubt, until Twilio's list is looked at
            # (a minute and more, not waited for here): of a tenant not more than the request under way and the
            # one behind it, for each kill; and no other call of Twilio's is unknown.
            unsure = [item for item in items if item["dial_state"] == "uncertain"]
            assert len(unsure) <= 2 * TENANTS * len(KILLED_AT)
            assert len(sids) + len(unsure) == CALLS
            unknown = {call.to_number for call in calls if call.sid not in sids}
            assert unknown <= {item["to"] for item in unsure}
            at_s: dict[int, list[float]] = defaultdict(list)
            for call in calls:
                at_s[accounts[call.account_sid]].append(call.created_at.timestamp())
            sent = _sent_at(rig.store_url)
            on_the_way_s = max(
                (call.created_at - sent[call.sid]).total_seconds()
                for call in calls
                if call.sid in sent
            )
            held_up_s = DECIDED_WITHIN_S + on_the_way_s
            assert CPS * (min(WINDOWS_S) + held_up_s) + 1 < CALLS_EACH, "too slow a machine to tell"
            for tenant, times in at_s.items():
                for window_s in WINDOWS_S:
                    allowed = CPS * (window_s + held_up_s) + 1
                    assert _most_within(times, window_s) <= allowed, (tenant, window_s)
            half = Counter(accounts[call.account_sid] for call in calls[: len(calls) // 2])
            assert len(half) == TENANTS
            assert min(half.values()) > CALLS_EACH / 4  # its fair share is a half
            # Whether it was the ceiling that held them, or a machine that could not do more: near 100 % it was the ceiling.
            reached = [_most_within(times, 5.0) / (CPS * 5.0) for times in at_s.values()]
            print(  # noqa: T201
                f"of the ceiling {min(reached):.0%} to {max(reached):.0%} reached in each tenant's best 5 s,",
                {w: max(_most_within(t, w) for t in at_s.values()) for w in WINDOWS_S},
                f"longest on the way {on_the_way_s:.2f} s, uncertain {len(unsure)}, first half {min(half.values())}-{max(half.values())},",
                f"dialled in {(calls[-1].created_at - calls[0].created_at).total_seconds():.1f} s,",
                f"longest gap {max(b.created_at.timestamp() - a.created_at.timestamp() for a, b in pairwise(calls)):.1f} s",
            )


async def _queue(rig: Rig, agents: list[str], orders: list[tuple[int, int]]) -> None:
    waiting = list(reversed(orders))

    async def some() -> None:
        while waiting:
            tenant, number = waiting.pop()
            at = datetime.now(UTC) + timedelta(seconds=ORDERED_AHEAD_S)
            body = {"agent_id": agents[tenant], "to": _callee(tenant, number)}
            await rig.post("/v2/calls/initiate", body | {"not_before": at.isoformat()})

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(some)


async def _settled(rig: Rig) -> list[dict[str, Any]]:
    """All records, when nothing is left to be dialled. How those that were ringing at a kill ended is told later."""
    while True:
        items = await _all(rig)
        if all(item["dial_state"] in ("created", "uncertain") for item in items):
            return items
        await trio.sleep(0.5)


async def _all(rig: Rig) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next_cursor": ""}
    while page["next_cursor"] is not None:
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
        page = await rig.get("/v2/calls", limit=100, **cursor)
        items += page["items"]
    return items


def _sent_at(store_url: str) -> dict[str, datetime]:
    """When each call was decided, just before it was written down and asked for, by its SID."""
    engine = create_engine(store_url, poolclass=NullPool)
    columns = table.c.twilio_call_sid, table.c.sent_at
    with engine.connect() as store:
        rows = store.execute(select(*columns).where(table.c.twilio_call_sid.is_not(None)))
        return {row.twilio_call_sid: row.sent_at for row in rows}


def _most_within(times_s: list[float], window_s: float) -> int:
    """The largest number of these (sorted) instants in any half-open window."""
    most = begin = 0
    for end, at_s in enumerate(times_s):
        while at_s - times_s[begin] >= window_s:
            begin += 1
        most = max(most, end - begin + 1)
    return most
