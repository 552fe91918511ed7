"""Rows of the fault table: both providers' REST APIs, and how webhooks arrive. Each has a daemon to itself."""

from __future__ import annotations

from dataclasses import replace

import trio

from bench.faults import Fault
from tests.faults.bed import Bed
from tests.faults.rows import APOLOGY, GREETER, NOTHING, Row

STANDS_STILL_S = 3.0
ANALYSED_S = 40.0
SETTLES_S = 1.0
"""What comes a second time is there by then, too."""
ENDS = replace(GREETER, replies=(), end_call_after_reply=0)
"""Greets, and ends the call."""


def _create_fails(status: int, code: int):
    def prepare(bed: Bed, row: Row) -> None:
        bed.rig.twilio.fail_next("POST", "/Calls", status, code)

    return prepare


def _create_made_and_fails(bed: Bed, row: Row) -> None:
    bed.rig.twilio.fail_next("POST", "/Calls", 500, 20500, acts_first=True)


def _create_lost(acted: bool):
    def prepare(bed: Bed, row: Row) -> None:
        bed.rig.twilio.lose_answer("POST", "/Calls", acted=acted)

    return prepare


def _analysed(source: str):
    async def then(bed: Bed, call_id: str) -> str:
        """Once, and by whom, however often it was told."""
        lines = []
        with trio.move_on_after(ANALYSED_S):
            while not lines:
                await trio.sleep(SETTLES_S)
                record = await bed.rig.get(f"/v2/calls/{call_id}")
                lines = [line for line in record["timeline"] if line["name"] == "analysed"]
        if [line["data"]["source"] for line in lines] != [source]:
            return f"it was analysed {lines}"
        return ""

    return then


def _stands_still(wire: str):
    async def meanwhile(bed: Bed, row: Row) -> None:
        bed.rig.wires[wire].set(Fault(blackhole=True))
        await trio.sleep(STANDS_STILL_S)
        bed.rig.wires[wire].heal()

    return meanwhile


def _spoilt(wire: str, **fault):
    def prepare(bed: Bed, row: Row) -> None:
        bed.rig.wires[wire].reset()
        bed.rig.wires[wire].set(Fault(**fault))

    return prepare


def _hang_up_fails(status: int, code: int):
    def prepare(bed: Bed, row: Row) -> None:
        bed.rig.twilio.fail_next("POST", "/Calls/CA", status, code)

    return prepare


def _hang_up_lost(bed: Bed, row: Row) -> None:
    bed.rig.twilio.lose_answer("POST", "/Calls/CA", acted=True)


def _late_webhooks(bed: Bed, row: Row) -> None:
    bed.rig.wires["public"].set(Fault(latency_s=1.0), way="up", about=b"POST /twilio/")


_NO_CALL = "the answer to the dial request was lost, and no call has appeared"
_SILENT = "agent leg signed URL took longer than 2 s"
ROWS = (
    Row(
        name="create_429",
        what="Twilio has no room for the create (429), and is asked once more",
        prepare=_create_fails(429, 20429),
        outbound=True,
        timeline=("dialled", "stream_started"),
    ),
    Row(
        name="create_lost",
        what="RST instead of the answer to the create; the call was made",
        prepare=_create_lost(acted=True),
        outbound=True,
        timeline=("dial_uncertain", "dialled", "stream_started"),
    ),
    Row(
        name="create_late",
        what="Twilio's REST API stands still for three seconds at the create",
        meanwhile=_stands_still("twilio"),
        outbound=True,
        timeline=("dialled", "stream_started"),
    ),
    Row(
        name="hang_up_500",
        what="Twilio fails to end the call (500), and is asked once more",
        prepare=_hang_up_fails(500, 20500),
        script=ENDS,
        reason="agent ended the call",
        gap_max_s=None,
        stays_s=20.0,
        timeline=("ending", "hung_up", "ended"),
    ),
    Row(
        name="hang_up_lost",
        what="RST instead of the answer to the hang-up; the call was ended",
        prepare=_hang_up_lost,
        script=ENDS,
        reason="agent ended the call",
        gap_max_s=None,
        stays_s=20.0,
        timeline=("ending", "hung_up", "ended"),
    ),
    Row(
        name="eleven_late",
        what="300 ms each way to ElevenLabs' REST API",
        prepare=_spoilt("elevenlabs", latency_s=0.3),
    ),
    Row(
        name="eleven_black",
        what="ElevenLabs' REST API takes everything and answers nothing",
        prepare=_spoilt("elevenlabs", blackhole=True),
        hears=APOLOGY,
        result="agent_fault",
        blame="agent",
        reason=_SILENT,
        gap_max_s=None,
        timeline=("resumed", "asked_to_continue", "ended"),
    ),
    Row(
        name="eleven_rst",
        what="RST to every request to ElevenLabs' REST API",
        prepare=_spoilt("elevenlabs", reset_after_bytes=0),
        hears=APOLOGY,
        result="agent_fault",
        blame="agent",
        reason="agent leg signed URL: ReadError",
        gap_max_s=None,
        timeline=("resumed", "asked_to_continue", "ended"),
    ),
    Row(
        name="webhooks_late",
        what="Twilio's webhooks arrive a second late",
        prepare=_late_webhooks,
    ),
    Row(
        name="create_500",
        what="the create fails (500), and the call was made nevertheless",
        prepare=_create_made_and_fails,
        outbound=True,
        timeline=("dial_uncertain", "dialled", "stream_started"),
    ),
    Row(
        name="create_500_for_good",
        what="the create fails (500), and no call was made; it is not asked again",
        prepare=_create_fails(500, 20500),
        outbound=True,
        rings=False,
        hears=NOTHING,
        status="failed",
        result="carrier_fault",
        blame="twilio",
        reason=_NO_CALL,
        timeline=("dial_uncertain", "ended"),
        gap_max_s=None,
        bystanders=0,
    ),
    Row(
        name="create_rst",
        what="RST instead of the answer to the create, and no call was made; it is not asked again",
        prepare=_create_lost(acted=False),
        outbound=True,
        rings=False,
        hears=NOTHING,
        status="failed",
        result="carrier_fault",
        blame="twilio",
        reason=_NO_CALL,
        timeline=("dial_uncertain", "ended"),
        gap_max_s=None,
        bystanders=0,
    ),
    Row(
        name="result_lost",
        what="ElevenLabs' post-call webhook never arrives; the analysis is asked for",
        prepare=_spoilt("post_call", blackhole=True),
        webhooks=1,
        then=_analysed("poll"),
    ),
    Row(
        name="result_twice",
        what="ElevenLabs' post-call webhook arrives twice; the analysis is taken once",
        webhooks=2,
        then=_analysed("webhook"),
    ),
)
