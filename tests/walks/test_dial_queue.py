"""Outbound calls through the real daemon: the queue outlives SIGKILL, and machines get their message."""

from __future__ import annotations

import random
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import trio

from bench.sim_twilio import Caller
from tests.walks.test_whole_calls import GREETER, OURS, rig_for

CALLS = 24
KILLS = 2
CALLEE = "+14155550123"


def _number(index):
    return f"+1415555{3000 + index}"


@pytest.mark.parametrize("seed", [1])
async def test_daemon_killed_while_it_dials_calls_everybody_once(tmp_path, seed):
    """SIGKILL at random moments, Twilio slow to answer: no call reaches it twice, and none is forgotten.

    A daemon that dies between its commit and its request leaves a call of which nobody can know whether Twilio
    has it: that one stays `uncertain`, is looked for, and is not dialled again.
    """
    chance = random.Random(seed)
    async with rig_for(tmp_path, {"greeter": GREETER}, media={"max_calls_per_worker": 100}) as rig:
        agent = await rig.create_agent(OURS, "greeter")
        for index in range(CALLS):
            rig.twilio.destinations[_number(index)] = Caller(result="busy", answer_after_s=0.2)
        rig.twilio.latency_s = 0.3

        async def order(index):
            at = datetime.now(UTC) + timedelta(seconds=3)
            body = {"agent_id": agent["id"], "to": _number(index), "not_before": at.isoformat()}
            assert (await rig.api.post("/v2/calls/initiate", json=body)).status_code == 201

        for index in range(CALLS):
            await order(index)
        for _ in range(KILLS):
            await trio.sleep(chance.uniform(2.0, 3.0))
            await rig.daemon.stop(signal.SIGKILL)
            await rig.restart_daemon()
        with trio.fail_after(180):
            while True:
                items = (await rig.get("/v2/calls", limit=100))["items"]
                dialled = Counter(call.to_number for call in rig.twilio.calls.values())
                # A call that Twilio has is found there and told to its end; one that it has not stays in doubt.
                if all(
                    item["ended_at"]
                    or (item["dial_state"] == "uncertain" and item["to"] not in dialled)
                    for item in items
                ):
                    break
                await trio.sleep(0.2)
        assert set(dialled.values()) == {1}
        made = [item for item in items if item["dial_state"] == "created"]
        assert {item["metadata"]["twilio_call_sid"] for item in made} == set(rig.twilio.calls)
        assert {item["status"] for item in made} == {"busy"}
        unsure = {item["to"] for item in items} - set(dialled)
        assert len(items) == CALLS
        assert len(unsure) <= 2 * KILLS


async def test_machine_gets_its_message_and_the_record_says_so(tmp_path):
    """Twilio's detection, its callback, the message spoken on the line, the record."""
    async with rig_for(tmp_path, {"greeter": GREETER}) as rig:
        agent = await rig.create_agent(OURS, "greeter")
        rig.twilio.destinations[CALLEE] = Caller(
            answered_by="machine_end_beep", detected_after_s=1.0
        )
        wanted = {"on_machine": "leave_message", "message": "Please call us back."}
        made = await rig.post(
            "/v2/calls/initiate",
            {"agent_id": agent["id"], "to": CALLEE, "machine_detection": wanted},
        )
        sid = made["metadata"]["twilio_call_sid"]
        record = await rig.record_of(sid)
        assert (record["result"], record["answered_by"]) == ("machine", "machine_end_beep")
        assert rig.twilio.calls[sid].heard_texts == ["Please call us back."]
        assert "machine_message" in [line["name"] for line in record["timeline"]]
