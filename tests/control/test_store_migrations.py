"""Migrations: the schema they make is the schema of the tables, and a later one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from control.store import Store, StoreIncompatible, migrations
from control.store.tables import metadata
from tests.sqlite_template import from_template

# Those of PostgreSQL are in tests/postgresql.
pytestmark = pytest.mark.sqlite


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A database as the daemon leaves it after its first start."""
    url = f"sqlite:///{tmp_path / 'tandem.db'}"
    Store.open(url).close()
    return create_engine(url)


def differences(conn: Connection) -> list[object]:
    context = MigrationContext.configure(
        conn, opts={"compare_type": True, "compare_server_default": True}
    )
    return list(compare_metadata(context, metadata))


def test_migrated_schema_equals_metadata(engine: Engine) -> None:
    """Alembic finds nothing to add to or take from what the migrations made."""
    with engine.connect() as conn:
        assert differences(conn) == []
    engine.dispose()


def test_migrated_schema_with_column_lost_is_noticed(engine: Engine) -> None:
    """The comparison above can fail: a missing column is a difference."""
    with engine.begin() as conn:
        conn.execute(text("ALTER TABLE calls DROP COLUMN summary"))
        assert [kind for kind, *_ in differences(conn)] == ["add_column"]  # type: ignore[misc]
    engine.dispose()


def test_migrated_partial_index_keeps_its_condition(engine: Engine) -> None:
    """The comparison does not look into conditions of indexes; this one decides who has a number."""
    with engine.connect() as conn:
        sql = conn.execute(
            text("SELECT sql FROM sqlite_master WHERE name = 'uq_agents_number_e164_open'")
        ).scalar_one()
    assert "WHERE status != 'closed'" in sql
    engine.dispose()


def test_every_table_carries_tenant_id() -> None:
    """Three have none: the tenants themselves, the daemons, which serve them all, and their common work."""
    without = {name for name, table in metadata.tables.items() if "tenant_id" not in table.c}
    assert without == {"tenants", "nodes", "leases"}


def test_open_of_migrated_store_changes_nothing(engine: Engine) -> None:
    """A second start finds the revision and the default tenant there."""
    url = engine.url.render_as_string()
    Store.open(url).close()
    with engine.connect() as conn:
        assert conn.execute(text("SELECT id FROM tenants")).scalars().all() == ["tnt_default"]
    engine.dispose()


def test_open_of_store_from_later_version_is_refused(engine: Engine) -> None:
    """A revision that is not known is an error that says so, and nothing is touched."""
    with engine.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreIncompatible, match=r"9999.*later version"):
        Store.open(engine.url.render_as_string())
    engine.dispose()


def test_upgrade_that_fails_midway_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and their version come together or not at all, so the next start can try again."""
    url = f"sqlite:///{tmp_path / 'tandem.db'}"
    real = migrations.upgrade

    def fail_late(conn: Connection) -> None:
        real(conn)
        raise RuntimeError("killed half-way")

    monkeypatch.setattr(migrations, "upgrade", fail_late)
    with pytest.raises(RuntimeError):
        Store.open(url)
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    monkeypatch.undo()
    Store.open(url).close()


def test_schema_that_other_tests_copy_is_what_the_migrations_make() -> None:
    """Statement by statement, and the rows that are there from the beginning."""
    made = []
    for upgrade in (migrations.upgrade, from_template(migrations.upgrade)):
        engine = create_engine("sqlite://")
        with engine.begin() as conn:
            upgrade(conn)
            assert migrations.revision(conn) == migrations.newest()
        raw = engine.raw_connection()
        made.append(list(raw.driver_connection.iterdump()))  # type: ignore[union-attr]
        raw.close()
        engine.dispose()
    assert made[0] == made[1]
    assert len(made[0]) > 80


def test_schema_compiles_for_postgresql() -> None:
    """Names, types and the partial index say nothing that only SQLite understands."""
    dialect = postgresql.dialect()
    text_of = {
        name: str(CreateTable(table).compile(dialect=dialect))
        for name, table in metadata.tables.items()
    }
    assert "BIGSERIAL" in text_of["call_events"]
    assert "TIMESTAMP WITH TIME ZONE" in text_of["calls"]
    index = next(
        index
        for index in metadata.tables["agents"].indexes
        if index.name == "uq_agents_number_e164_open"
    )
    assert str(CreateIndex(index).compile(dialect=dialect)).endswith("WHERE status != 'closed'")
