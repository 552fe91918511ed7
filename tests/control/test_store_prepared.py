"""`control.store.prepared`: the same answers and the same errors as `Connection.execute`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    Table,
    bindparam,
    event,
    exc,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy import Integer as IntegerType

from control.compliance import facts
from control.compliance.facts import Asked
from control.compliance.number_file import Shelf
from control.ids import DEFAULT_TENANT_ID
from control.store import Store, StoreUnavailable, calls, decisions, dialing, nodes, outbox
from control.store.admission import Limit
from control.store.dialing import QueueRecord, Seat
from control.store.prepared import Prepared, PreparedWrite, insert_into
from control.store.records import CallRecord
from control.store.tables import calls as table
from control.store.tables.nodes import nodes as nodes_table

NOW = datetime(2026, 11, 21, 9, 0, 0, 123456, tzinfo=UTC)
NUMBERS = ("+14155550100", "+14155550101", "+12125550100", "+442071838750", "+4930123456")


def some_call(random: Random, number: int) -> CallRecord:
    """Any call of the last two months, in any state that its times allow or not."""

    def moment() -> datetime | None:
        return random.choice((None, NOW - timedelta(seconds=random.randrange(60 * 86400))))

    answered_at = moment()
    return CallRecord(
        id=f"call_{number:04}",
        direction=random.choice(("outbound", "outbound", "outbound", "inbound")),
        created_at=NOW - timedelta(seconds=random.randrange(60 * 86400)),
        agent_id="agt_1",
        from_number=random.choice(NUMBERS),
        to_number=random.choice(NUMBERS),
        status=random.choice(("queued", "completed", "busy", "no-answer", "blocked")),
        result=random.choice((None, "completed", "policy")),
        metadata=random.choice(({}, {"subject": "roof", "purpose": "marketing"})),
        campaign=random.choice((None, "agt_1", "roof")),
        abandoned=random.choice((None, True, False)),
        dial_state=random.choice((None, "intent", "sent", "uncertain", "created")),
        sent_at=random.choice((moment(), NOW - timedelta(seconds=random.randrange(7200)))),
        ringing_at=moment(),
        answered_at=answered_at,
        ended_at=random.choice((None, answered_at and answered_at + timedelta(seconds=40))),
    )


def ordinarily(self: Prepared, conn: Connection, values: Mapping[str, Any]) -> list[Any]:
    return [tuple(row) for row in conn.execute(self._statement, dict(values))]


def test_facts_of_random_calls_are_those_of_ordinary_execution(
    conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of column and value, in both directions, on either store; records as well."""
    random = Random(17)
    for number in range(120):
        calls.insert(conn, some_call(random, number))
    shelf = Shelf(tmp_path)
    for number in range(40):
        asked = Asked(
            random.choice(("outbound", "outbound", "inbound")),
            "dial",
            "default",
            "agt_1",
            random.choice(NUMBERS),
            random.choice(NUMBERS),
            call_id=random.choice((None, f"call_{number:04}")),
        )

        def read(asked: Asked = asked, number: int = number) -> Any:
            known = facts.assemble(conn, asked, NOW, NOW, shelf)
            return known, calls.get(conn, f"call_{number:04}"), calls.get(conn, "call_none")

        found = read()
        with monkeypatch.context() as patched:
            patched.setattr(Prepared, "all", ordinarily)
            assert read() == found
        assert found[1] is not None
        assert found[2] is None


WRITTEN = {
    "calls": "*",
    "call_events": "call_id, tenant_id, name, at_ms, data",
    "call_turns": "*",
    "decisions": "call_id, tenant_id, phase, decision, at, seq, prev_hash, hash, facts, facts_hash",
    "decision_heads": "*",
    "dial_queue": "*",
    "dial_pace": "*",
    "outbox": "tenant_id, kind, key, due_at, status, attempts, payload, lease_owner, lease_until",
}
"""What of each table must be the same; the database numbers some of its rows, others have a random name."""


