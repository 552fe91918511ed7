"""Agents, opt-outs, idempotency keys, webhooks seen, the default tenant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert
from sqlalchemy.exc import IntegrityError

from control.store import (
    NumberTaken,
    RecordNotFound,
    Store,
    agents,
    idempotency,
    opt_outs,
    rows,
    tenants,
    webhooks_seen,
)
from control.store.idempotency import IN_FLIGHT, MISMATCH, NEW, REPLAY, Claim
from control.store.records import AgentRecord, OptOutRecord
from control.store.tables import agents as agents_table

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
NUMBER = "+15550001111"


@pytest.fixture
def conn(store_url: str) -> Iterator[Connection]:
    store = Store.open(store_url)
    with store._engine.connect() as opened, opened.begin():
        yield opened
    store.close()


def agent(number: int, **columns: Any) -> AgentRecord:
    base: dict[str, Any] = {
        "id": f"agt_{number}",
        "name": "x",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return AgentRecord(**base | columns)


def test_agent_inserted_comes_back_equal(conn: Connection) -> None:
    """Every column survives."""
    record = agent(
        1,
        number_e164=NUMBER,
        hours={"mon": ["09:00-17:00"]},
        location="Paris",
        extractions=[{"name": "booked"}],
        steps=[{"name": "number", "status": "done", "ms": 3}],
        settings={"record": True},
        provisioning_started_at=NOW,
    )
    agents.insert(conn, record)
    assert agents.get(conn, "agt_1") == record
    assert agents.by_number(conn, NUMBER) == record
    assert agents.get(conn, "agt_2") is None


def test_agent_with_number_of_another_is_refused(conn: Connection) -> None:
    """A number has one agent; the error names it."""
    agents.insert(conn, agent(1, number_e164=NUMBER))
    with pytest.raises(NumberTaken) as caught:
        agents.insert(conn, agent(2, number_e164=NUMBER))
    assert caught.value.agent_id == "agt_1"


def test_agent_with_number_of_closed_one_is_accepted(conn: Connection) -> None:
    """Closing an agent frees its number, and calls find the new one."""
    agents.insert(conn, agent(1, number_e164=NUMBER))
    agents.update(conn, "agt_1", status="closed")
    agents.insert(conn, agent(2, number_e164=NUMBER))
    found = agents.by_number(conn, NUMBER)
    assert found is not None
    assert found.id == "agt_2"


def test_agent_number_taken_behind_the_check_is_refused_by_the_index(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes that look at once: the index decides, with the same error."""
    conn.execute(insert(agents_table).values(rows.values(agent(1, number_e164=NUMBER))))
    monkeypatch.setattr(agents, "by_number", lambda _conn, _number: None)
    with pytest.raises(NumberTaken):
        agents.insert(conn, agent(2, number_e164=NUMBER))


def test_agents_listed_newest_first_in_pages(conn: Connection) -> None:
    """Pages by id, filters by status, and the work that provisioning has left."""
    for number in (1, 2, 3):
        agents.insert(conn, agent(number, status="live" if number == 2 else "provisioning"))
    first, cursor = agents.list_agents(conn, tenant_id="tnt_default", limit=2)
    rest, end = agents.list_agents(conn, tenant_id="tnt_default", limit=2, cursor=cursor)
    assert [record.id for record in first + rest] == ["agt_3", "agt_2", "agt_1"]
    assert end is None
    assert [record.id for record in agents.list_agents(conn, status="live")[0]] == ["agt_2"]
    assert agents.waiting_ids(conn) == ["agt_1", "agt_3"]


def test_agent_update_of_unknown_is_an_error(conn: Connection) -> None:
    """Nothing to change is not silence."""
    with pytest.raises(RecordNotFound):
        agents.update(conn, "agt_9", name="y")


def test_opt_out_added_twice_keeps_the_first(conn: Connection) -> None:
    """The date of the first is the evidence."""
    first = OptOutRecord(NUMBER, "api", NOW, reason="asked")
    assert opt_outs.add(conn, first) == first
    assert opt_outs.add(conn, OptOutRecord(NUMBER, "call", NOW + timedelta(days=1))) == first
    assert opt_outs.get(conn, "tnt_default", NUMBER) == first
    assert opt_outs.get(conn, "tnt_other", NUMBER) is None


def test_opt_out_for_unknown_tenant_is_an_error(conn: Connection) -> None:
    """Not taken for a number that is on the list."""
    with pytest.raises(IntegrityError):
        opt_outs.add(conn, OptOutRecord(NUMBER, "api", NOW, tenant_id="tnt_none"))


def test_opt_out_removed_is_gone(conn: Connection) -> None:
    """Removal says whether there was one."""
    opt_outs.add(conn, OptOutRecord(NUMBER, "api", NOW))
    assert opt_outs.remove(conn, "tnt_default", NUMBER)
    assert not opt_outs.remove(conn, "tnt_default", NUMBER)
    assert opt_outs.get(conn, "tnt_default", NUMBER) is None


def test_opt_outs_listed_in_pages(conn: Connection) -> None:
    """Each number once, in order."""
    numbers = [f"+1555000{n:04}" for n in range(5)]
    for e164 in reversed(numbers):
        opt_outs.add(conn, OptOutRecord(e164, "api", NOW))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        found, cursor = opt_outs.list_opt_outs(
            conn, tenant_id="tnt_default", limit=2, cursor=cursor
        )
        seen += [record.e164 for record in found]
        if cursor is None:
            break
    assert seen == numbers


def test_idempotency_key_goes_through_its_states(conn: Connection) -> None:
    """New, in flight, then the stored answer; another body is told apart throughout."""

    def claim(fingerprint: str = "f1", at: datetime = NOW) -> Claim:
        return idempotency.claim(conn, "tnt_default", "k", fingerprint, at)

    assert claim().outcome == NEW
    assert claim().outcome == IN_FLIGHT
    assert claim("f2").outcome == MISMATCH
    idempotency.finish(conn, "tnt_default", "k", 201, {"location": "/x"}, '{"id":1}')
    assert claim() == Claim(REPLAY, 201, {"location": "/x"}, '{"id":1}')
    assert claim("f2").outcome == MISMATCH
    assert idempotency.claim(conn, "tnt_other", "k", "f2", NOW).outcome == NEW
    assert claim("f2", NOW + idempotency.KEEP + timedelta(seconds=1)).outcome == NEW


def test_idempotency_key_released_is_new_again(conn: Connection) -> None:
    """A request without effect may be repeated for real."""
    idempotency.claim(conn, "tnt_default", "k", "f1", NOW)
    idempotency.release(conn, "tnt_default", "k")
    assert idempotency.claim(conn, "tnt_default", "k", "f2", NOW).outcome == NEW


def test_webhook_seen_once_is_known_until_it_is_old(conn: Connection) -> None:
    """The second delivery is a repeat; the list does not grow for ever."""
    assert not webhooks_seen.seen(conn, "CA1:ringing", NOW)
    assert webhooks_seen.seen(conn, "CA1:ringing", NOW + timedelta(hours=1))
    assert not webhooks_seen.seen(conn, "CA1:answered", NOW)
    later = NOW + webhooks_seen.KEEP + timedelta(seconds=1)
    assert not webhooks_seen.seen(conn, "CA1:ringing", later)
    assert conn.exec_driver_sql("SELECT count(*) FROM webhooks_seen").scalar() == 1


def test_default_tenant_is_there_once(conn: Connection) -> None:
    """Asking again gives the same row."""
    assert tenants.ensure_default(conn) == tenants.get(conn, "tnt_default")
    assert tenants.get(conn, "tnt_none") is None
