"""From an empty database to an agent that answers, through the real daemon; and killed at every step."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from bench import rig as rigs
from bench.rig import open_rig
from bench.sim_twilio import Caller, HangsUp
from control.failpoints import VARIABLE

PATIENCE_S = 120.0
ALIVE_WITHIN_S = 90.0
REST_LATENCY_S = 0.35
"""What a request to either provider takes, about; making things takes longer."""
INDEXING_S = 3.0
BODY = {
    "name": "Coastal Heating",
    "business_url": "https://coastal.example.com",
    "vertical": "hvac",
    "number": {"type": "local", "country": "US", "area_code": "843"},
    "timezone": "America/New_York",
    "location": "12 King Street, Charleston, SC",
}
POINTS = (
    "subaccount.begun",
    "key.begun",
    "numbers.intent_kept",
    "numbers.bought",
    "number.kept",
    "knowledge_base.asked",
    "knowledge_base.kept",
    "elevenlabs_agent.asked",
    "elevenlabs_agent.kept",
    "routing.begun",
    "self_test.begun",
    "live.begun",
)
"""Where the saga is killed, in the order in which it comes by."""


async def test_agent_from_nothing_is_live_well_under_ninety_seconds(tmp_path: Path) -> None:
    """At the providers' own pace; then a call to the new number reaches the new agent."""
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={}) as rig:
            rig.twilio.latency_s = rig.elevenlabs.rest_latency_s = REST_LATENCY_S
            rig.elevenlabs.book.indexing_s = INDEXING_S
            agent = await rig.settled_agent(
                await rig.post("/v2/agents", BODY), timeout_s=ALIVE_WITHIN_S
            )
            for step in agent["provisioning"]["steps"]:
                print(f"{step['name']:18} {step['status']:8} {step['ms']:6} ms")  # noqa: T201
            print(f"live after {agent['provisioning']['elapsed_s']} s")  # noqa: T201
            assert agent["status"] == "live", agent["provisioning"]
            assert agent["provisioning"]["elapsed_s"] < ALIVE_WITHIN_S / 2
            tested = list(rig.elevenlabs.conversations.values())
            assert len(tested) == 1
            assert tested[0].ended_at_s is not None

            call = await rig.twilio.call_in(
                "+14155550100", agent["number"]["e164"], Caller(hangs_up=HangsUp(at_s=2.0))
            )
            await call.settled()
            record = await rig.record_of(call.sid)
            assert (record["agent_id"], record["status"]) == (agent["id"], "completed")
            assert len(call.heard) > 0
            *_, conversation = rig.elevenlabs.conversations.values()
            variables = conversation.initiation["dynamic_variables"]
            assert variables["location"] == "12 King Street, Charleston, SC"
            assert variables["timezone"] == "America/New_York"
            assert rig.elevenlabs.violations == []


async def test_agent_whose_daemon_is_killed_at_every_step_is_made_once(tmp_path: Path) -> None:
    """SIGKILL at each point in turn, each time by another life of the daemon: one number, one of each."""
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={}) as rig:
            agent = None
            for point in POINTS:
                await rig.daemon.stop(signal.SIGKILL)
                rig.environment[VARIABLE] = point
                if agent is None:
                    await rig.restart_daemon()
                    agent = await rig.post("/v2/agents", BODY)
                else:
                    rig.daemon = rigs._spawn(rig.folder, rig.environment)
                await _killed(rig.daemon, point)
            del rig.environment[VARIABLE]
            await rig.restart_daemon()
            assert agent is not None
            agent = await rig.settled_agent(await rig.get(f"/v2/agents/{agent['id']}"))
            assert agent["status"] == "live", agent["provisioning"]
            assert [n for n in rig.twilio.numbers if n.startswith("+1843")] == [
                agent["number"]["e164"]
            ]
            made = rig.elevenlabs.book.made
            assert (made["agents"], made["documents"]) == (1, 1)
            assert made["tools"] == len(rig.elevenlabs.book.tools)
            names = [config["name"] for config in rig.elevenlabs.book.tools.values()]
            assert sorted(names) == sorted(set(names))
            assert rig.elevenlabs.violations == []


async def _killed(daemon: rigs.Daemon, point: str) -> None:
    with trio.move_on_after(20):
        while daemon.process.poll() is None:
            await trio.sleep(0.02)
    if daemon.process.poll() != -signal.SIGKILL:
        pytest.fail(f"not killed at {point}: {daemon.log_path.read_text()[-2000:]}")
