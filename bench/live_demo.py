"""`make live-demo`: from an empty database to an agent that answers its own number, at the providers' pace.

The real daemon between the simulated providers, each request to them taking REQUEST_S and a page INDEXING_S to be
read. Prints the steps with their milliseconds, rings the new number once, and exits 0 only when the agent was live
in time and the call was answered.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import trio
from rich.console import Console
from rich.table import Table

from bench.rig import open_rig
from bench.sim_twilio import Caller, HangsUp

REQUEST_S = 0.35
"""A usual round trip to Twilio's and ElevenLabs' REST APIs is 0.2 to 0.5 s."""
INDEXING_S = 8.0
PROMISED_S = 90.0
CALL_TIMEOUT_S = 30.0
CALLER = "+14155550100"
AGENT = {
    "name": "Coastal Heating & Air",
    "business_url": "https://coastal.example.com",
    "vertical": "hvac",
    "number": {"type": "local", "country": "US", "area_code": "843"},
    "timezone": "America/New_York",
    "location": "12 King Street, Charleston, SC",
}


async def main(console: Console, folder: Path) -> bool:
    """Whether everything was so. Leaves the daemon's files in `folder`."""
    async with open_rig(folder, agents={}) as rig:
        rig.twilio.latency_s = rig.elevenlabs.rest_latency_s = REQUEST_S
        rig.elevenlabs.book.indexing_s = INDEXING_S
        console.print(
            f"every request takes {REQUEST_S * 1000:.0f} ms, reading a page {INDEXING_S:g} s"
        )
        began_s = trio.current_time()
        tenant = await rig.post("/v2/tenants", {"name": "Coastal Group"})
        tenant_ms = round((trio.current_time() - began_s) * 1000)
        asked = await rig.post("/v2/agents", AGENT | {"tenant_id": tenant["id"]})
        agent = await rig.settled_agent(asked, timeout_s=PROMISED_S)
        lived_s = trio.current_time() - began_s
        console.print(_table(tenant_ms, agent))
        number = agent["number"]["e164"]
        console.print(
            f"{agent['status']} on {number} after {lived_s:.1f} s, the tenant's account included"
        )
        if agent["status"] != "live":
            return False
        call = await rig.twilio.call_in(CALLER, number, Caller(hangs_up=HangsUp(at_s=3.0)))
        with trio.move_on_after(CALL_TIMEOUT_S):
            await call.settled()
        record = await rig.record_of(call.sid)
        console.print(
            f"a call to {number}: {record['status']}, {len(call.heard) / 8000:.1f} s heard"
        )
        return lived_s < PROMISED_S and record["status"] == "completed" and len(call.heard) > 0


def _table(tenant_ms: int, agent: Any) -> Table:
    table = Table("step", "status", "ms", "remark")
    table.columns[2].justify = "right"
    table.add_row("POST /v2/tenants", "done", str(tenant_ms), "")
    for step in agent["provisioning"]["steps"]:
        table.add_row(step["name"], step["status"], str(step["ms"]), step.get("error") or "")
    return table


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if trio.run(main, Console(), Path(folder)) else 1)
