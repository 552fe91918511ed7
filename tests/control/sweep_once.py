"""`python -m tests.control.sweep_once STORE_URL RECORDINGS`: one sweep, to be killed in it."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from control.store import Store
from tests.control.retention_rig import retention


async def _main() -> None:
    store = Store.open(sys.argv[1])
    await retention(store, Path(sys.argv[2])).sweep()
    store.close()


trio.run(_main)
