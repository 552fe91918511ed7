"""What a former process left in the store, and what Twilio says of it."""

from __future__ import annotations

from dataclasses import replace

from control.store import calls as table
from control.store.records import CallRecord
from tests.control.switchboard_rig import NOW, OURS, THEIRS


def left_open(**columns):
    """What writes the record of `call_old`, for `open_rig(before=...)`."""
    record = CallRecord(
        "call_old", "outbound", NOW, agent_id="agt_1", from_number=OURS, to_number=THEIRS
    )
    return lambda conn: table.insert(conn, replace(record, **columns))


def fetch_answering(seen):
    """Stands in for `FakeTwilio.fetch_call`: `seen` whoever is asked about."""

    async def fetch(_self, _sid):
        return seen

    return fetch
