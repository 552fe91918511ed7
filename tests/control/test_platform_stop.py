"""The kill switch of the whole platform: a route, a line of the ledger, and a refusal of everything outbound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from control.compliance import platform_stop
from control.compliance.facts import Asked, assemble
from control.compliance.number_file import Shelf
from control.store import Store, agents, decisions
from control.store.tables.core import decisions as table
from policy import evaluate, load_rules
from tests.control.api_rig import NOW, Rig, agent, open_rig

PATH = "/v2/policy/stop"
ON = {"stopped": True, "reason": "fraud on +1900"}
BASE = load_rules(["base"], {}, lambda name: pytest.fail(name))


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def outcome(rig: Rig, direction: str = "outbound", channel: str = "voice") -> tuple[str, str]:
    numbers = ("+15550100001", "+12125550123")
    asked = Asked(direction, "dial", "tnt_default", "agt_0001", *numbers, channel=channel)  # type: ignore[arg-type]
    known = await rig.store.read(assemble, asked, NOW, NOW, Shelf(Path("nowhere")))
    decision = evaluate(BASE, known)
    return decision.outcome, decision.reason


async def test_switch_stops_calls_texts_and_transfers_of_a_tenant_that_was_never_told(
    rig: Rig,
) -> None:
    """From the next decision on; inbound calls go on; turned back, everything goes on."""
    await rig.store.write(agents.insert, agent(1))
    assert (await rig.ask("GET", PATH)).json == {
        "stopped": False, "reason": None, "by": None, "at": None,
    }  # fmt: skip
    assert (await outcome(rig))[0] == "allow"
    turned = await rig.ask("PUT", PATH, ON)
    assert turned.status == 200
    assert turned.json == {**ON, "by": "admin", "at": "2026-11-21T09:00:00Z"}
    assert (await rig.ask("GET", PATH)).json == turned.json
    for asked in (("outbound", "voice"), ("outbound", "sms"), ("transfer", "voice")):
        assert await outcome(rig, *asked) == ("deny", "FRD-KILL: stopped")
    assert (await outcome(rig, "inbound"))[0] == "allow"
    await rig.ask("PUT", PATH, {"stopped": False, "reason": "blocked the range"})
    assert (await outcome(rig))[0] == "allow"


@pytest.mark.parametrize(
    ("body", "field"),
    [({"stopped": True}, "reason"), ({"reason": "x"}, "stopped"), (ON | {"reason": ""}, "reason")],
)
async def test_switch_without_a_reason_is_not_turned(
    rig: Rig, body: dict[str, object], field: str
) -> None:
    """Somebody will ask why."""
    answered = await rig.ask("PUT", PATH, body)
    assert (answered.status, answered.fields()) == (422, [field])
    assert (await rig.ask("GET", PATH)).json["stopped"] is False


def test_switch_is_in_the_ledger_outlives_the_process_and_an_edit_is_found(tmp_path: Path) -> None:
    """Nobody can say afterwards that it was never turned."""
    url = f"sqlite:///{tmp_path / 'tandem.db'}"
    store = Store.open(url)

    def turn(conn, is_stopped):
        platform_stop.turn(conn, is_stopped=is_stopped, reason="a drill", by="admin", now=NOW)

    for is_stopped in (True, False, True):
        store._write_now(turn, is_stopped)
    store.close()
    store = Store.open(url)
    assert store._read_now(platform_stop.read).is_stopped
    found = store._read_now(decisions.verify)
    assert (found.rows, found.flaws, found.heads["platform"][0]) == (3, [], 3)
    last = table.c.seq == 3
    store._write_now(
        lambda conn: conn.execute(
            update(table).where(last).values(decision={"outcome": "resume", "reason": "", "by": ""})
        )
    )
    (flaw,) = store._read_now(decisions.verify).flaws
    assert (flaw.tenant_id, flaw.seq, flaw.what) == ("platform", 3, "was edited")
    store.close()
