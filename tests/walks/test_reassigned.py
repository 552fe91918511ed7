"""The reassigned-numbers database through the real daemon: a plug-in that answers, fails, hangs, and says nonsense."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import trio

from bench.rig import REPOSITORY
from bench.sim_elevenlabs import AgentScript
from bench.sim_twilio import Caller
from tests.walks.test_law import lists
from tests.walks.test_whole_calls import OURS, SHORT, rig_for

PLUG_IN = """
import json, pathlib, time
HERE = pathlib.Path(__file__).parent

def ask(e164, since):
    with (HERE / "asked.jsonl").open("a") as file:
        file.write(json.dumps([e164, since.isoformat()]) + chr(10))
    answer = json.loads((HERE / "answers.json").read_text())[e164]
    if answer == "raise":
        raise ConnectionError(e164)
    if answer == "hang":
        time.sleep(60)
    return answer
"""
OLD = datetime.now(UTC) - timedelta(days=400)
YOUNG = datetime.now(UTC) - timedelta(days=3)
NUMBERS = {
    "no": "+12127360101",
    "yes": "+12127360102",
    "no_data": "+12127360103",
    "raise": "+12127360104",
    "hang": "+12127360105",
    "perhaps": "+12127360106",
    "young": "+12127360107",
}
HEAD = (
    "e164,seller,channels,purposes,level,occurred_at,method,names_automated_voice,"
    "says_not_a_condition,disclosure_id,disclosure_text,signature,evidence_ref\n"
)


def consents():
    """Signed by everybody, for everything."""
    text = "I agree to calls by an artificial voice; this is no condition of a purchase."
    lines = [
        f"{number},Default,voice_ai,marketing|informational,written_signed,"
        f"{(YOUNG if name == 'young' else OLD).isoformat()},web_form,true,true,d7,"
        f'"{text}",checkbox,form/{name}'
        for name, number in NUMBERS.items()
    ]
    return HEAD + "\n".join(lines) + "\n"


def why(decision):
    return {one["id"]: one["reason"] for one in decision["rules"] if one["outcome"] != "allow"}


async def test_database_is_asked_in_time_and_whatever_it_does_decides_only_that_call(tmp_path):
    """A yes refuses everything and closes the consent; what is no answer refuses marketing; a hanging one harms no other."""
    (tmp_path / "asks_rnd.py").write_text(PLUG_IN)
    (tmp_path / "answers.json").write_text(json.dumps({n: name for name, n in NUMBERS.items()}))
    asked = tmp_path / "asked.jsonl"

    def questions(name):
        lines = [json.loads(line) for line in asked.read_text().splitlines()]
        return [since for number, since in lines if number == NUMBERS[name]]

    async with rig_for(
        tmp_path,
        {"agent_1": AgentScript(first_message=SHORT, response_latency_s=0.05)},
        rules=("sys_store", "con_none", "rnd_yes", "rnd_stale"),
        policy={"reassigned": "asks_rnd:ask"},
        environment={"PYTHONPATH": f"{REPOSITORY}:{tmp_path}"},
    ) as rig:
        agent = await rig.create_agent(OURS, "agent_1")
        profile = {"profile": {"seller": "Default"}}
        await rig.api.put("/v2/tenants/tnt_default/policy", json=profile)
        (tmp_path / "consents.csv").write_text(consents())
        lists(rig, "import", "consents", tmp_path / "consents.csv")

        async def check(name, purpose="marketing"):
            body = {"agent_id": agent["id"], "to": NUMBERS[name], "purpose": purpose}
            return await rig.post("/v2/policy/check", body)

        assert (await check("no"))["allowed"]
        assert (await check("no"))["allowed"]
        assert questions("no") == [OLD.date().isoformat()]
        assert (await check("young"))["allowed"]
        assert questions("young") == []

        body = {"agent_id": agent["id"], "to": NUMBERS["yes"], "purpose": "informational"}
        refused = await rig.api.post("/v2/calls/initiate", json=body)
        assert refused.status_code == 403
        assert why(refused.json()["decision"])["RND-YES"] == "reassigned"
        (kept,) = (await rig.get("/v2/consents", e164=NUMBERS["yes"]))["items"]
        assert kept["revoked_at"] is not None
        assert rig.twilio.calls == {}

        hung = trio.Event()

        async def hanging():
            assert why(await check("hang")) == {"RND-STALE": "no_usable_answer"}
            hung.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hanging)
            await trio.sleep(0.3)
            rig.twilio.destinations[NUMBERS["no"]] = Caller(result="busy", answer_after_s=0.1)
            made = await rig.post(
                "/v2/calls/initiate", body | {"to": NUMBERS["no"], "purpose": "marketing"}
            )
            assert made["metadata"]["twilio_call_sid"] in rig.twilio.calls
            with trio.fail_after(90):
                await hung.wait()

        for name in ("no_data", "raise", "perhaps", "hang"):
            assert why(await check(name)) == {"RND-STALE": "no_usable_answer"}, name
            informed = await check(name, "informational")
            assert informed["allowed"]
            (note,) = [one for one in informed["rules"] if one["id"] == "RND-YES"]
            assert note["inputs"]["answer"] == ("no_data" if name == "no_data" else "error")
            assert len(questions(name)) == 1, name  # kept, or left alone for a minute
        unanswered = [
            one for one in rig.daemon.log_lines() if one["event"] == "reassigned_unanswered"
        ]
        assert {one["problem"] for one in unanswered} == {
            "ConnectionError", "no_answer_in_time", "invalid_answer",
        }  # fmt: skip
        assert not any(number in str(unanswered) for number in NUMBERS.values())
