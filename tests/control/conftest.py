"""Stores that several files begin with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection

from control.store import Store, agents
from control.store.records import AgentRecord


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """The store of `store_url`, closed after the test."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


@pytest.fixture
def conn(store: Store) -> Iterator[Connection]:
    """A transaction in a store with one agent, `agt_1`; committed when the test is over."""
    made_at = datetime(2026, 11, 21, 9, tzinfo=UTC)
    with store._engine.connect() as opened, opened.begin():
        made = AgentRecord(id="agt_1", name="Desk", created_at=made_at, updated_at=made_at)
        agents.insert(opened, made)
        yield opened
