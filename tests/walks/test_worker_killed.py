"""A media worker killed in mid-call: the caller hears an apology, then an agent who knows what was said, and talks on."""

import os
import signal
from dataclasses import replace

import pytest
import trio

from bench.hearing import share
from bench.sim_elevenlabs import AgentScript, Utterance, prompt
from bench.sim_twilio import Caller
from control.warming import APOLOGY, WORKER_WAIT_S
from tests.walks.test_whole_calls import OURS, THEM, names, rig_for

GREETING = Utterance("Thank you.", Utterance.of("agent_hold").pcm16[: 2 * 8_000])
ANSWER = Utterance("Goodbye.", Utterance.of("agent_goodbye").pcm16[: 2 * 12_000])
QUESTION = prompt("caller_sorry")
AGENT = AgentScript(
    first_message=GREETING,
    replies=(ANSWER,),
    transcripts=(QUESTION.text,),
    response_latency_s=0.05,
)


def _worker_of(rig, record_id):
    """Pid of the worker that holds the call, as the daemon's log says."""
    (name,) = [
        line["worker"]
        for line in rig.daemon.log_lines()
        if line["event"] == "prepared" and line["call_id"] == record_id
    ]
    (pid,) = [
        line["pid"]
        for line in rig.daemon.log_lines()
        if line["event"] == "worker_ready" and line["worker"] == name
    ]
    return pid


async def _until_heard(call, words, stream=0):
    while len(call.streams) <= stream or share(words, call.streams[stream].heard) < 0.9:
        await trio.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
async def test_killed_worker_costs_a_pause_and_an_apology_and_the_talk_goes_on(tmp_path, workers):
    """SIGKILL after the first exchange. With one worker another has to be started; with two the second is there.

    The agent of the second case takes another first message, and does not greet a caller anew.
    """
    takes = () if workers == 1 else ("agent.first_message",)
    agents = {"agent_1": replace(AGENT, overrides=takes)}
    async with rig_for(tmp_path, agents, media={"workers": workers}) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, Caller())
        await _until_heard(call, GREETING.encoded("ulaw_8000"))
        call.say(QUESTION.ulaw)
        await _until_heard(call, ANSWER.encoded("ulaw_8000"))
        (item,) = (await rig.get("/v2/calls"))["items"]
        victim = _worker_of(rig, item["id"])
        os.kill(victim, signal.SIGKILL)
        await _until_heard(call, GREETING.encoded("ulaw_8000"), stream=1)
        call.say(QUESTION.ulaw)
        await _until_heard(call, ANSWER.encoded("ulaw_8000"), stream=1)
        call.hang_up()
        await call.settled()
        record = await rig.record_of(call.sid)

        assert call.heard_texts == [APOLOGY]
        first, second = call.streams
        gap_s = second.times.t_start_sent - (first.times.t_start_sent + first.times.ended_s)
        # A worker that is there is asked at once; one that has to be started has its own deadline.
        assert gap_s < (WORKER_WAIT_S if workers == 1 else WORKER_WAIT_S / 2)
        before, after = [c for c in rig.elevenlabs.conversations.values() if c.initiation]
        context = after.initiation["dynamic_variables"]["gw_resume_context"]
        assert context.splitlines() == [
            f"Agent: {GREETING.text}",
            f"Caller: {QUESTION.text}",
            f"Agent: {ANSWER.text}",
        ]
        assert share(QUESTION.ulaw, before.received_ulaw) > 0.9
        assert share(QUESTION.ulaw, after.received_ulaw) > 0.9
        lines = names(record)
        order = [lines.index(name) for name in ("worker_lost", "asked_to_continue", "resumed")]
        assert order == sorted(order)
        assert lines.count("stream_started") == 2
        assert (record["result"], record["resumes"]) == ("completed", 1)
        said = [(turn["role"], turn["text"]) for turn in record["transcript"]]
        exchange = [("agent", GREETING.text), ("user", QUESTION.text), ("agent", ANSWER.text)]
        again = [("agent", "Sorry, we were interrupted. Please go on."), *exchange[1:]]
        assert said == [*exchange, *(again if takes else exchange)]
