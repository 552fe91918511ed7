"""Machine detection of the simulated Twilio: parameters, verdicts, callbacks, refusals, the queue."""

from __future__ import annotations

import pytest

from bench.sim_twilio import Caller
from tests.bench.test_sim_twilio_outbound import EVERY_EVENT, GATEWAY, OURS, THEIRS, ask, dial
from tests.bench.tiny_gateway import TinyGateway

AMD_URL = GATEWAY + "/twilio/amd?id=1"
ASYNC = {
    "MachineDetection": "DetectMessageEnd",
    "AsyncAmd": "true",
    "AsyncAmdStatusCallback": AMD_URL,
}
PAUSE = "<Response><Pause length='10'/></Response>"


@pytest.mark.parametrize(
    ("mode", "answered_by", "told"),
    [
        ("DetectMessageEnd", "human", "human"),
        ("DetectMessageEnd", "machine_start", "machine_end_beep"),
        ("DetectMessageEnd", "machine_end_silence", "machine_end_silence"),
        ("DetectMessageEnd", "fax", "fax"),
        ("Enable", "machine_end_beep", "machine_start"),
        ("Enable", "unknown", "unknown"),
    ],
)
async def test_asynchronous_verdict_comes_by_callback(autojump_clock, mode, answered_by, told):
    """The document runs at once; seconds later Twilio tells, in the words of the mode."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = PAUSE
    async with gateway.running(gateway.sim()) as sim:
        sim.destinations[THEIRS] = Caller(answered_by=answered_by, detected_after_s=3.5)
        call = await dial(sim, *EVERY_EVENT, **ASYNC | {"MachineDetection": mode})
        await call.settled()
        (attempt,) = [one for one in call.webhooks if "/twilio/amd" in one.url]
        given = dict(attempt.params)
        assert (given["AnsweredBy"], given["MachineDetectionDuration"]) == (told, "3500")
        assert given["CallSid"] == call.sid
        assert (await ask(sim, "GET", f"/Calls/{call.sid}.json"))[1]["answered_by"] == told


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"MachineDetection": "Maybe"}, 21234),
        (ASYNC | {"MachineDetectionTimeout": "60"}, 21234),
        (ASYNC | {"MachineDetectionSpeechThreshold": "100"}, 21234),
        ({"MachineDetection": "Enable", "AsyncAmd": "true"}, 21262),
        (ASYNC | {"AsyncAmdStatusCallback": "amd"}, 21262),
    ],
)
async def test_parameters_out_of_range_are_refused(autojump_clock, form, code):
    """With the codes of Twilio's dictionary."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        whole = {"To": THEIRS, "From": OURS, "Url": GATEWAY + "/twilio/voice", **form}
        status, body = await ask(sim, "POST", "/Calls.json", **whole)
        assert (status, body["code"]) == (400, code)


async def test_number_that_the_account_may_not_call_is_refused(autojump_clock):
    """Geo permissions and the like, by number."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        sim.destinations[THEIRS] = Caller(refused=21215)
        whole = {"To": THEIRS, "From": OURS, "Url": GATEWAY + "/twilio/voice"}
        status, body = await ask(sim, "POST", "/Calls.json", **whole)
        assert (status, body["code"]) == (400, 21215)


async def test_sip_code_of_a_call_that_nobody_takes(autojump_clock):
    """The final callback carries the code that was ordered."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        sim.destinations[THEIRS] = Caller(result="failed", sip_code=603)
        call = await dial(sim, *EVERY_EVENT, StatusCallback=GATEWAY + "/twilio/status?id=1")
        await call.settled()
        assert dict(call.webhooks[-1].params)["SipResponseCode"] == "603"
