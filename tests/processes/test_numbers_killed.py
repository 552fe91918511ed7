"""A process that is killed while it buys a number, and the next one that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from bench.sim_twilio import TwilioSim
from control.store import Store
from control.store import numbers as stored
from tests.control.numbers_rig import ACCOUNT, TOKEN

ROOT = Path(__file__).resolve().parents[2]
BUYER = """
import sys
from types import SimpleNamespace
import trio
from control.clock import Clock
from control.numbers import Numbers, NumberWish
from control.store import Store
from tests.control.numbers_rig import URLS, Access, rest_of

async def main(base_url, path):
    rest = rest_of(SimpleNamespace(base_url=base_url))
    numbers = Numbers(Store.open(f"sqlite:///{path}"), Access(rest, {}), URLS, Clock())
    wish = NumberWish(area_code="212")
    print((await numbers.buy("tnt_default", wish, intent_key="agt_1/number")).e164)

trio.run(main, *sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("point", "bought_before"), [("numbers.intent_kept", 0), ("numbers.bought", 1)]
)
async def test_buyer_killed_around_the_request_buys_one(tmp_path, point, bought_before):
    """SIGKILL right before the request leaves, and right after its answer came."""
    path = tmp_path / "tandem.db"
    sim = TwilioSim(ACCOUNT, TOKEN)

    async def buyer(fail_point: str) -> subprocess.CompletedProcess[bytes]:
        return await trio.run_process(
            [sys.executable, "-c", BUYER, sim.base_url, str(path)],
            cwd=ROOT,
            env={**os.environ, "TANDEM_FAIL_POINT": fail_point},
            check=False,
            capture_stdout=True,
            capture_stderr=True,
        )

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(sim.run)
            killed = await buyer(point)
            assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
            assert len(sim.numbers) == bought_before
            resumed = await buyer("")
            again = await buyer("")
            nursery.cancel_scope.cancel()
    assert resumed.returncode == again.returncode == 0, resumed.stderr.decode()
    assert resumed.stdout == again.stdout
    (number,) = sim.numbers.values()
    assert number.phone_number == resumed.stdout.decode().strip()
    store = Store.open(f"sqlite:///{path}")
    (record,), _ = await store.read(stored.list_numbers)
    store.close()
    assert (record.status, record.sid) == ("active", number.sid)
