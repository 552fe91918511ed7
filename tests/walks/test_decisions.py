"""Decisions through the real daemon: a request that is repeated, and where each decision about a call can be read."""

from __future__ import annotations

import re
import subprocess
import sys

import trio

from bench.sim_elevenlabs import AgentScript
from bench.sim_twilio import Caller, HangsUp
from tests.walks.test_law import NOON, THEM, lawful
from tests.walks.test_whole_calls import OURS, SHORT, rig_for

EXPRESS = f"""e164,seller,channels,purposes,level,occurred_at,method,disclosure_id,disclosure_text,evidence_ref
{THEM},Acme Roofing LLC,voice_ai,informational,express,2027-01-05T15:00:00Z,web_form,d8,"You may call me about my roof.",form/4712
"""


async def test_request_sent_twice_under_one_key_is_one_call_with_one_decision(tmp_path):
    """Informational on an express consent, all rules in force: also at once, and after the daemon was started anew."""
    async with rig_for(
        tmp_path,
        {"agent_1": AgentScript(first_message=SHORT, response_latency_s=0.05)},
        rules=("standard",),
        policy={"trust_clock": True, "lists_dir": str(tmp_path / "lists")},
        began_at=NOON,
    ) as rig:
        agent = await rig.create_agent(
            OURS, "agent_1", record=True, manage=True, first_message="Good day."
        )
        body = {"agent_id": agent["id"], "to": THEM, "purpose": "informational"}
        await lawful(rig, EXPRESS, body)
        rig.twilio.destinations[THEM] = Caller(
            hangs_up=HangsUp(after_agent_silence_s=0.5, latest_s=15.0)
        )
        answers = []

        async def ask():
            headers = {"Idempotency-Key": "case-51"}
            answers.append(await rig.api.post("/v2/calls/initiate", json=body, headers=headers))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        while any(one.status_code == 409 for one in answers):  # the first one was still under way
            answers = [one for one in answers if one.status_code != 409]
            await ask()
        await ask()
        record = await rig.record_of(answers[0].json()["metadata"]["twilio_call_sid"])
        await rig.daemon.stop()
        await rig.restart_daemon()
        await ask()
        assert {one.status_code for one in answers} == {201}
        assert {one.json()["id"] for one in answers} == {record["id"]}
        (decision_id,) = {one.json()["decision"]["id"] for one in answers}
        assert len(rig.twilio.calls) == 1
        assert len((await rig.get("/v2/calls"))["items"]) == 1

        record = await rig.get(f"/v2/calls/{record['id']}")
        assert [(one["phase"], one["outcome"]) for one in record["decisions"]] == [
            ("accept", "allow"),
            ("dial", "allow"),
            ("answer", "allow"),
        ]
        ids = [one["id"] for one in record["decisions"]]
        assert ids == sorted(set(ids))
        assert decision_id in ids
        assert record["decision"]["id"] == ids[-1]
        explained = subprocess.run(
            [sys.executable, "-m", "control", "policy", "explain", record["id"],
             "--config", str(rig.daemon.config_path)],
            env=rig.environment, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert re.findall(r"^\S+ (\w+) \((dec_\w+), ", explained, re.M) == [
            (one["phase"], one["id"]) for one in record["decisions"]
        ]
