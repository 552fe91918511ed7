"""What an outbound call costs the control process: CPU of the order, of the dial and end, and of what comes after.

    python -m bench.dial_cost [--tenants 10] [--calls 20] [--after 60] [--profile FILE]

`--calls` of each tenant are ordered into the queue, dialled at `--cps` a second and tenant, and found busy. CPU is user and
system time of the control process, its workers left out, as the kernel counts it (10 ms ticks: the sums are what is exact).
`after` is what the process used for `--after` seconds from then on, less what it used in as long a time before the first order.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trio

from bench.load import procfs
from bench.rig import Rig, open_rig
from bench.sim_elevenlabs import AgentScript
from bench.sim_twilio import Caller

AT_ONCE = 8
PATIENCE_S = 480.0
ORDER_S = 0.04
"""What an order is taken to need: so long the first dial is put off for each of them."""


def cpu_s(pid: int) -> float:
    """User and system time of this process, without its children."""
    used = procfs.usage([pid])[pid]
    return used.user_s + used.system_s


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Milliseconds of CPU a call, by part, and how fast they were dialled."""
    tenants, calls = options.tenants, options.tenants * options.calls
    async with open_rig(
        folder,
        agents={"agent_1": AgentScript()},
        numbers=[f"+1415555{2000 + tenant}" for tenant in range(tenants)],
        rules=options.rules.split(","),
        media={"max_calls_per_worker": 400},
    ) as rig:
        agents = [await _agent(rig, tenant, options.cps) for tenant in range(tenants)]
        pid = rig.daemon.process.pid
        idle_from_s = cpu_s(pid)
        await trio.sleep(options.idle)
        idle = (cpu_s(pid) - idle_from_s) / options.idle
        began_s = cpu_s(pid)
        ahead_s = 3.0 + calls * ORDER_S
        await _order(rig, agents, options.calls, datetime.now(UTC) + timedelta(seconds=ahead_s))
        assert not rig.twilio.calls, "the first was due before the last was ordered"
        ordered_s = cpu_s(pid)
        while not rig.twilio.calls:
            await trio.sleep(0.02)
        dialling_s = cpu_s(pid)
        profiler = _profiler(options.profile, pid)
        await _until_over(rig, calls)
        dialled_s = cpu_s(pid)
        if profiler is not None:
            profiler.send_signal(signal.SIGINT)  # it writes its file
            profiler.wait()
        await trio.sleep(options.after)
        after_s = cpu_s(pid) - dialled_s - idle * options.after
        at = sorted(call.created_at for call in rig.twilio.calls.values())
        took_s = (at[-1] - at[0]).total_seconds()
        return {
            "order_ms": round((ordered_s - began_s) / calls * 1000, 1),
            "dial_ms": round((dialled_s - dialling_s) / calls * 1000, 1),
            "after_ms": round(after_s / calls * 1000, 1),
            "idle_ms_a_s": round(idle * 1000, 1),
            "dials_a_s": round((len(at) - 1) / took_s, 1) if took_s else None,
        }


async def _agent(rig: Rig, tenant: int, cps: float) -> str:
    made = await rig.post("/v2/tenants", {"name": f"Tenant {tenant}"})
    await rig.api.patch(f"/v2/tenants/{made['id']}", json={"limits": {"cps": cps}})
    number = f"+1415555{2000 + tenant}"
    rig.twilio.numbers[number].account_sid = made["subaccount"]["sid"]
    agent = await rig.create_agent(number, "agent_1", tenant_id=made["id"])
    return str(agent["id"])


async def _order(rig: Rig, agents: list[str], calls_each: int, at: datetime) -> None:
    waiting = [(agent, n) for n in range(calls_each) for agent in range(len(agents))]

    async def some() -> None:
        while waiting:
            tenant, n = waiting.pop()
            to = f"+1415{556 + tenant // 10}{tenant % 10}{n:03d}"
            rig.twilio.destinations[to] = Caller(result="busy", answer_after_s=0.1)
            body = {"agent_id": agents[tenant], "to": to, "not_before": at.isoformat()}
            await rig.post("/v2/calls/initiate", body)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(some)


async def _until_over(rig: Rig, calls: int) -> None:
    """Looked at on Twilio's side: to ask the API would be measured too."""
    with trio.fail_after(PATIENCE_S):
        while sum(1 for call in rig.twilio.calls.values() if call.status == "busy") < calls:
            await trio.sleep(0.05)
    await trio.sleep(1.0)  # their last callbacks


def _profiler(file: str | None, pid: int) -> subprocess.Popen[bytes] | None:
    """py-spy, where it is installed and wanted."""
    if file is None:
        return None
    command = [
        str(Path(sys.executable).with_name("py-spy")),
        "record",
        "--gil",
        "--nonblocking",
        "--rate",
        "500",
        "--format",
        "raw",
    ]
    return subprocess.Popen([*command, "--output", file, "--pid", str(pid)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=10)
    parser.add_argument("--calls", type=int, default=20, help="of each tenant")
    parser.add_argument("--cps", type=float, default=5.0)
    parser.add_argument("--rules", default="base")
    parser.add_argument("--idle", type=float, default=5.0)
    parser.add_argument("--after", type=float, default=60.0)
    parser.add_argument("--profile", help="file for py-spy's stacks of the dialling")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(trio.run(measure, options, Path(folder))))


if __name__ == "__main__":
    main()
