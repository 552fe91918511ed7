"""Both stores for every test that asks for `store_url`; PostgreSQL's tests skip where there is no server."""

from __future__ import annotations

import os

import pytest

from control.store import Store, migrations
from tests.postgresql_server import NoPostgresql, PostgresqlServer, is_required
from tests.sqlite_template import from_template

SLOW = ("walks", "processes", "faults", "package")
"""Folders whose tests start daemons: few tests a file, and minutes of waiting."""


def pytest_collection_modifyitems(items):
    """Files with daemons are spread among the others, so that they neither come all at once nor hold up the end."""
    files = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = [path for path in files if any(part in SLOW for part in path.parts)]
    others = [path for path in files if path not in set(slow)]
    step = max(1, len(others) * 2 // (3 * len(slow) or 1))
    order = []
    while slow or others:
        order += slow[:1] + others[:step]
        slow, others = slow[1:], others[step:]
    items[:] = [item for path in order for item in files[path]]


@pytest.fixture(scope="session")
def postgresql():
    """One server for the whole run, started when the first test wants it."""
    try:
        server = PostgresqlServer.create()
        server.start()
    except NoPostgresql as reason:
        if is_required():
            raise
        pytest.skip(str(reason))
    yield server
    server.remove()


@pytest.fixture
def postgresql_url(postgresql):
    """The URL of an empty database, dropped after the test whoever is still connected."""
    url = postgresql.empty_database()
    yield url
    postgresql.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path):
    """The URL of a store of one's own, once for each kind of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'tandem.db'}"
        return
    server = request.getfixturevalue("postgresql")
    url = server.database()
    yield url
    server.give_back(url)


@pytest.fixture(autouse=True)
def schema_is_copied(request, monkeypatch):
    """New SQLite stores, of tests that are not about migrations, cost 5 ms instead of 140."""
    if request.path.name != "test_store_migrations.py":
        monkeypatch.setattr(migrations, "upgrade", from_template(migrations.upgrade))


@pytest.fixture(autouse=True)
def every_store_on_postgresql(request, monkeypatch):
    """With TANDEM_TEST_STORE=postgresql whatever a test opens as SQLite is a database of the server.

    One URL is one database; each store in memory is one of its own. Tests that are about SQLite are left out, and
    so are those that run on PostgreSQL in any case, once more.
    """
    if os.environ.get("TANDEM_TEST_STORE") != "postgresql":
        yield
        return
    spec = getattr(request.node, "callspec", None)
    if request.node.get_closest_marker("sqlite") or (spec and spec.params.get("store_url")):
        pytest.skip("not once more")
    server = request.getfixturevalue("postgresql")
    opened, original = {}, Store.open.__func__

    def open_there(cls, url, **options):
        if url.startswith("sqlite://"):
            key = url if url != "sqlite://" else object()
            url = opened.get(key) or opened.setdefault(key, server.database())
        return original(cls, url, **options)

    monkeypatch.setattr(Store, "open", classmethod(open_there))
    yield
    for url in opened.values():
        server.give_back(url)
