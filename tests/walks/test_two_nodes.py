"""Two real daemons on one PostgreSQL behind a balancer: what one leaves, loses or is not asked, the other one does."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import trio

from bench.sim_elevenlabs import AgentScript, prompt
from bench.sim_twilio import Caller, HangsUp, Says
from tests.walks.nodes_rig import (
    GREETER,
    OURS,
    SHORT,
    THEM,
    nothing_is_wrong,
    sent_by,
    time_passes,
    two_nodes,
)

CALLER_HEARD = prompt("caller_sorry")


def names(record):
    return [line["name"] for line in record["timeline"]]


def events_of(node):
    """What the log of a node tells of."""
    return {line["event"] for line in node.daemon.log_lines()}


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
        talker = Caller(says=[Says(audio=CALLER_HEARD.ulaw, after_agent_silence_s=0.3)])
        stays = await first.twilio.call_in(THEM, OURS, talker)
        leaves = await first.twilio.call_in("+14155550101", OURS, Caller())
        await heard_the_agent(leaves)
        (item,) = await records_of(first, stays.sid)
        said = []
        while [turn["role"] for turn in said] != ["agent", "user", "agent"]:
            await trio.sleep(0.1)
            said = (await first.get(f"/v2/calls/{item['id']}"))["transcript"]
        await first.kill_node()
        leaves.hang_up()
        while len(stays.streams) < 2:
            await trio.sleep(0.05)
        await heard_the_agent(stays, stays.media_messages + 20)
        stays.hang_up()
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
    async with two_nodes(tmp_path, postgresql_url, {"agent_1": GREETER}) as (first, _):
        await first.create_agent(OURS, "agent_1")
        first.balancer.only = 0
        call = await first.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=4.0)))
        while not call.webhooks:
            await trio.sleep(0.01)
        first.balancer.only = 1
        await call.settled()
        with trio.fail_after(
            20
        ):  # the worker's own word may close the record before the other node's message has come
            while "duration_s" not in (record := await first.record_of(call.sid))["cost"]:
                await trio.sleep(0.05)
        assert (record["result"], record["status"]) == ("completed", "completed")
        assert record["cost"]["duration_s"] >= 1
        assert "twilio_stream_started" in names(record)
        assert "adopted" not in names(record)
        await nothing_is_wrong(first)


TENANTS = 4
CALLS_EACH = 10
CPS = 1.0
FOUND_WITHIN_S = 120.0
"""For conversations that only ElevenLabs knows of: they are asked for some times, ever more rarely."""
SMS = {
    "template": "{business_name}: we have tried to call you. Reply STOP to end.",
    "when": {"result": ["busy"]},
    "sender": "a2p_10dlc",
}


def customer(tenant, index):
    return f"+1415555{3000 + 100 * tenant + index}"


async def queue_everything(nodes):
    """Every tenant's calls, ordered at both nodes in turn."""
    first = nodes[0]
    agents = []
    for number in first.twilio.numbers:
        tenant = await first.post("/v2/tenants", {"name": f"tenant of {number[-3:]}"})
        limits = await first.api.patch(f"/v2/tenants/{tenant['id']}", json={"limits": {"cps": CPS}})
        assert limits.status_code == 200, limits.text
        first.twilio.numbers[number].account_sid = tenant["subaccount"]["sid"]
        agents.append(await first.create_agent(number, "agent_1", tenant_id=tenant["id"], sms=SMS))
    for index in range(CALLS_EACH):
        for place, agent in enumerate(agents):
            to = customer(place, index)
            first.twilio.destinations[to] = Caller(result="busy", answer_after_s=0.2)
            at = (datetime.now(UTC) + timedelta(seconds=15)).isoformat()
            body = {"agent_id": agent["id"], "to": to, "not_before": at}
            await nodes[index % 2].post("/v2/calls/initiate", body)


