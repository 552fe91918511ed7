"""The chain of decisions: every kind of tampering shows, with the row."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, insert, select, update

from control.store import Store, decisions
from control.store.tables.compliance import decision_heads
from control.store.tables.core import decisions as table

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OURS = "tnt_default"


@pytest.fixture
def conn(store_url):
    store = Store.open(store_url)
    with store._engine.connect() as connection, connection.begin():
        for number in range(5):
            at = NOW + timedelta(minutes=number)
            decision = {"allowed": number % 2 == 0, "rules": [{"id": "DNC-INT"}]}
            facts = {"to_number": "+14155550100", "n": number}
            decisions.append(connection, f"call_{number}", OURS, "dial", decision, at, facts)
        decisions.append(connection, None, "tnt_other", "check", {"allowed": True}, NOW)
        yield connection
    store.close()


def row_of(conn, seq):
    return conn.execute(
        select(table.c.id).where(table.c.tenant_id == OURS, table.c.seq == seq)
    ).scalar_one()


def flaws(conn):
    return [(flaw.row, flaw.what) for flaw in decisions.verify(conn).flaws]


def test_untouched_chain_is_good(conn):
    """Each tenant has a chain of its own, and its head is told."""
    found = decisions.verify(conn)
    assert found.flaws == []
    assert found.rows == 6
    assert {tenant: seq for tenant, (seq, _) in found.heads.items()} == {OURS: 5, "tnt_other": 1}
    assert decisions.verify(conn, "tnt_other").rows == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("decision", {"allowed": True, "rules": []}),
        ("at", NOW - timedelta(days=1)),
        ("phase", "check"),
        ("call_id", "call_9"),
        ("call_id", None),
        ("prev_hash", "f" * 64),
        ("hash", "f" * 64),
        ("facts_hash", "f" * 64),
        ("facts", {"to_number": "+14155550199"}),
    ],
)
def test_edit_of_any_column_names_the_row(conn, column, value):
    """Whatever is edited in the third link, the first flaw is that row's."""
    row = row_of(conn, 3)
    conn.execute(update(table).where(table.c.id == row).values({column: value}))
    found = flaws(conn)
    assert found
    assert found[0][0] == row


def test_edit_with_a_hash_that_fits_breaks_the_next_link(conn):
    """Who recomputes the hash of what he edited is found at the row behind it."""
    row = row_of(conn, 3)
    record = next(r for r in decisions.of_call(conn, "call_2") if r.id == row)
    link = decisions.link_hash(
        tenant_id=OURS,
        seq=3,
        prev_hash=record.prev_hash,
        call_id=record.call_id,
        phase=record.phase,
        at=record.at,
        decision={"allowed": False},
        facts_hash=record.facts_hash,
    )
    conn.execute(
        update(table).where(table.c.id == row).values(decision={"allowed": False}, hash=link)
    )
    assert flaws(conn) == [(row_of(conn, 4), "does not follow the one before it")]


@pytest.mark.parametrize("seq", [1, 3])
def test_removal_names_the_row_behind_the_gap(conn, seq):
    """A link that is gone is a number that is missing."""
    behind = row_of(conn, seq + 1)
    conn.execute(delete(table).where(table.c.id == row_of(conn, seq)))
    ((row, what),) = flaws(conn)
    assert row == behind
    assert "missing" in what


def test_removal_of_the_newest_is_seen_by_the_head(conn):
    """A chain whose end was cut off is a good chain but for its head."""
    conn.execute(delete(table).where(table.c.id == row_of(conn, 5)))
    ((row, what),) = flaws(conn)
    assert row is None
    assert "ends at 4, not at 5" in what


def test_removal_of_a_whole_chain_is_seen(conn):
    """Nothing left, but the head says what there was."""
    conn.execute(delete(table).where(table.c.tenant_id == OURS))
    assert len(flaws(conn)) == 1


def test_removal_of_a_head_is_seen(conn):
    """Without its head a chain proves nothing about its end."""
    conn.execute(delete(decision_heads).where(decision_heads.c.tenant_id == OURS))
    assert [what for _, what in flaws(conn)] == ["the head of the chain is missing"]


def test_insertion_past_the_ledger_names_the_row(conn):
    """A row without a place in the chain, and one that claims a place behind its end."""
    values = {"tenant_id": OURS, "phase": "dial", "decision": {}, "at": NOW}
    forged = conn.execute(insert(table).values(values)).inserted_primary_key[0]
    assert [row for row, _ in flaws(conn)] == [forged]
    conn.execute(delete(table).where(table.c.id == forged))
    claimed = {"seq": 6, "prev_hash": "0" * 64, "hash": "0" * 64}
    forged = conn.execute(insert(table).values(values | claimed)).inserted_primary_key[0]
    assert forged in [row for row, _ in flaws(conn)]


def test_links_in_another_order_are_seen(conn):
    """Two rows that changed places."""
    one, other = row_of(conn, 2), row_of(conn, 3)
    for row, seq in ((one, 99), (other, 2), (one, 3)):
        conn.execute(update(table).where(table.c.id == row).values(seq=seq))
    assert {one, other} <= {row for row, _ in flaws(conn)}


def test_erased_facts_leave_the_chain_good(conn):
    """The number of a person is erased; what was decided stays proven."""
    assert decisions.erase_facts(conn, "call_2") == 1
    found = decisions.verify(conn)
    assert found.flaws == []
    assert found.without_facts == 2  # and the check, which had none


async def test_links_written_at_once_make_one_chain(store_url):
    """Several writers of one tenant: no two links have the same place."""
    import trio

    store = Store.open(store_url)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(
                    store.write, decisions.append, None, OURS, "check", {"allowed": True}, NOW
                )
        found = await store.read(decisions.verify)
        assert (found.rows, found.flaws) == (20, [])
    finally:
        store.close()
