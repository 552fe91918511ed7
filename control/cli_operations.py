"""`tandem doctor`, `tandem backup` and `tandem restore`."""

from __future__ import annotations

import argparse
import sys
from importlib import metadata

import trio

from control.backup import service as backup
from control.backup.archive import BackupError
from control.clock import Clock
from control.config import Settings
from control.doctor import service
from control.vault import KEY_FILE_SUFFIX

EXIT_FAILED = 1


def run(options: argparse.Namespace, settings: Settings) -> int:
    """One command; the exit code."""
    does = {"doctor": _examined, "backup": _backed_up, "restore": _restored}
    try:
        return does[options.command](options, settings)
    except (BackupError, OSError) as error:
        print(f"tandem: {error}", file=sys.stderr)
        return EXIT_FAILED


def _backed_up(options: argparse.Namespace, settings: Settings) -> int:
    try:
        version = metadata.version("tandem")
    except metadata.PackageNotFoundError:
        version = "0+unknown"
    made = backup.back_up(
        settings,
        options.file,
        recordings=options.recordings,
        now=Clock().now(),
        version=version,
    )
    print(f"{options.file}: {len(made.files)} files, schema revision {made.revision}")
    if settings.store.encryption_key is None:
        # In the same file it would open what it seals.
        print(
            f"keep the key of its secrets apart: the file ending in {KEY_FILE_SUFFIX} beside the database"
        )
    return 0


def _restored(options: argparse.Namespace, settings: Settings) -> int:
    made, aside = backup.restore(settings, options.file, now=Clock().now())
    print(f"the store is as it was at {made.made_at}, schema revision {made.revision}")
    if aside is not None:
        print(f"the former database is {aside}")
    return 0


def _examined(_options: argparse.Namespace, settings: Settings) -> int:
    """Exit 1 when a check failed; warnings are told and pass."""
    return trio.run(_doctor, settings)


async def _doctor(settings: Settings) -> int:
    failed = 0
    async for finding in service.examine(settings, Clock()):
        print(finding.line(), flush=True)
        failed += finding.status == "fail"
    return EXIT_FAILED if failed else 0
