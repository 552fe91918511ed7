"""Overload through the real daemon: a worker without headroom, a budget of conversations, slow strangers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from datetime import UTC, datetime, timedelta

import trio
from prometheus_client.parser import text_string_to_metric_families

from bench.sim_elevenlabs import AgentScript
from bench.sim_twilio import Caller, HangsUp
from tests.walks.test_whole_calls import CALLEE, HOLD, OURS, THEM, rig_for

TALKER = AgentScript(first_message=HOLD, response_latency_s=0.05)
STAYS = Caller(hangs_up=HangsUp(at_s=300.0))
STOPPED_S = 0.6
RUNS_S = 0.1


async def metric(rig, name, **labels):
    """The value of one sample of /metrics; 0 when it is not there yet."""
    page = (await rig.api.get("/metrics")).text
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return 0.0


async def until(condition, *arguments):
    while not await condition(*arguments):
        await trio.sleep(0.1)


def worker_pid(rig):
    (ready,) = [line for line in rig.daemon.log_lines() if line["event"] == "worker_ready"]
    return ready["pid"]


async def order(rig, agent, to=CALLEE):
    """An outbound call that is due, and for which nobody waits; its id."""
    soon = datetime.now(UTC) + timedelta(seconds=4)
    body = {"agent_id": agent["id"], "to": to, "not_before": soon.isoformat()}
    call_id = (await rig.post("/v2/calls/initiate", body))["id"]
    await trio.sleep(5.0)
    return call_id


async def hears_busy(rig):
    call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=1.0)))
    await call.settled()
    record = await rig.record_of(call.sid)
    assert (call.status, record["result"], record["blame"]) == ("busy", "busy", "gateway")
    return record["reason"]


async def test_worker_whose_core_is_taken_gets_no_new_calls_until_it_has_it_back(tmp_path):
    """Stopped six parts of seven, as by another process that has its core: callers hear busy, calls of ours wait.

    The call in progress stays up; afterwards everything is as before.
    """
    media = {"admit_lateness_ms": 200.0}
    async with rig_for(tmp_path, {"talker": TALKER}, media=media) as rig:
        agent = await rig.create_agent(OURS, "talker")
        rig.twilio.destinations[CALLEE] = Caller(result="busy", answer_after_s=0.1)
        talking = await rig.twilio.call_in(THEM, OURS, STAYS)
        await until(lambda: _is(rig, "tandem_media_calls", 1))
        assert await metric(rig, "tandem_media_admits") == 1
        async with _core_taken(worker_pid(rig)):
            await until(lambda: _is(rig, "tandem_media_admits", 0))
            assert await hears_busy(rig) == "all media workers are busy to their limit"
            waiting = await order(rig, agent)
            await trio.sleep(1.0)
            assert (await rig.get(f"/v2/calls/{waiting}"))["status"] == "queued"
            assert len(rig.twilio.calls) == 2
            assert await metric(rig, "tandem_calls_turned_away_total", why="workers_busy") == 1
        await until(lambda: _is(rig, "tandem_media_admits", 1))
        await until(lambda: _status(rig, waiting, "busy"))  # the line of whom we have called
        assert talking.status == "in-progress"
        again = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=1.0)))
        await again.settled()
        assert (await rig.record_of(again.sid))["result"] == "completed"
        told = [line["event"] for line in rig.daemon.log_lines()]
        assert told.index("worker_takes_no_calls") < told.index("worker_takes_calls")


@contextlib.asynccontextmanager
async def _core_taken(pid):
    async def stop_and_go():
        try:
            while True:
                os.kill(pid, signal.SIGSTOP)
                await trio.sleep(STOPPED_S)
                os.kill(pid, signal.SIGCONT)
                await trio.sleep(RUNS_S)
        finally:
            os.kill(pid, signal.SIGCONT)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_and_go)
        yield
        nursery.cancel_scope.cancel()


async def _is(rig, name, value):
    return await metric(rig, name) == value


async def _status(rig, call_id, status):
    return (await rig.get(f"/v2/calls/{call_id}"))["status"] == status


async def test_conversations_never_exceed_what_the_workspace_may_have(tmp_path, monkeypatch):
    """Two, one of them kept for callers: the third caller hears busy, our call waits until both are free."""
    monkeypatch.setenv("TANDEM_ELEVENLABS_CONCURRENCY", "2")
    monkeypatch.setenv("TANDEM_ELEVENLABS_INBOUND_RESERVE_PERCENT", "50")
    async with rig_for(tmp_path, {"talker": TALKER}) as rig:
        agent = await rig.create_agent(OURS, "talker")
        rig.twilio.destinations[CALLEE] = Caller(hangs_up=HangsUp(at_s=1.0))
        most = 0

        async def watch():
            nonlocal most
            while True:
                most = max(most, open_conversations(rig))
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            talking = [await rig.twilio.call_in(THEM, OURS, STAYS) for _ in range(2)]
            await until(lambda: _is(rig, "tandem_agent_conversations", 2))
            assert "elevenlabs.concurrency" in await hears_busy(rig)
            waiting = await order(rig, agent)
            talking[0].hang_up()
            await until(lambda: _is(rig, "tandem_agent_conversations", 1))
            await trio.sleep(1.0)
            assert (await rig.get(f"/v2/calls/{waiting}"))["status"] == "queued"
            again = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=1.0)))
            await again.settled()
            assert (await rig.record_of(again.sid))["result"] == "completed"
            talking[1].hang_up()
            await until(lambda: _status(rig, waiting, "completed"))
            nursery.cancel_scope.cancel()
        assert most == 2


def open_conversations(rig):
    return sum(1 for one in rig.elevenlabs.conversations.values() if one.ended_at_s is None)


LATE_MAX_MS = 30.0
SLOW = 100
"""Of each kind."""
HEADS = (
    b"",
    b"POST /twi",
    b"POST /twilio/voice HTTP/1.1\r\nhost: x\r\n",
    b"GET /media/x HTTP/1.1\r\n",
)
BODY = b"POST /twilio/voice HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\nCallSid="
WHOLE = b"POST /twilio/voice HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nCallSid=x"


async def test_slow_strangers_cost_nobody_his_call_and_are_cut(tmp_path):
    """Slow heads, slow bodies, and clients that do not read the answer, while two calls talk.

    Nothing runs dry, a signed webhook is answered, and all of them are gone when their time is over.
    """
    async with rig_for(tmp_path, {"talker": TALKER}) as rig:
        await rig.create_agent(OURS, "talker")
        talking = [await rig.twilio.call_in(THEM, OURS, STAYS) for _ in range(2)]
        await until(lambda: _is(rig, "tandem_media_calls", 2))
        port = int(rig.public_url.rpartition(":")[2])
        closed = {"head": 0, "body": 0, "reader": 0}
        async with trio.open_nursery() as nursery:
            for n in range(SLOW):
                nursery.start_soon(_drips, port, HEADS[n % len(HEADS)], b"a", closed, "head")
                nursery.start_soon(_drips, port, BODY, b"1", closed, "body")
                nursery.start_soon(_does_not_read, port, closed)
            await trio.sleep(2.0)
            assert sum(closed.values()) < 3 * SLOW  # they are there, when it matters
            caller = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=2.0)))
            await caller.settled()
            assert {attempt.outcome for attempt in caller.webhooks} == {"2xx"}
            assert (await rig.record_of(caller.sid))["result"] == "completed"
        assert closed == {"head": SLOW, "body": SLOW, "reader": SLOW}
        # A machine on which the simulator itself comes late says nothing about the daemon's playout.
        is_quiet = all(call.stream.times.late_max_ms <= LATE_MAX_MS for call in (*talking, caller))
        for call in talking:
            assert call.status == "in-progress"
            call.hang_up()
            record = await rig.record_of(call.sid)
            assert record["result"] == "completed"
            late = record["media"]["agent_audio"]["late_underruns"]
            if is_quiet:
                assert (call.underruns, late) == ([], 0)


async def _drips(port, beginning, drop, closed, kind):
    """Sends a byte now and then, for as long as it may."""
    gone = contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream, trio.open_nursery() as nursery:

        async def drip():
            with gone:
                await stream.send_all(beginning)
                while beginning:
                    await trio.sleep(0.5)
                    await stream.send_all(drop)

        nursery.start_soon(drip)
        with gone:
            while await stream.receive_some(4096):
                pass
        nursery.cancel_scope.cancel()
    closed[kind] += 1


async def _does_not_read(port, closed):
    """Asks, and takes nothing: the window is as small as the kernel allows."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    await sock.connect(("127.0.0.1", port))
    with sock:
        await sock.send(WHOLE)
        with contextlib.suppress(OSError):
            while True:  # the other side is gone when it resets what is still sent
                await trio.sleep(0.5)
                await sock.send(b"x")
    closed["reader"] += 1
