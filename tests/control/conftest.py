"""Stores that several files begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control.store import Store


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """The store of `store_url`, closed after the test."""
    opened = Store.open(store_url)
    yield opened
    opened.close()
