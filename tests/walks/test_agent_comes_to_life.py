"""From an empty database to an agent that answers, through the real daemon; and killed at every step."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from bench import rig as rigs
from bench.rig import open_rig
from bench.sim_twilio import Caller, HangsUp
from control.failpoints import VARIABLE

PATIENCE_S = 600.0
"""Of each walk, on a machine that others use as well; alone they take a fraction of it."""
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
    "subaccount.done",
    "key.begun",
    "key.done",
    "numbers.intent_kept",
    "numbers.bought",
    "number.asked",
    "number.done",
    "knowledge_base.intent",
    "knowledge_base.asked",
    "knowledge_base.done",
    "elevenlabs_tool.asked",
    "elevenlabs_agent.intent",
    "elevenlabs_agent.asked",
    "elevenlabs_agent.done",
    "routing.begun",
    "routing.done",
    "self_test.begun",
    "self_test.done",
    "live.begun",
)
"""Where the saga is killed, in the order in which it comes by: `done` is between a step's work and its commit."""
ACCOUNT_POINTS = (
    "tenant_account_intended",
    "tenant_account_made",
    "tenant_key_intended",
    "tenant_key_made",
)
"""The same for a tenant's account, the first one within `POST /v2/tenants` itself."""


async def test_agent_from_nothing_is_live_well_under_ninety_seconds(tmp_path: Path) -> None:
    """At the providers' own pace; then a call to the new number reaches the new agent."""
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={}) as rig:
            rig.twilio.latency_s = rig.elevenlabs.rest_latency_s = REST_LATENCY_S
            rig.elevenlabs.book.indexing_s = INDEXING_S
            tenant = await rig.post("/v2/tenants", {"name": "Coastal Group"})
            body = BODY | {"tenant_id": tenant["id"]}
            agent = await rig.settled_agent(
                await rig.post("/v2/agents", body), timeout_s=ALIVE_WITHIN_S
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
            assert agent["subaccount"]["sid"] != rig.twilio.account_sid
            *_, conversation = rig.elevenlabs.conversations.values()
            variables = conversation.initiation["dynamic_variables"]
            assert variables["location"] == "12 King Street, Charleston, SC"
            assert variables["timezone"] == "America/New_York"
            await _changed_by_hand_is_put_back(rig, agent)
            assert rig.elevenlabs.violations == []


async def test_number_that_is_sold_out_is_corrected_and_the_agent_comes_to_life(
    tmp_path: Path,
) -> None:
    """Nothing in the area code; another wish by PATCH, a retry: one number, one ElevenLabs agent."""
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={}) as rig:
            rig.twilio.market.sold_out.add("+1843")
            agent = await rig.settled_agent(await rig.post("/v2/agents", BODY))
            assert agent["status"] == "failed"
            assert agent["number"]["status"] == "failed"
            path = f"/v2/agents/{agent['id']}"
            wish = {"country": "US", "area_code": "212"}
            changed = await rig.api.patch(path, json={"number": wish})
            assert changed.status_code == 200, changed.text
            agent = await rig.settled_agent(await rig.post(f"{path}/retry"))
            assert agent["status"] == "live", agent["provisioning"]
            assert agent["number"]["e164"].startswith("+1212")
            bought = [it for it in rig.twilio.numbers if it not in ("+14155550199",)]
            assert bought == [agent["number"]["e164"]]
            assert rig.elevenlabs.book.made["agents"] == 1


async def _changed_by_hand_is_put_back(rig: rigs.Rig, agent: Any) -> None:
    """At both providers, and the record tells of it."""
    number = rig.twilio.numbers[agent["number"]["e164"]]
    number.voice_url = elsewhere = "https://elsewhere.example.com/voice"
    made = rig.elevenlabs.book.agents[agent["elevenlabs"]["agent_id"]]
    tts = {"agent_output_audio_format": "pcm_16000"}
    made.merge({"conversation_config": {"tts": tts}})
    shown = await rig.get(f"/v2/agents/{agent['id']}", refresh="true")
    assert {entry["what"] for entry in shown["drift"]} == {
        "number.voice_url",
        "elevenlabs.tts.agent_output_audio_format",
    }
    (told,) = [entry for entry in shown["drift"] if entry["what"] == "number.voice_url"]
    assert (told["was"], told["now"]) == (elsewhere, f"{rig.public_url}/twilio/voice")
    assert shown["status"] == "live"
    assert number.voice_url == f"{rig.public_url}/twilio/voice"
    config = made.config["conversation_config"]
    assert config["tts"]["agent_output_audio_format"] == "ulaw_8000"
    await rig.api.patch(f"/v2/agents/{agent['id']}", json={"first_message": "Good day!"})
    told = await rig.settled_agent(await rig.get(f"/v2/agents/{agent['id']}"))
    assert told["provisioning"]["steps"][-1]["status"] == "done"
    assert made.config["conversation_config"]["agent"]["first_message"] == "Good day!"


