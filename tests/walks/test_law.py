"""The law through the real daemon: every rule in force at once, and hours that end while calls wait in the queue."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import trio

from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_twilio import Caller, HangsUp
from tests.receiver import Receiver
from tests.walks.test_whole_calls import GREETER, OURS, SHORT, rig_for

THEM = "+12127360100"
"""In New York: its state and the federal rules bind."""
NOON = datetime(2027, 1, 13, 17, 0, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
NINE = datetime(2027, 1, 13, 21, 0, tzinfo=NEW_YORK)
CONSENTS = f"""e164,seller,channels,purposes,level,occurred_at,method,names_automated_voice,says_not_a_condition,disclosure_id,disclosure_text,signature,evidence_ref
{THEM},Acme Roofing LLC,voice_ai,marketing|informational,written_signed,2027-01-05T15:00:00Z,web_form,true,true,d7,"I agree to calls by an artificial voice; this is no condition of a purchase.",checkbox,form/4711
"""
PROFILE = {
    "seller": "Acme Roofing LLC",
    "callback_number": "+18005550142",
    "registrations": ["NY"],
}


def lists(rig, *arguments):
    """`tandem lists …` beside the running daemon."""
    done = subprocess.run(
        [sys.executable, "-m", "control", "lists", *map(str, arguments),
         "--config", str(rig.daemon.config_path)],
        env=rig.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


async def lawful(rig, consents, body):
    """Give the tenant all that the standard rules want, and wait until they allow; the decision."""
    put = await rig.api.put("/v2/tenants/tnt_default/policy", json={"profile": PROFILE})
    assert put.status_code == 200, put.text
    (rig.folder / "consents.csv").write_text(consents)
    (rig.folder / "national.txt").write_text("+12125550199\n")
    lists(rig, "import", "consents", rig.folder / "consents.csv")
    lists(
        rig, "import", "dnc", rig.folder / "national.txt", "--list", "us",
        "--as-of", "2027-01-10T00:00:00Z", "--source", "a test",
    )  # fmt: skip
    with trio.fail_after(90):  # the permissions at Twilio are read in the background
        while True:
            decision = await rig.post("/v2/policy/check", body)
            if decision["allowed"]:
                return decision
            left = {r["id"]: r["reason"] for r in decision["rules"] if r["outcome"] != "allow"}
            assert set(left) == {"FRD-TWGEO"}, left
            await trio.sleep(0.5)


async def test_standard_rules_allow_a_call_that_has_everything_the_law_wants(tmp_path):
    """Every built-in rule in force: without consents and lists refused by name, with them dialled and recorded."""
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
        body = {"agent_id": agent["id"], "to": THEM, "purpose": "marketing"}
        before = await rig.post("/v2/policy/check", body)
        denied = {rule["id"] for rule in before["rules"] if rule["outcome"] == "deny"}
        assert {"CON-NONE", "DNC-NAT", "DNC-STALE"} <= denied
        decision = await lawful(rig, CONSENTS, body)
        assert len(decision["rules"]) > 55
        rig.twilio.destinations[THEM] = Caller(
            hangs_up=HangsUp(after_agent_silence_s=0.5, latest_s=15.0)
        )
        made = await rig.post("/v2/calls/initiate", body)
        record = await rig.record_of(made["metadata"]["twilio_call_sid"], timeout_s=90.0)
        assert (record["status"], record["result"]) == ("completed", "completed")
        assert record["decision"]["allowed"] is True
        assert record["recording"] is not None
        phases = {line["name"] for line in record["timeline"]}
        assert {"dialled", "answered_with_stream"} <= phases


async def test_calls_queued_before_nine_ring_before_nine_or_the_next_morning(tmp_path):
    """60 calls ordered half a minute before the hours end, one a second: no telephone rings at 21:00:00 or later."""
    numbers = [f"+1212736{1000 + index}" for index in range(60)]
    async with rig_for(
        tmp_path,
        {"greeter": GREETER},
        rules=("sys_store", "time_fed", "time_margin"),
        config="\n[policy.time_margin]\nbase_s = 2\n",
        media={"max_calls_per_worker": 200},
        began_at=NOON,
        cps=1.0,
    ) as rig:
        agent = await rig.create_agent(OURS, "greeter")
        rig.twilio.cps = 1.0
        for number in numbers:
            rig.twilio.destinations[number] = Caller(result="busy", answer_after_s=0.2)
        await rig.daemon.stop()
        rig.clock.set(NINE - timedelta(seconds=42))
        await rig.restart_daemon()
        wait_s = (NINE - timedelta(seconds=30) - rig.clock.now()).total_seconds()
        await trio.sleep(max(wait_s, 0.0))

        async def order(number):
            body = {"agent_id": agent["id"], "to": number, "on_blocked": "schedule"}
            # A connection each: those of the client may be left from the daemon that was stopped.
            async with httpx.AsyncClient(
                base_url=rig.api.base_url, headers=rig.api.headers, timeout=60.0, trust_env=False
            ) as client:
                answered = await client.post("/v2/calls/initiate", json=body)
            assert answered.status_code == 201, answered.text

        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(order, number)
                await trio.sleep(0.02)
        await trio.sleep((NINE - rig.clock.now()).total_seconds() + 8.0)
        with trio.fail_after(90):  # the last ones still get their turn, and are put off
            while True:
                items = (await rig.get("/v2/calls", limit=100))["items"]
                waiting = [item["id"] for item in items if item["status"] == "queued"]
                decisions = [(await rig.get(f"/v2/calls/{one}"))["decision"] for one in waiting]
                if all(decision["outcome"] == "defer" for decision in decisions):
                    break
                await trio.sleep(0.5)
        rang = [
            rig.clock.now() - timedelta(seconds=trio.current_time() - at_s)
            for call in rig.twilio.calls.values()
            for at_s, name, _ in call.history
            if name == "ringing"
        ]
        assert rang
        assert max(rang) < NINE, max(rang).astimezone(NEW_YORK)
        assert len(items) == len(rang) + len(waiting) == 60
        morning = datetime(2027, 1, 14, 8, 0, tzinfo=NEW_YORK)
        assert {datetime.fromisoformat(one["retry_at"]) for one in decisions} == {morning}


async def test_opt_out_reaches_what_waits_and_what_is_up(tmp_path, monkeypatch):
    """A text in the middle of a call: the queue is purged, the call ends, customers are told, the next is refused."""
    talker = AgentScript(first_message=Utterance.of("agent_long"), response_latency_s=0.05)
    monkeypatch.setenv("TANDEM_CONTROL_WEBHOOK_ALLOW_PRIVATE", "true")
    async with rig_for(tmp_path, {"agent_1": talker}) as rig, trio.open_nursery() as nursery:
        receiver = Receiver([200])
        await nursery.start(receiver.run)
        hook = await rig.post("/v2/webhooks", {"url": receiver.url, "events": ["opt_out.created"]})
        agent = await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[THEM] = Caller(hangs_up=HangsUp(at_s=60.0))
        later = (rig.clock.now() + timedelta(hours=1)).isoformat()
        body = {"agent_id": agent["id"], "to": THEM}
        waiting = await rig.post("/v2/calls/initiate", body | {"not_before": later})
        other = await rig.post(
            "/v2/calls/initiate", body | {"to": "+12127360101", "not_before": later}
        )
        live = await rig.post("/v2/calls/initiate", body)
        with trio.fail_after(90):
            while (await rig.get(f"/v2/calls/{live['id']}"))["status"] != "in-progress":
                await trio.sleep(0.1)
        await rig.twilio.text_in(THEM, OURS, "Please stop calling me.")
        purged = await rig.get(f"/v2/calls/{waiting['id']}")
        assert (purged["status"], purged["result"], purged["blame"]) == (
            "canceled",
            "policy",
            "policy",
        )
        assert (await rig.get(f"/v2/calls/{other['id']}"))["status"] == "queued"
        ended = await rig.record_of(live["metadata"]["twilio_call_sid"], timeout_s=90.0)
        assert (ended["result"], ended["reason"]) == ("policy", "the called party opted out")
        with trio.fail_after(90):
            while not receiver.got:
                await trio.sleep(0.1)
        (event,) = receiver.verified(hook["secret"])
        assert event["type"] == "opt_out.created"
        assert (event["data"]["e164"], event["data"]["source"]) == (THEM, "sms")
        refused = await rig.api.post("/v2/calls/initiate", json=body)
        assert refused.status_code == 403
        assert [call.to_number for call in rig.twilio.calls.values()].count(THEM) == 1
        nursery.cancel_scope.cancel()


async def test_kill_switch_stops_what_is_asked_for_and_what_waits_also_after_a_restart(tmp_path):
    """Nothing more is dialled for anybody until it is turned back."""
    async with rig_for(tmp_path, {"greeter": GREETER}) as rig:
        agent = await rig.create_agent(OURS, "greeter")
        rig.twilio.destinations[THEM] = Caller(result="busy", answer_after_s=0.2)
        soon = (rig.clock.now() + timedelta(seconds=4)).isoformat()
        body = {"agent_id": agent["id"], "to": THEM}
        waiting = await rig.post("/v2/calls/initiate", body | {"not_before": soon})
        stop = {"stopped": True, "reason": "a drill"}
        assert (await rig.api.put("/v2/policy/stop", json=stop)).status_code == 200
        refused = await rig.api.post("/v2/calls/initiate", json=body)
        assert refused.status_code == 403
        assert refused.json()["decision"]["reason"] == "FRD-KILL: stopped"
        await rig.daemon.stop()
        await rig.restart_daemon()
        with trio.fail_after(90):
            while (await rig.get(f"/v2/calls/{waiting['id']}"))["ended_at"] is None:
                await trio.sleep(0.1)
        purged = await rig.get(f"/v2/calls/{waiting['id']}")
        assert (purged["result"], purged["decision"]["reason"]) == ("policy", "FRD-KILL: stopped")
        assert rig.twilio.calls == {}
        turned = await rig.api.put("/v2/policy/stop", json=stop | {"stopped": False})
        assert turned.json()["stopped"] is False
        made = await rig.post("/v2/calls/initiate", body)
        assert made["metadata"]["twilio_call_sid"] in rig.twilio.calls


def test_clock_of_a_test_is_refused_before_the_real_twilio(tmp_path):
    """Nobody sets the law's time where telephones ring."""
    (tmp_path / "config.toml").write_text(
        '[public]\nurl = "https://voice.example.com"\n'
        '[control]\nadmin_key = "k-0123456789abcdef"\n'
        f'[twilio]\naccount_sid = "AC{"0" * 32}"\nauth_token = "t"\n'
        '[elevenlabs]\napi_key = "x"\n'
        f'[store]\nurl = "sqlite:///{tmp_path / "t.db"}"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "control", "serve", "--config", str(tmp_path / "config.toml")],
        env={**os.environ, "TANDEM_TEST_CLOCK": NOON.isoformat()},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "TANDEM_TEST_CLOCK" in done.stderr + done.stdout
