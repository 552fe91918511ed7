"""Two real daemons on one PostgreSQL behind a balancer: what one leaves, loses or is not asked, the other one does."""

from __future__ import annotations

import trio

from bench.sim_elevenlabs import AgentScript, prompt
from bench.sim_twilio import Caller, HangsUp, Says
from tests.walks.nodes_rig import GREETER, OURS, SHORT, THEM, nothing_is_wrong, two_nodes

CALLER_HEARD = prompt("caller_sorry")


def names(record):
    return [line["name"] for line in record["timeline"]]


async def heard_the_agent(call, messages=20):
    while call.media_messages < messages:
        await trio.sleep(0.02)


async def records_of(rig, sid):
    items = (await rig.get("/v2/calls", limit=100))["items"]
    return [item for item in items if item["metadata"].get("twilio_call_sid") == sid]


async def test_node_killed_in_mid_talk_leaves_its_callers_to_the_other(tmp_path, postgresql_url):
    """Who stays goes on there, with an agent that knows what was said; who hangs up has a complete record, too.

    The balancer prefers the first node until it is gone, so that both calls are its own.
    """
    script = AgentScript(
        first_message=SHORT,
        replies=(SHORT,),
        transcripts=(CALLER_HEARD.text,),
        response_latency_s=0.05,
    )
    async with two_nodes(tmp_path, postgresql_url, {"agent_1": script}) as (first, other):
        await first.create_agent(OURS, "agent_1")
        first.balancer.only = 0
        talker = Caller(
            says=[Says(audio=CALLER_HEARD.ulaw, after_agent_silence_s=0.3, latest_s=5.0)],
            hangs_up=HangsUp(at_s=14.0),
        )
        stays = await first.twilio.call_in(THEM, OURS, talker)
        leaves = await first.twilio.call_in("+14155550101", OURS, Caller())
        await heard_the_agent(leaves)
        with trio.fail_after(20):  # until the store has what the caller said and what was answered
            while True:
                (item,) = await records_of(first, stays.sid)
                said = (await first.get(f"/v2/calls/{item['id']}"))["transcript"]
                if [turn["role"] for turn in said] == ["agent", "user", "agent"]:
                    break
                await trio.sleep(0.1)
        await first.kill_node()
        leaves.hang_up()
        await stays.settled()
        record = await other.record_of(stays.sid)
        assert (record["result"], record["status"], record["resumes"]) == ("completed",) * 2 + (1,)
        assert len(stays.streams) == 2
        talks = [c for c in first.elevenlabs.conversations.values() if c.initiation is not None]
        contexts = [t.initiation["dynamic_variables"].get("gw_resume_context") for t in talks]
        (context,) = [one for one in contexts if one]
        assert context.splitlines()[:2] == [f"Agent: {SHORT.text}", f"Caller: {CALLER_HEARD.text}"]
        assert "adopted" in names(record)
        assert len(await records_of(other, stays.sid)) == 1
        # Nobody asks about the one who hung up: the other node finds it when the lease has run out.
        gone = await other.record_of(leaves.sid, timeout_s=40.0)
        assert (gone["status"], gone["blame"]) == ("completed", "gateway")
        assert len(await records_of(other, leaves.sid)) == 1
        await nothing_is_wrong(first)


async def test_webhooks_at_the_other_node_reach_the_one_with_the_call(tmp_path, postgresql_url):
    """Status, stream and price come to a node that has no such call; its record is whole all the same."""
    async with two_nodes(tmp_path, postgresql_url, {"agent_1": GREETER}) as (first, other):
        await first.create_agent(OURS, "agent_1")
        first.balancer.only = 0
        call = await first.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=4.0)))
        await heard_the_agent(call, 1)
        first.balancer.only = 1
        await call.settled()
        record = await first.record_of(call.sid)
        assert (record["result"], record["status"]) == ("completed", "completed")
        assert record["cost"]["duration_s"] >= 1
        assert "twilio_stream_stopped" in names(record)
        assert "adopted" not in names(record)
        await nothing_is_wrong(first)
