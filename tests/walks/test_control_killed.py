"""The control process killed in mid-call: the caller hears nothing of it, and one record tells the whole call."""

import os
import signal
from pathlib import Path

import trio

from bench.hearing import share
from bench.sim_elevenlabs import AgentScript, Utterance, prompt
from bench.sim_twilio import Caller, HangsUp, Says
from tests.walks.gaps import unexplained_gaps
from tests.walks.test_whole_calls import OURS, SHORT, THEM, names, rig_for

LONG = Utterance.of("agent_long")


def worker_pids(rig):
    return [line["pid"] for line in rig.daemon.log_lines() if line["event"] == "worker_ready"]


async def test_control_killed_in_mid_call_is_not_heard_and_the_record_is_whole(tmp_path):
    """SIGKILL while the agent speaks, started again a second later: no gap, no second stream, every turn once."""
    script = AgentScript(
        first_message=LONG,
        replies=(SHORT,),
        transcripts=(prompt("caller_sorry").text,),
        response_latency_s=0.05,
    )
    caller = Caller(
        says=[Says(audio=prompt("caller_sorry").ulaw, after_agent_silence_s=0.3, latest_s=20.0)],
        hangs_up=HangsUp(at_s=14.0),
    )
    async with rig_for(tmp_path, {"agent_1": script}) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, caller)
        while call.media_messages < 30:
            await trio.sleep(0.02)
        rig.daemon.process.kill()
        rig.daemon.process.wait()
        await trio.sleep(1.0)
        await rig.restart_daemon()
        await call.settled()
        record = await rig.record_of(call.sid)
        # On a machine that is late itself only what neither the simulator's nor the worker's lateness explains counts.
        assert record["media"]["agent_audio"]["underruns"] == 0
        assert unexplained_gaps(call, record) == []
        assert len(call.streams) == 1
        assert call.heard_texts == []
        long = LONG.encoded("ulaw_8000")
        assert share(long, call.heard) == 1.0
        assert long in call.heard or call.underruns
        assert (record["result"], record["resumes"]) == ("completed", 0)
        said = [(turn["role"], turn["text"]) for turn in record["transcript"]]
        assert said.count(("user", script.transcripts[0])) == 1
        assert [role for role, _ in said] == ["agent", "user", "agent"]
        lines = names(record)
        for once in (
            "stream_started",
            "agent_ready",
            "first_audio_sent",
            "control_returned",
            "ended",
        ):
            assert lines.count(once) == 1, (once, lines)
        assert len((await rig.get("/v2/calls"))["items"]) == 1
        assert len(set(worker_pids(rig))) == 1


async def test_hang_up_reaches_a_call_of_a_former_control_process(tmp_path):
    """The new one has all the levers of the old one, and takes new calls on the same worker."""
    script = AgentScript(first_message=SHORT, response_latency_s=0.05)
    async with rig_for(tmp_path, {"agent_1": script}) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, Caller())
        while not call.media_messages:
            await trio.sleep(0.02)
        rig.daemon.process.kill()
        rig.daemon.process.wait()
        await rig.restart_daemon()
        (item,) = (await rig.get("/v2/calls"))["items"]
        await rig.post(f"/v2/calls/{item['id']}/hangup")
        await call.settled()
        assert call.heard_texts == []
        assert (await rig.record_of(call.sid))["status"] == "completed"
        second = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=1.5)))
        await second.settled()
        assert (await rig.record_of(second.sid))["result"] == "completed"


async def test_control_that_does_not_come_back_in_time_finds_what_the_calls_came_to(tmp_path):
    """The worker ends its calls, leaves their reports on the disk and goes; the next control writes them down."""
    script = AgentScript(first_message=SHORT, response_latency_s=0.05)
    media = {"control_return_timeout_s": 1.0}
    async with rig_for(tmp_path, {"agent_1": script}, media=media) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=8.0)))
        while call.media_messages < 30:
            await trio.sleep(0.02)
        (worker,) = worker_pids(rig)
        rig.daemon.process.kill()
        rig.daemon.process.wait()
        with trio.fail_after(90):
            while not list(tmp_path.rglob("*.spool")):
                await trio.sleep(0.05)
            while _is_running(worker):
                await trio.sleep(0.05)
        with trio.fail_after(90):
            await call.settled()
        await rig.restart_daemon()
        record = await rig.record_of(call.sid)
        assert (record["result"], record["blame"]) == ("drained", "gateway")
        assert record["media"]["caller_audio"]["frames"] > 0
        assert record["transcript"][0]["text"] == SHORT.text
        with trio.fail_after(90):
            while list(tmp_path.rglob("*.spool")):
                await trio.sleep(0.05)


def _is_running(pid):
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


async def test_workers_of_a_killed_control_are_killed_by_nobody_else(tmp_path):
    """The new control process speaks to those in its own folder alone; theirs is closed to others."""
    async with rig_for(tmp_path, {}) as rig:
        (worker,) = worker_pids(rig)
        (folder,) = {path.parent for path in tmp_path.rglob("*.sock")}
        assert folder.stat().st_mode & 0o777 == 0o700
        rig.daemon.process.send_signal(signal.SIGKILL)
        rig.daemon.process.wait()
        await rig.restart_daemon()
        assert _is_running(worker)
        assert [line for line in rig.daemon.log_lines() if line["event"] == "worker_returned"]
    assert not list(tmp_path.rglob("*.sock"))
