"""`tandem lists`: import and export, straight into the store of the configuration."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import Connection
from tqdm import tqdm

from control.clock import Clock
from control.compliance import imports
from control.config import Settings
from control.ids import DEFAULT_TENANT_ID
from control.store import Store, StoreError, StoreUnavailable, dnc, tenants

EXIT_FAILED = 1
STORE_DEADLINE_S = 3600.0
"""An import of millions is one transaction."""


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Exit code: 0 done, 1 nothing was imported."""
    try:
        if options.action == "export":
            return _export(options, settings)
        return _import(options, settings)
    except imports.ImportRefused as refused:
        for error in refused.errors:
            print(f"{options.file}:{error.line}: {error.field}: {error.reason}", file=sys.stderr)
        if refused.count > len(refused.errors):
            print(f"… and {refused.count - len(refused.errors)} more", file=sys.stderr)
        print(f"tandem: {refused}", file=sys.stderr)
    except (OSError, StoreError, StoreUnavailable, ValueError) as error:
        print(f"tandem: {error}", file=sys.stderr)
    return EXIT_FAILED


def _import(options: argparse.Namespace, settings: Settings) -> int:
    tenant_id = options.tenant or DEFAULT_TENANT_ID
    with open_store(settings) as store:
        if options.kind == imports.DNC:
            numbers = imports.read_numbers(_lines(options.file))
            as_of = _day(options.as_of) or datetime.fromtimestamp(options.file.stat().st_mtime, UTC)
            record = imports.stage_numbers(
                Path(settings.policy.lists_dir),
                numbers,
                list_id=options.list,
                tenant_id=options.tenant or dnc.EVERYBODY,
                as_of=as_of,
                source=options.source,
            )
            store.write(dnc.put_list, record)
            print(f"{record.entries} numbers are list {record.list_id}, as of {as_of:%Y-%m-%d}")
            return 0
        store.read(_must_exist, tenant_id)
        now = Clock.of_environment().now()
        found = imports.read(options.kind, _lines(options.file), now)
        added = store.write(imports.write, options.kind, found, tenant_id, now, "import")
        print(f"{added} added, {len(found) - added} were there already")
        return 0


def _export(options: argparse.Namespace, settings: Settings) -> int:
    def printed(conn: Connection) -> None:
        for line in imports.export(conn, options.kind, options.tenant):
            sys.stdout.write(line)

    with open_store(settings) as store:
        store.read(_must_exist, options.tenant)
        store.read(printed)
    return 0


def _must_exist(conn: Connection, tenant_id: str) -> None:
    """Raises ValueError: a list of nobody is empty, and looks as if nobody had opted out."""
    if tenants.get(conn, tenant_id) is None:
        raise ValueError(f"--tenant: there is no tenant {tenant_id}")


def _lines(path: Path) -> Iterator[str]:
    """The file's lines, with a bar on a terminal."""
    with (
        path.open(encoding="utf-8-sig", newline="") as file,
        tqdm(
            total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name, disable=None
        ) as bar,
    ):
        for line in file:
            bar.update(len(line))
            yield line


def _day(text: str | None) -> datetime | None:
    if text is None:
        return None
    day = datetime.fromisoformat(text)
    return day.replace(tzinfo=UTC) if day.tzinfo is None else day


class open_store:
    """The store of the configuration, for a command: blocking, without a deadline worth the name."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.store.url

    def __enter__(self) -> open_store:
        self._store = Store.open(self._url, deadline_s=STORE_DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def read(self, fn: Any, *arguments: Any) -> Any:
        return trio.run(self._store.read, fn, *arguments)

    def write(self, fn: Any, *arguments: Any) -> Any:
        return trio.run(self._store.write, fn, *arguments)