def write_of_every_kind(conn: Connection, random: Random) -> list[Any]:
    """What the prepared writes are used for; returns what they said of it."""
    said: list[Any] = []
    texts = ("", "plain", "umlaut \u00e4\u00f6\u00fc \U0001f4de", "quote ' \" \\ %s :x ?")
    for number in range(12):
        call = some_call(random, number)
        calls.insert(conn, call)
        columns = {
            "legs": random.choice(({}, {"agent": {"n": [1, None, 2.5]}})),
            "cost": random.choice(({}, {"amount": "-0.0140"})),
            "analysis": random.choice((None, {"status": "pending"})),
            "reason": random.choice(texts),
            "answered_by": random.choice((None, "human")),
            "answered_at": random.choice((None, NOW)),
        }
        calls.update(conn, call.id, **columns)
        lines = [(random.choice(texts), n, {"text": random.choice(texts)}) for n in range(number)]
        calls.append_events(conn, call.id, lines)
        calls.upsert_turn(conn, call.id, number, "agent", random.choice(texts), 5)
        calls.upsert_turn(conn, call.id, number, "agent", random.choice(texts), 7, "heard", True)
        decisions.append(
            conn,
            call.id,
            DEFAULT_TENANT_ID,
            "dial",
            {"why": random.choice(texts)},
            NOW,
            {"n": number},
        )
        due_at = NOW - timedelta(seconds=number)
        dialing.add(conn, QueueRecord(call.id, DEFAULT_TENANT_ID, due_at, NOW, created_at=NOW))
        said.append(nodes.claim(conn, call, random.choice(("a", "b"))))
        for _ in range(2):
            payload = {"text": random.choice(texts)}
            said.append(
                outbox.add(
                    conn,
                    kind="k",
                    key=call.id,
                    tenant_id=DEFAULT_TENANT_ID,
                    payload=payload,
                    due_at=due_at,
                )
            )
    changes = [
        calls.Changes(
            f"call_{n:04}",
            DEFAULT_TENANT_ID,
            {"status": "completed", "ended_at": NOW},
            [("x", n, {})],
        )
        for n in range(6)
    ]
    calls.apply(conn, changes)
    seat = Seat("me", NOW + timedelta(minutes=1))
    for n in range(5):
        at = NOW + timedelta(seconds=2 * n)
        taken = dialing.take(conn, seat, at, 3, lambda limits: Limit(cps=1.0))
        said.append([entry.call_id for entry in taken])
        for entry in taken[: n % 2 + 1]:
            dialing.mark_sent(conn, entry.call_id, "me", at)
            dialing.remove(conn, entry.call_id) if n % 2 else None
    (item,) = outbox.claim(
        conn, owner="me", kinds=["k"], now=NOW, lease=timedelta(seconds=9), limit=1
    )
    said += [outbox.retry(conn, item, NOW, NOW, "x"), outbox.done(conn, item, NOW)]
    said.append(nodes.of_others(conn, ["call_0003"], "a"))
    said.append(nodes.of_others(conn, ["call_0003", "call_0004", "call_0005"], "b"))
    return said


def run_ordinarily(self: PreparedWrite, conn: Connection, values: Mapping[str, Any]) -> int:
    preserved = self._statement.execution_options(preserve_rowcount=True)
    return conn.execute(preserved, dict(values)).rowcount


def run_all_ordinarily(self: PreparedWrite, conn: Connection, sets: Any) -> int:
    preserved = self._statement.execution_options(preserve_rowcount=True)
    return conn.execute(preserved, [dict(one) for one in sets]).rowcount


