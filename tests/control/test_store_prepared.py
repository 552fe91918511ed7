"""`control.store.prepared`: the same answers and the same errors as `Connection.execute`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, event, exc, func, literal_column, select

from control.compliance import facts
from control.compliance.facts import Asked
from control.compliance.number_file import Shelf
from control.store import Store, StoreUnavailable, calls
from control.store.prepared import Prepared
from control.store.records import CallRecord
from control.store.tables import calls as table

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
