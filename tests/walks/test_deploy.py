"""Another instance takes over while people talk: the real daemons, one public port, both simulated providers."""

from functools import partial

import trio

from bench import deploy
from bench.sim_elevenlabs import AgentScript
from bench.sim_twilio import Caller, HangsUp
from tests.walks.test_whole_calls import CALLEE, OURS, SHORT, THEM, names, rig_for

GREETER = AgentScript(first_message=SHORT, response_latency_s=0.05)


async def test_deploy_with_calls_in_progress_drops_none(tmp_path):
    """Calls begun before, and while both serve; every one goes on, and no request to the public port is refused."""
    plan = deploy.Plan(
        calls=5,
        between=2,
        outbound_share=3,
        drain_timeout_s=0.5,
        say_s_per_char=0.01,
        stays_s=0.5,
    )
    with trio.fail_after(400):
        outcome = await deploy.run(tmp_path, plan)
    assert outcome.dropped == []
    assert outcome.calls == 5
    assert outcome.handed_over >= 3
    assert len(outcome.gaps_ms) == outcome.handed_over
    assert (outcome.unanswered, outcome.exit_code) == (0, 0)
    assert outcome.is_good


async def test_handed_over_call_knows_what_was_said_and_is_one_record(tmp_path):
    """The agent of the new instance gets the talk so far; counters of both legs are kept; no hang-up by REST."""
    async with rig_for(tmp_path, {"agent_1": GREETER}, media={"drain_timeout_s": 0.5}) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=30.0)))
        while not call.media_messages:
            await trio.sleep(0.02)
        former = await rig.start_beside("green")
        assert await former.stop() == 0
        while len(call.streams) < 2 or not call.streams[1].counts.media_received:
            await trio.sleep(0.02)
        call.hang_up()
        await call.settled()
        record = await rig.record_of(call.sid)
        assert (record["result"], record["resumes"]) == ("completed", 1)
        assert record["legs"]["handed_over"]["times"] == 1
        assert record["transcript"][0]["text"] == SHORT.text
        order = names(record)
        for earlier, later in (
            ("draining", "handed_over"),
            ("handed_over", "adopted"),
            ("adopted", "resumed"),
        ):
            assert order.index(earlier) < order.index(later), order
        assert order.count("resumed") == 1
        assert "hung_up" not in order
        first, second = [c for c in rig.elevenlabs.conversations.values() if c.initiation]
        context = second.initiation["dynamic_variables"]["gw_resume_context"]
        assert context == f"Agent: {SHORT.text}"
        assert first.close_code == 1000
        assert len(record["media"]["before_resume"]) == 1
        assert record["media"]["before_resume"][0]["caller_audio"]["frames"] > 0


async def test_call_that_rings_during_a_deploy_is_answered_by_the_instance_that_dialled_it(
    tmp_path,
):
    """The question and the stream come to the new instance, which passes them on: the warm agent leg is used."""
    async with rig_for(tmp_path, {"agent_1": GREETER}, media={"drain_timeout_s": 25.0}) as rig:
        await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[CALLEE] = Caller(answer_after_s=6.0, hangs_up=HangsUp(at_s=1.5))
        blue = str(rig.api.base_url)
        former = await rig.start_beside("green")
        answer = await rig.api.post(
            f"{blue}/v2/calls/initiate", json={"agent_id": rig.agents["agent_1"], "to": CALLEE}
        )
        call = rig.twilio.calls[answer.json()["metadata"]["twilio_call_sid"]]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(former.stop, within_s=60.0))
            while not any(line["event"] == "draining" for line in former.log_lines()):
                await trio.sleep(0.02)
            assert not call.streams
            await call.settled()
        assert former.process.returncode == 0
        record = await rig.record_of(call.sid)
        assert (record["result"], record["resumes"]) == ("completed", 0)
        assert len(call.streams) == 1
        assert call.heard_texts == []
        assert SHORT.encoded("ulaw_8000")[:8000] in call.heard
        passed = [
            line for line in rig.daemon.log_lines() if line["event"] == "connection_passed_on"
        ]
        assert any(line["is_stream"] for line in passed)
        assert any(line.get("call_id") for line in passed)


async def test_deploy_of_an_instance_that_dies_first_ends_calls_in_order(tmp_path):
    """Nobody is there to take over: the former instance ends its calls politely, as ever."""
    async with rig_for(tmp_path, {"agent_1": GREETER}, media={"drain_timeout_s": 0.5}) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, Caller())
        while not call.media_messages:
            await trio.sleep(0.02)
        former = await rig.start_beside("green")
        rig.daemon.process.kill()
        rig.daemon.process.wait()
        assert await former.stop() == 0
        await call.settled()
        assert call.heard_texts == []
        await rig.restart_daemon()
        assert (await rig.record_of(call.sid))["result"] == "drained"