def too_fast(times_s, slack=2):
    """Where more calls were created than the pace allows; requests may come `slack` closer than their turns."""
    times_s = sorted(times_s)
    return [
        (times_s[j] - times_s[i], j - i)
        for i in range(len(times_s))
        for j in range(i + 1, len(times_s))
        if j - i > CPS * (times_s[j] - times_s[i]) + slack
    ]


async def test_queue_and_messages_with_a_node_killed_reach_everybody_once(
    tmp_path, postgresql_url, monkeypatch
):
    """40 calls of four tenants and a message after each: none doubled or lost, each account at its own pace.

    An agent waits while each of them rings; a conversation of the node that is killed is known to nobody but ElevenLabs.
    A call whose request may have left with that node is looked for, and never dialled again.
    """
    monkeypatch.setenv("TANDEM_TWILIO_MESSAGE_SETTLE_S", "5")
    numbers = tuple(f"+1415555019{digit}" for digit in range(TENANTS))
    options = {"numbers": numbers, "patience_s": 260.0}
    async with two_nodes(tmp_path, postgresql_url, {"agent_1": GREETER}, **options) as nodes:
        first, other = nodes
        twilio = first.twilio
        await queue_everything(nodes)
        twilio.latency_s = 0.2
        while (
            len(twilio.calls) < TENANTS * CALLS_EACH // 3
            or not twilio.post.messages
            or not all("dialled" in events_of(node) for node in nodes)
        ):
            await trio.sleep(0.05)
        await first.kill_node()
        on_their_way = await trio.to_thread.run_sync(sent_by, first)
        while True:
            await trio.to_thread.run_sync(time_passes, first)
            items = (await other.get("/v2/calls", limit=100))["items"]
            texted = Counter(text.to_number for text in twilio.post.messages.values())
            due = {item["to"] for item in items if item["result"] == "busy"}
            dialled = Counter(call.to_number for call in twilio.calls.values())
            open_ones = [
                item
                for item in items
                if not item["ended_at"]
                and (item["dial_state"] != "uncertain" or item["to"] in dialled)
            ]
            if not open_ones and due <= set(texted):
                break
            await trio.sleep(0.2)
        assert set(dialled.values()) == {1}
        assert set(texted.values()) == {1}
        assert set(texted) == due == set(dialled)
        assert len(items) == TENANTS * CALLS_EACH
        # What the node was about to ask Twilio for when it died may never have left; nothing else is lost.
        assert {item["to"] for item in items} - set(dialled) <= on_their_way
        for sid in twilio.accounts:
            made = [call.created_at.timestamp() for call in twilio.calls_of(sid)]
            assert too_fast(made) == []
        await nothing_is_wrong(first, FOUND_WITHIN_S)


async def test_dialled_call_that_is_answered_at_the_other_node_goes_over(tmp_path, postgresql_url):
    """One node dials and has the agent waiting, Twilio asks the other one: one record, and no talk left open."""
    async with two_nodes(tmp_path, postgresql_url, {"agent_1": GREETER}) as nodes:
        first = nodes[0]
        agent = await first.create_agent(OURS, "agent_1")
        to = customer(0, 0)
        first.twilio.destinations[to] = Caller(answer_after_s=6.0)
        made = await first.post("/v2/calls/initiate", {"agent_id": agent["id"], "to": to})
        sid = made["metadata"]["twilio_call_sid"]
        dialler = next(index for index in (0, 1) if "dialled" in events_of(nodes[index]))
        other = nodes[1 - dialler]
        first.balancer.only = 1 - dialler
        call = first.twilio.calls[sid]
        await heard_the_agent(call)
        call.hang_up()
        await call.settled()
        record = await other.record_of(sid)
        assert (record["result"], record["status"]) == ("completed", "completed")
        assert SHORT.encoded("ulaw_8000")[:800] in call.heard
        assert call.heard_texts == []
        assert "call_let_go" in events_of(nodes[dialler])
        assert {"ringing", "dialled", "adopted", "answered_with_stream"} <= set(names(record))
        assert len(await records_of(other, sid)) == 1
        await nothing_is_wrong(first)