async def test_agent_whose_daemon_is_killed_at_every_step_is_made_once(tmp_path: Path) -> None:
    """SIGKILL at each point in turn, each time by another life of the daemon: one number, one of each."""
    key = {"Idempotency-Key": "agent-1"}
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={}) as rig:
            tenant = await rig.post("/v2/tenants", {"name": "Coastal Group"})
            body = BODY | {"tenant_id": tenant["id"]}
            for point in POINTS:
                await rig.daemon.stop(signal.SIGKILL)
                rig.environment[VARIABLE] = point
                if point == POINTS[0]:
                    await rig.restart_daemon()
                    # Killed within a moment of the commit: the answer may or may not get out.
                    with contextlib.suppress(httpx.TransportError):
                        await rig.api.post("/v2/agents", json=body, headers=key)
                else:
                    rig.daemon = rigs._spawn(rig.folder, rig.environment)
                await _killed(rig.daemon, point)
            del rig.environment[VARIABLE]
            await rig.restart_daemon()
            await rig.api.post("/v2/agents", json=body, headers=key)  # nothing is made by it
            (agent,) = (await rig.get("/v2/agents"))["items"]
            agent = await rig.settled_agent(agent)
            assert agent["status"] == "live", agent["provisioning"]
            assert len(rig.twilio.accounts) == 2  # the main one and the tenant's
            owned = rig.twilio.numbers_of(agent["subaccount"]["sid"])
            assert [number.phone_number for number in owned] == [agent["number"]["e164"]]
            assert len(rig.twilio.accounts.keys_of(agent["subaccount"]["sid"])) == 1
            made = rig.elevenlabs.book.made
            assert (made["agents"], made["documents"]) == (1, 1)
            assert made["tools"] == len(rig.elevenlabs.book.tools)
            names = [config["name"] for config in rig.elevenlabs.book.tools.values()]
            assert sorted(names) == sorted(set(names))
            assert rig.elevenlabs.violations == []


async def test_tenant_whose_daemon_is_killed_at_every_step_has_one_account_and_one_key(
    tmp_path: Path,
) -> None:
    """SIGKILL within the request, and at each point after it; the same request again makes no second tenant."""
    name, key = {"name": "Coastal Group"}, {"Idempotency-Key": "tenant-1"}
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={}) as rig:
            for point in ACCOUNT_POINTS:
                await rig.daemon.stop(signal.SIGKILL)
                _time_passes(rig)
                rig.environment[VARIABLE] = point
                if point == ACCOUNT_POINTS[0]:
                    await rig.restart_daemon()
                    with pytest.raises(httpx.TransportError):
                        await rig.api.post("/v2/tenants", json=name, headers=key)
                else:
                    rig.daemon = rigs._spawn(rig.folder, rig.environment)
                await _killed(rig.daemon, point)
            del rig.environment[VARIABLE]
            _time_passes(rig)
            await rig.restart_daemon()
            again = await rig.api.post("/v2/tenants", json=name, headers=key)
            assert again.status_code == 409
            assert again.json()["type"].endswith("in-flight")  # nothing is made by it
            while True:
                tenants = (await rig.get("/v2/tenants"))["items"]
                (tenant,) = [one for one in tenants if one["name"] == name["name"]]
                if tenant["status"] == "active":
                    break
                await trio.sleep(0.1)
            (account,) = rig.twilio.accounts.subaccounts
            assert account.sid == tenant["subaccount"]["sid"]
            keys = rig.twilio.accounts.keys_of(account.sid)
            assert len(keys) == 1
            assert (
                await rig.settled_agent(
                    await rig.post("/v2/agents", BODY | {"tenant_id": tenant["id"]})
                )
            )["status"] == "live"


def _time_passes(rig: rigs.Rig) -> None:
    """As if the daemon had been dead for an hour: leases have run out, and what Twilio does not know by now it
    will not know. Until then "not there" may mean "not there yet", and nothing is made again.
    """
    earlier = "= datetime({0}, '-1 hour') || '.000000' WHERE {0} IS NOT NULL"
    with contextlib.closing(sqlite3.connect(rig.folder / "tandem.db")) as store, store:
        for table, column in (("tenant_credentials", "updated_at"), ("tenants", "lease_until")):
            store.execute(f"UPDATE {table} SET {column} " + earlier.format(column))


async def _killed(daemon: rigs.Daemon, point: str) -> None:
    with trio.move_on_after(60):
        while daemon.process.poll() is None:
            await trio.sleep(0.02)
    if daemon.process.poll() != -signal.SIGKILL:
        pytest.fail(f"not killed at {point}: {daemon.log_path.read_text()[-2000:]}")
