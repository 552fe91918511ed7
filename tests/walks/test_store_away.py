"""The store is away under calls in progress: nobody hears it, nobody new is called, and nothing is lost."""

import contextlib
import secrets
import signal
import sqlite3

import pytest
import trio

from bench.rig import open_rig
from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_twilio import Caller
from tests.postgresql_server import NoPostgresql, PostgresqlServer, is_required

OURS, THEM, CALLEE = "+14155550199", "+14155550100", "+14155550123"
HOLD = Utterance.of("agent_hold")
LONG = Utterance("Hello, and a long story.", (HOLD.pcm16 * 4)[: 2 * 8_000 * 8])
SCRIPT = AgentScript(first_message=LONG)
PATIENCE_S = 400.0
GAP_MAX_MS = 1_000.0
"""The store is away for seconds: whatever waited for it would be a gap of seconds. A busy machine makes shorter ones."""


class LockedSqlite:
    """Somebody else writes, and does not stop."""

    def __init__(self, folder):
        self.url, self._path = None, folder / "tandem.db"

    def go(self):
        self._other = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        self._other.execute("BEGIN IMMEDIATE")

    def come_back(self):
        self._other.close()

    def remove(self):
        pass


class StoppedPostgresql:
    """The server is shut down, and started again."""

    def __init__(self, _folder):
        try:
            self._server = PostgresqlServer.create()
        except NoPostgresql as reason:
            if is_required():
                raise
            pytest.skip(str(reason))
        self._server.start()
        self.url = self._server.database()

    def go(self):
        self._server.stop()

    def come_back(self):
        self._server.start()

    def remove(self):
        self._server.remove()


@pytest.fixture(params=[LockedSqlite, StoppedPostgresql])
def store(request, tmp_path, monkeypatch):
    made = request.param(tmp_path)
    if made.url is not None:
        monkeypatch.setenv("TANDEM_STORE_URL", made.url)
        key = secrets.token_urlsafe(32) + "="
        monkeypatch.setenv("TANDEM_STORE_ENCRYPTION_KEY", key)
    yield made
    made.remove()


@contextlib.asynccontextmanager
async def three_calls(tmp_path, store):
    """Two that end while the store is away, and one that goes on; the store is away on entry."""
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={"agent_1": SCRIPT}) as rig:
            agent = await rig.create_agent(OURS, "agent_1")
            calls = []
            for stays_s in (5.0, 5.0, 240.0):
                caller = Caller(hangs_up_after_answer_s=stays_s)
                calls.append(await rig.twilio.call_in(THEM, OURS, caller))
            for call in calls:
                while not call.media_messages:
                    await trio.sleep(0.02)
            store.go()
            yield rig, agent, calls


async def until(rig, path, status):
    """The answer with this status."""
    while True:
        answered = await rig.api.get(path)
        if answered.status_code == status:
            return answered.json()
        await trio.sleep(0.2)


def longest_gap_ms(call):
    """Inside the agent's words, as the caller heard them."""
    return max((gap.ms for one in call.streams for gap in one.playout.gaps), default=0.0)


def complete(record):
    names = [line["name"] for line in record["timeline"]]
    assert (record["status"], record["result"]) == ("completed", "completed")
    assert {"stream_started", "first_audio_sent", "caller_stopped", "ended"} <= set(names)
    assert names.count("ended") == names.count("stream_started") == 1
    media = record["media"]
    assert media["caller_audio"]["frames"] == media["caller_audio"]["sent_frames"] > 0
    assert media["agent_audio"]["sent_ms"] > 3_000
    assert media["agent_audio"]["overrun_ms"] == media["agent_audio"]["stale_ms"] == 0
    assert record["transcript"][0]["text"] == LONG.text


async def test_calls_go_on_without_the_store_and_are_written_down_when_it_is_back(tmp_path, store):
    """503 and the reason from /readyz, 503 for a new call, no gap in what is heard, whole records afterwards."""
    async with three_calls(tmp_path, store) as (rig, agent, calls):
        for call in calls[:2]:
            await call.settled()
        state = await until(rig, "/readyz", 503)
        assert [reason.partition(":")[0] for reason in state["reasons"]] == ["store"]
        asked = {"agent_id": agent["id"], "to": CALLEE}
        refused = await rig.api.post("/v2/calls/initiate", json=asked)
        assert refused.status_code == 503
        assert refused.json()["type"].endswith("unavailable")
        assert not calls[2].is_over
        store.come_back()
        await until(rig, "/readyz", 200)
        for call in calls[:2]:
            complete(await rig.record_of(call.sid, timeout_s=90.0))
        rig.twilio.destinations[CALLEE] = Caller(hangs_up_after_answer_s=1.0)
        made = await rig.post("/v2/calls/initiate", asked)
        assert made["status"] != "blocked"
        assert not calls[2].is_over
        assert all(call.heard_texts == [] for call in calls)
        assert [worst for call in calls if (worst := longest_gap_ms(call)) > GAP_MAX_MS] == []
        assert rig.elevenlabs.violations == []


async def test_control_killed_while_the_store_is_away_loses_no_record(tmp_path, store):
    """Ended calls are on the disk; the one that goes on is taken back from its worker."""
    async with three_calls(tmp_path, store) as (rig, _, calls):
        for call in calls[:2]:
            await call.settled()
        kept = 0
        while kept < 2:
            await trio.sleep(0.1)
            lines = rig.daemon.log_lines()
            kept = sum(one["calls"] for one in lines if one["event"] == "records_on_disk")
        rig.daemon.process.send_signal(signal.SIGKILL)
        await trio.to_thread.run_sync(rig.daemon.process.wait)
        store.come_back()
        await rig.restart_daemon()
        for call in calls[:2]:
            complete(await rig.record_of(call.sid, timeout_s=90.0))
        assert not calls[2].is_over
        (live,) = [
            item for item in (await rig.get("/v2/calls"))["items"] if item["ended_at"] is None
        ]
        assert live["metadata"]["twilio_call_sid"] == calls[2].sid
        assert not list((tmp_path / "run").rglob("records.journal"))
