"""A call that is over: traced to a collector, and then erased, here and at ElevenLabs; the real daemon throughout."""

import json
import subprocess
import sys

import trio

from bench.rig import REPOSITORY, open_rig
from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_twilio import Caller
from tests.receiver import Receiver

OURS, THEM = "+14155550199", "+14155550100"
WORDS = "The pomegranate is ready."
SCRIPT = AgentScript(
    first_message=Utterance(WORDS, Utterance.of("agent_hold").pcm16[: 2 * 8_000]),
    summary=f"{WORDS} Call {THEM}.",
)
PATIENCE_S = 300.0


async def until(condition):
    """Its first value that is true."""
    while not (found := condition()):
        await trio.sleep(0.05)
    return found


async def test_call_is_traced_and_then_erased_everywhere(tmp_path):
    """Nothing of what was said is left: not in the API, not on the disk, not at ElevenLabs; the ledger verifies."""
    collector = Receiver([200])
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(collector.run)
            endpoint = collector.url.removesuffix("/hook")
            telemetry = f'\n[telemetry]\notlp_endpoint = "{endpoint}"\n'
            async with open_rig(tmp_path, agents={"agent_1": SCRIPT}, config=telemetry) as rig:
                await rig.create_agent(OURS, "agent_1", record=True)
                call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up_after_answer_s=2.0))
                await call.settled()
                record = await rig.record_of(call.sid)
                while record["analysis"] is None or record["analysis"]["status"] != "done":
                    await trio.sleep(0.2)
                    record = await rig.get(f"/v2/calls/{record['id']}")
                path = f"/v2/calls/{record['id']}"
                assert WORDS in json.dumps(record)
                (recording,) = (tmp_path / "recordings").glob("*.wav")
                await until(lambda: collector.got)
                (conversation_id,) = rig.elevenlabs.conversations

                answered = await rig.api.post(f"{path}/erase", json={})
                assert answered.status_code in (200, 202)  # it has only just ended
                while not (await rig.post(f"{path}/erase"))["is_done"]:
                    await trio.sleep(0.5)
                await until(lambda: conversation_id in rig.elevenlabs.book.deleted_conversations)
                shown = json.dumps(await rig.get(path))
                assert WORDS not in shown
                assert THEM not in shown
                assert OURS in shown
                assert not recording.exists()
                assert (await rig.api.get(f"{path}/recording")).status_code == 404
                spans = [
                    span
                    for _, _, body in collector.got
                    for span in json.loads(body)["resourceSpans"][0]["scopeSpans"][0]["spans"]
                ]
                assert {"call inbound", "policy", "warm", "stream", "turn", "after-call"} <= {
                    span["name"] for span in spans
                }
                assert WORDS not in str(collector.got)

                def verify():
                    command = [sys.executable, "-m", "control", "ledger", "verify", "--config"]
                    ran = subprocess.run(
                        [*command, str(tmp_path / "config.toml")],
                        env=rig.environment, capture_output=True, text=True, check=False,
                        cwd=REPOSITORY,
                    )  # fmt: skip
                    return ran.returncode, ran.stdout

                code, said = await trio.to_thread.run_sync(verify)
                assert code == 0, said
                assert "0 flaws" in said
            nursery.cancel_scope.cancel()
