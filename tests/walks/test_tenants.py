"""Two tenants in the real daemon: calls in their own Twilio subaccounts, and one that is suspended."""

from __future__ import annotations

from pathlib import Path

import trio

from bench.rig import open_rig
from bench.sim_elevenlabs import AgentScript
from bench.sim_twilio import Caller, HangsUp

CALLER = "+14155550100"
NUMBERS = ("+14155550198", "+14155550199")


async def test_calls_of_tenants_run_in_their_own_subaccounts(tmp_path: Path) -> None:
    """Signed with the subaccount's token, ended with its key; each tenant's key sees its own call alone.

    Then one is suspended: its caller hears a refusal, and its own key reads on.
    """
    async with open_rig(tmp_path, agents={"agent_1": AgentScript()}, numbers=NUMBERS) as rig:
        tenants, keys, calls = [], [], []
        for number in NUMBERS:
            made = await rig.post("/v2/tenants", {"name": f"tenant of {number[-3:]}"})
            assert made["status"] == "active"
            rig.twilio.numbers[number].account_sid = made["subaccount"]["sid"]
            agent = await rig.create_agent(number, "agent_1", tenant_id=made["id"])
            assert agent["subaccount"]["sid"] == made["subaccount"]["sid"]
            tenants.append(made)
            keys.append((await rig.post(f"/v2/tenants/{made['id']}/keys"))["key"])
        for number in NUMBERS:
            call = await rig.twilio.call_in(CALLER, number, Caller(hangs_up=HangsUp(at_s=2.0)))
            calls.append(call)
            with trio.fail_after(90):
                await call.settled()
            record = await rig.record_of(call.sid)
            assert record["tenant_id"] == tenants[NUMBERS.index(number)]["id"]
            assert record["answered_at"], record
        for tenant, key, call in zip(tenants, keys, calls, strict=True):
            answered = await rig.api.get("/v2/calls", headers={"Authorization": f"Bearer {key}"})
            seen = [item["metadata"]["twilio_call_sid"] for item in answered.json()["items"]]
            assert seen == [call.sid]
            assert call.account_sid == tenant["subaccount"]["sid"]
        await _suspended(rig, tenants[0], keys[0])


async def _suspended(rig, tenant, key) -> None:  # type: ignore[no-untyped-def]
    answered = await rig.api.patch(f"/v2/tenants/{tenant['id']}", json={"status": "suspended"})
    assert answered.json()["subaccount"]["status"] == "suspended"
    # Twilio itself asks nobody for a suspended account; what was on its way may still come.
    refused = await rig.api.post(
        "/v2/calls/initiate",
        json={"agent_id": rig.agents["agent_1"], "to": CALLER},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert refused.status_code in (403, 404, 409), refused.text
    listed = await rig.api.get("/v2/agents", headers={"Authorization": f"Bearer {key}"})
    assert listed.status_code == 200
