"""`tandem`: serve, check-config, doctor, policy, ledger, lists, --version.

Exit codes: 0 done, 1 it failed, 2 the configuration or the command line is wrong, 3 the policy refuses.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from control import cli_parsers
from control.config import ConfigError, Settings, load, masked, warnings
from control.plugins import build_reassigned, build_rules

EXIT_CONFIG = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = load(options.config, os.environ)
        build_rules(settings.policy)
        build_reassigned(settings.policy)
    except ConfigError as error:
        for problem in error.problems:
            print(f"tandem: {problem}", file=sys.stderr)
        return EXIT_CONFIG
    if options.command == "check-config":
        return _check_config(settings)
    if options.command in ("policy", "ledger", "lists"):
        # Here, not above: check-config and --version answer at once and need none of it.
        from control import cli_lists, cli_policy

        run = cli_lists.run if options.command == "lists" else cli_policy.run
        return run(options, settings)
    if options.command in cli_parsers.OPERATIONS:
        from control import cli_operations

        return cli_operations.run(options, settings)
    return _serve(settings)


def _check_config(settings: Settings) -> int:
    for warning in warnings(settings):
        print(f"tandem: warning: {warning}", file=sys.stderr)
    print(masked(settings), end="")
    return 0


def _serve(settings: Settings) -> int:
    # Here, not above: check-config and --version answer at once and need none of it.
    from control import daemon

    return int(daemon.run(settings) or 0)


def version() -> str:
    """The version of the installed distribution."""
    try:
        return metadata.version("tandem")
    except metadata.PackageNotFoundError:
        return "0+unknown"  # run from a source tree that was never installed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tandem", description="Joins telephone calls (Twilio) to voice agents (ElevenLabs)."
    )
    parser.add_argument("--version", action="version", version=f"tandem {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, does in (
        ("serve", "run the daemon"),
        ("check-config", "validate the configuration and print it with secrets masked"),
    ):
        command = commands.add_parser(name, help=does, description=does)
        command.add_argument("--config", default="config.toml", metavar="FILE", help="config.toml")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", default="config.toml", metavar="FILE", help="config.toml")
    cli_parsers.add_policy(commands, common)
    cli_parsers.add_lists(commands, common)
    cli_parsers.add_operations(commands, common)
    return parser