def test_what_is_written_is_what_ordinary_execution_writes(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last character, as the database has it, and it says the same of how many rows there were."""
    found = []
    for is_ordinary in (False, True):
        with monkeypatch.context() as patched:
            if is_ordinary:
                patched.setattr(PreparedWrite, "run", run_ordinarily)
                patched.setattr(PreparedWrite, "run_all", run_all_ordinarily)
            trial = conn.begin_nested()
            said = write_of_every_kind(conn, Random(29))
            rows = {
                name: sorted(map(repr, conn.execute(text(f"SELECT {columns} FROM {name}"))))
                for name, columns in WRITTEN.items()
            }
            trial.rollback()
        found.append((said, rows))
    assert found[0] == found[1]
    assert all(found[0][1].values()), "a table that nothing was written to compares nothing"


def test_write_that_cannot_be_prepared_is_refused(conn: Connection) -> None:
    """What SQLAlchemy would add while it executes a statement is not left out in silence."""
    made = Column("made", IntegerType, default=lambda: 7)
    other = Table("other", MetaData(), Column("id", IntegerType, primary_key=True), made)
    for statement in (
        insert(other).values(id=bindparam("which")),
        update(table).values(status=bindparam("status")).returning(table.c.id),
    ):
        with pytest.raises(TypeError):
            PreparedWrite(statement).run(conn, {"which": 1, "status": "x"})


def test_write_at_odds_with_the_database_raises_what_ordinary_execution_does(
    conn: Connection,
) -> None:
    """So that whoever waits for an IntegrityError, in a savepoint, meets it; and the transaction goes on."""
    once = {"name": "n", "lease_until": NOW, "conversations": 0}
    beats = insert_into(nodes_table, once)
    assert beats.run(conn, once) == 1
    with pytest.raises(exc.IntegrityError), conn.begin_nested():
        beats.run(conn, once)
    with pytest.raises(exc.IntegrityError), conn.begin_nested():
        beats.run_all(conn, [once | {"name": "m"}, once])
    assert conn.execute(select(func.count()).select_from(nodes_table)).scalar() == 1
    for wrong in ({"name": "k"}, once | {"lease_until": NOW.replace(tzinfo=None)}):
        with pytest.raises(exc.StatementError):
            beats.run(conn, wrong)


def test_listener_of_statements_sees_and_changes_what_is_sent(conn: Connection) -> None:
    """A NUL in a text goes to PostgreSQL cleaned, because this is asked for each statement."""
    calls.insert(conn, CallRecord(id="call_1", direction="outbound", created_at=NOW))
    asked = Prepared(select(table.c.id).where(table.c.id == bindparam("id")))
    seen = []

    def listen(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append(statement)

    event.listen(conn, "before_cursor_execute", listen)
    assert asked.all(conn, {"id": "call_1"}) == [("call_1",)]
    assert asked.first(conn, {"id": "a\0b"}) is None
    assert len(seen) == 2


def test_error_of_the_database_is_what_ordinary_execution_raises(store: Store) -> None:
    """The same class, so that the store calls the same errors an outage; and a value that is missing is a mistake."""
    wrong = select(func.count(literal_column("no_such_column"))).select_from(table)
    kinds = []
    for ask in (lambda conn: conn.execute(wrong), lambda conn: Prepared(wrong).all(conn, {})):
        with store._engine.connect() as conn, conn.begin():
            with pytest.raises(exc.DBAPIError) as caught:
                ask(conn)
            kinds.append(type(caught.value))
    assert kinds[0] is kinds[1]

    def read(conn: Connection) -> None:
        Prepared(select(table.c.id).where(table.c.id == bindparam("id"))).all(conn, {})

    with pytest.raises((KeyError, exc.InvalidRequestError)):
        store._read_now(read)


def test_store_that_went_away_is_unavailable(store: Store) -> None:
    """What the driver raises in the middle of a transaction is translated as ever."""

    def read(conn: Connection) -> None:
        calls.get(conn, "call_1")
        conn.connection.dbapi_connection.close()  # type: ignore[union-attr]
        calls.get(conn, "call_1")

    with pytest.raises((StoreUnavailable, exc.ProgrammingError)):
        store._read_now(read)
