"""`tandem doctor`: one line a check."""

from __future__ import annotations

import argparse

import trio

from control.clock import Clock
from control.config import Settings
from control.doctor import service

EXIT_FAILED = 1


def run(options: argparse.Namespace, settings: Settings) -> int:
    """One command; the exit code."""
    does = {"doctor": _examined}
    return does[options.command](options, settings)


def _examined(_options: argparse.Namespace, settings: Settings) -> int:
    """Exit 1 when a check failed; warnings are told and pass."""
    return trio.run(_doctor, settings)


async def _doctor(settings: Settings) -> int:
    failed = 0
    async for finding in service.examine(settings, Clock()):
        print(finding.line(), flush=True)
        failed += finding.status == "fail"
    return EXIT_FAILED if failed else 0
