"""The command lines of `policy`, `ledger`, `lists` and of operations; light, because every command builds them."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from control.ids import DEFAULT_TENANT_ID
from policy.facts import Purpose

OPERATIONS = ("doctor", "backup", "restore")
LIST_KINDS = ("opt-outs", "consents", "platform-blocks", "reassigned", "dnc")


def add_policy(commands: Any, common: argparse.ArgumentParser) -> None:
    """The parsers of `policy …` and `ledger verify`."""
    policy = commands.add_parser("policy", help="ask the policy, explain and repeat its decisions")
    actions = policy.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check", parents=[common], help="may this number be called? exit 0 or 3"
    )
    check.add_argument("to", type=_number, metavar="NUMBER", help="in E.164, such as +14155550100")
    check.add_argument("--agent", required=True, metavar="ID")
    check.add_argument("--at", type=_instant, default=None, metavar="TIME", help="RFC 3339; now")
    check.add_argument("--purpose", choices=sorted(get_args(Purpose)), default=None)
    check.add_argument("--channel", choices=("voice", "sms"), default="voice")
    check.add_argument(
        "--from",
        dest="from_number",
        type=_number,
        default=None,
        metavar="NUMBER",
        help="caller id",
    )
    check.add_argument("--postcode", default=None, help="of the called party")
    check.add_argument("--state", default=None, metavar="XX", help="of the called party")
    check.add_argument("--timezone", default=None, metavar="ZONE", help="of the called party")
    check.add_argument("--json", action="store_true", help="print the decision object")
    explain = actions.add_parser(
        "explain", parents=[common], help="why a call was decided as it was"
    )
    explain.add_argument("call_id", metavar="CALL_ID")
    replay = actions.add_parser("replay", parents=[common], help="decide stored attempts again")
    replay.add_argument(
        "--at", type=_instant, default=None, metavar="TIME", help="as if it were then"
    )
    replay.add_argument(
        "--pack", type=Path, action="append", metavar="FILE", help="with this rule pack"
    )
    replay.add_argument("--since", type=_instant, default=None, help="a day ago")
    replay.add_argument("--until", type=_instant, default=None, help="now")
    replay.add_argument("--tenant", default=None, metavar="ID")
    ledger = commands.add_parser("ledger", help="the ledger of decisions")
    parts = ledger.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = parts.add_parser(
        "verify", parents=[common], help="find any edit, removal or insertion"
    )
    verify.add_argument("--tenant", default=None, metavar="ID")
    verify.add_argument(
        "--json", action="store_true", help="print the heads of the chains, to be kept"
    )
    verify.add_argument(
        "--anchor", type=Path, default=None, metavar="FILE", help="heads that were kept"
    )


def add_lists(commands: Any, common: argparse.ArgumentParser) -> None:
    """The parsers of `lists import` and `lists export`."""
    lists = commands.add_parser("lists", help="import and export the compliance lists")
    actions = lists.add_subparsers(dest="action", required=True, metavar="ACTION")
    load = actions.add_parser(
        "import", parents=[common], help="import a CSV file, all of it or nothing"
    )
    load.add_argument("kind", choices=LIST_KINDS)
    load.add_argument("file", type=Path)
    load.add_argument("--tenant", default=None, metavar="ID", help="whose list it is")
    load.add_argument(
        "--list", type=str.upper, default="US", metavar="US|FL|…", help="dnc: which list"
    )
    load.add_argument("--as-of", default=None, metavar="DATE", help="dnc: the day of the copy")
    load.add_argument("--source", default="file", help="dnc: where the copy is from")
    save = actions.add_parser("export", parents=[common], help="print a list as CSV")
    save.add_argument("kind", choices=("opt-outs", "consents", "platform-blocks"))
    save.add_argument("--tenant", default=DEFAULT_TENANT_ID, metavar="ID")


def add_operations(commands: Any, common: argparse.ArgumentParser) -> None:
    """The parsers of the commands for whoever runs the machine."""
    does = "check everything that a call needs; exit 1 when a check fails"
    commands.add_parser("doctor", parents=[common], help=does, description=does)
    does = "copy the store into a file, also while a daemon runs"
    save = commands.add_parser("backup", parents=[common], help=does, description=does)
    save.add_argument("file", type=Path, metavar="FILE")
    save.add_argument("--recordings", action="store_true", help="the recordings too")
    does = "make a backup the store; not while a daemon runs"
    back = commands.add_parser("restore", parents=[common], help=does, description=does)
    back.add_argument("file", type=Path, metavar="FILE")


def _number(text: str) -> str:
    from control.telephone_number import check_number  # not light

    try:
        return check_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError("needs a time zone, as in 2027-01-13T18:00:00Z")
    return at
