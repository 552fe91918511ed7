"""Somebody says or presses that they want no more calls: through the daemon, both providers, and the next request."""

import pytest

from bench.sim_elevenlabs import AgentScript, Utterance, prompt
from bench.sim_twilio import Caller, HangsUp, Presses, Says
from tests.walks.test_whole_calls import CALLEE, OURS, SHORT, rig_for

SAID = prompt("caller_stop_calling")
COMMITTED_WITHIN_MS = 1000
AGENT = AgentScript(
    first_message=SHORT,
    replies=(Utterance.of("agent_long"), SHORT),
    understands=("caller_stop_calling", "caller_complaint"),
    response_latency_s=0.05,
)
SPEAKS = Caller(says=[Says(audio=SAID.ulaw, after_agent_silence_s=0.3, latest_s=5.0)])
PRESSES = Caller(presses=[Presses(digits="9", at_s=1.5)])


@pytest.mark.parametrize(("callee", "source"), [(SPEAKS, "spoken"), (PRESSES, "dtmf")])
async def test_request_in_the_call_is_committed_within_a_second_and_refuses_the_next_call(
    tmp_path, callee, source
):
    """The list has it while the call is still up; the call ends; the next one is refused with that evidence."""
    async with rig_for(tmp_path, {"agent_1": AGENT}) as rig:
        agent = await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[CALLEE] = callee
        body = {"agent_id": agent["id"], "to": CALLEE}
        made = await rig.post("/v2/calls/initiate", body)
        record = await rig.record_of(made["metadata"]["twilio_call_sid"], timeout_s=90.0)
        assert (record["result"], record["reason"]) == ("completed", "the caller opted out")
        lines = {line["name"]: line for line in record["timeline"]}
        recorded = lines["opt_out_recorded"]
        assert recorded["data"]["source"] == source
        assert recorded["data"]["after_ms"] <= COMMITTED_WITHIN_MS
        took_ms = recorded["ms"] - lines["opt_out_requested"]["ms"]
        assert took_ms <= COMMITTED_WITHIN_MS
        assert recorded["ms"] <= lines["ended"]["ms"]
        (entry,) = (await rig.get("/v2/opt-outs"))["items"]
        assert (entry["e164"], entry["source"]) == (CALLEE, source)
        assert entry["call_id"] == record["id"] == entry["evidence"]["call_id"]
        if source == "spoken":
            assert entry["evidence"]["words"] == SAID.text
            conversation = record["metadata"]["elevenlabs_conversation_id"]
            heard = rig.elevenlabs.conversations[conversation].received_ulaw
            assert SAID.ulaw in heard  # the agent understood it because it came, bit for bit
        else:
            assert entry["evidence"]["key"] == "9"
        refused = await rig.api.post("/v2/calls/initiate", json=body)
        assert refused.status_code == 403
        denied = [r for r in refused.json()["decision"]["rules"] if r["outcome"] == "deny"]
        assert [rule["id"] for rule in denied] == ["DNC-INT"]
        assert denied[0]["inputs"]["opt_out_source"] == source
        assert [call.to_number for call in rig.twilio.calls.values()].count(CALLEE) == 1


async def test_other_words_are_no_opt_out(tmp_path):
    """The agent hears another recording, understands that one, and the next call is allowed."""
    other = prompt("caller_complaint")
    callee = Caller(
        says=[Says(audio=other.ulaw, after_agent_silence_s=0.3, latest_s=5.0)],
        hangs_up=HangsUp(at_s=6.0),
    )
    async with rig_for(tmp_path, {"agent_1": AGENT}) as rig:
        agent = await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[CALLEE] = callee
        body = {"agent_id": agent["id"], "to": CALLEE}
        made = await rig.post("/v2/calls/initiate", body)
        record = await rig.record_of(made["metadata"]["twilio_call_sid"], timeout_s=90.0)
        said = [turn["text"] for turn in record["transcript"] if turn["role"] == "user"]
        assert said == [other.text]
        assert "opt_out_requested" not in {line["name"] for line in record["timeline"]}
        assert (await rig.get("/v2/opt-outs"))["items"] == []
        assert (await rig.post("/v2/policy/check", body))["allowed"] is True
