"""Plug-ins of the policy in the real daemon: one hangs, one raises, and calls that they do not concern go on."""

from __future__ import annotations

import trio

from bench.rig import REPOSITORY
from bench.sim_twilio import Caller, HangsUp
from tests.walks.test_whole_calls import CALLEE, GREETER, THEM, rig_for

NUMBERS = ("+14155550197", "+14155550198", "+14155550199")
PLUG_INS = """
import pathlib, time
from policy import RuleResult

GO = pathlib.Path(__file__).with_name("go")


class Hangs:
    id, version, directions = "ACME-CRM", 1, {"outbound"}

    def __init__(self, tenants):
        self.tenants = tenants

    def __call__(self, facts):
        while not GO.exists():
            time.sleep(0.05)
        return RuleResult(self.id, self.version, "allow", "known_customer")


class Raises(Hangs):
    id = "ACME-BROKEN"

    def __call__(self, facts):
        raise LookupError(facts.to_number)


def hangs(table):
    return Hangs(table["tenants"])


def raises(table):
    return Raises(table["tenants"])
"""
AT_ONCE = 8


def refusals(decision):
    return {one["id"]: one["reason"] for one in decision["rules"] if one["outcome"] != "allow"}


async def test_plug_in_that_hangs_or_raises_refuses_its_own_calls_and_no_others(tmp_path):
    """Eight calls at once of the tenant that it concerns, beside calls in, and of a tenant that it does not."""
    (tmp_path / "acme.py").write_text(PLUG_INS)
    async with rig_for(
        tmp_path,
        {"greeter": GREETER},
        numbers=NUMBERS,
        media={"max_calls_per_worker": 40},
        environment={"PYTHONPATH": f"{REPOSITORY}:{tmp_path}"},
    ) as rig:
        agents, tenants = [], []
        for number in NUMBERS:
            made = await rig.post("/v2/tenants", {"name": f"tenant of {number[-3:]}"})
            rig.twilio.numbers[number].account_sid = made["subaccount"]["sid"]
            tenants.append(made["id"])
            agents.append((await rig.create_agent(number, "greeter", tenant_id=made["id"]))["id"])
        await rig.daemon.stop()
        config = rig.daemon.config_path
        text = config.read_text().replace(
            'rules = ["base"]', 'rules = ["base", "acme:hangs", "acme:raises"]'
        )
        for name, tenant in zip(("hangs", "raises"), tenants, strict=False):
            text += f'[policy."acme:{name}"]\ntenants = ["{tenant}"]\n'
        config.write_text(text)
        await rig.restart_daemon()
        rig.twilio.destinations[CALLEE] = Caller(result="busy", answer_after_s=0.1)

        denied, made_calls, answered = [], [], []

        async def order(agent, kept):
            body = {"agent_id": agent, "to": CALLEE}
            kept.append(await rig.api.post("/v2/calls/initiate", json=body))

        async def calls_in(number):
            call = await rig.twilio.call_in(THEM, number, Caller(hangs_up=HangsUp(at_s=1.0)))
            await call.settled()
            answered.append(call)

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(order, agents[0], denied)
            nursery.start_soon(order, agents[1], denied)
            for number in NUMBERS:
                nursery.start_soon(calls_in, number)
            nursery.start_soon(order, agents[2], made_calls)

        assert [one.status_code for one in denied] == [403] * (AT_ONCE + 1)
        reasons = [refusals(one.json()["decision"]) for one in denied]
        (broken,) = [one for one in reasons if "ACME-BROKEN" in one]
        assert broken == {"ACME-BROKEN": "rule_error: LookupError"}
        hung = [one["ACME-CRM"] for one in reasons if one != broken]
        assert len(hung) == AT_ONCE
        assert {one.partition(":")[0] for one in hung} == {"rule_blocked"}
        (went,) = made_calls
        assert went.status_code == 201, went.text
        assert went.json()["metadata"]["twilio_call_sid"] in rig.twilio.calls
        for call in answered:
            record = await rig.record_of(call.sid)
            assert (record["result"], record["decision"]["allowed"]) == ("completed", True)
        assert len([one for one in rig.twilio.calls.values() if one.to_number == CALLEE]) == 1

        (tmp_path / "go").touch()  # it comes back, and so do its calls
        with trio.fail_after(90):
            while (
                await rig.api.post("/v2/calls/initiate", json={"agent_id": agents[0], "to": CALLEE})
            ).status_code != 201:
                await trio.sleep(0.1)
