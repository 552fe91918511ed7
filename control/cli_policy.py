"""`tandem policy` and `tandem ledger`: ask, explain, decide again, and verify; on the store, without a daemon."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from control.cli_lists import open_store
from control.compliance import facts, platform_stop, stored
from control.compliance.facts import Asked
from control.compliance.number_file import Shelf
from control.config import PolicySettings, Settings
from control.plugins import build_rules
from control.retention import proof
from control.store import StoreError, StoreUnavailable, agents, decisions
from control.store.decisions import DecisionRecord
from policy import Facts, Rule, evaluate, packaged
from policy.facts import Clock, Location
from policy.loader import law_of
from policy.pack_reading import PackError
from policy.sentences import describe

EXIT_FAILED = 1
EXIT_REFUSED = 3
"""`policy check`: denied or deferred."""


def run(options: argparse.Namespace, settings: Settings) -> int:
    """One command; the exit code."""
    does = {"check": _check, "explain": _explain, "replay": _replay, "verify": _verify}
    try:
        return does[options.action](options, settings)
    except (StoreError, StoreUnavailable, PackError, OSError, ValueError) as error:
        print(f"tandem: {error}", file=sys.stderr)
        return EXIT_FAILED


def _check(options: argparse.Namespace, settings: Settings) -> int:
    now = datetime.now(UTC)
    at = options.at or now

    def assembled(conn: Connection) -> Facts | None:
        agent = agents.get(conn, options.agent)
        if agent is None:
            return None
        asked = Asked(
            "outbound",
            "check",
            agent.tenant_id,
            agent.id,
            options.from_number or agent.number_e164 or "",
            options.to,
            channel=options.channel,
            purpose=options.purpose,
            location=_place(options, now),
        )
        return facts.assemble(conn, asked, at, now, Shelf(Path(settings.policy.lists_dir)))

    with open_store(settings) as store:
        known = store.read(assembled)
    if known is None:
        print(f"tandem: no agent {options.agent}", file=sys.stderr)
        return EXIT_FAILED
    decision = evaluate(build_rules(settings.policy), replace(known, clock=Clock(True)))
    shown = decision.to_dict()
    print(json.dumps(shown, indent=2) if options.json else "\n".join(in_words(shown)))
    return 0 if decision.allowed else EXIT_REFUSED


def _place(options: argparse.Namespace, now: datetime) -> Location | None:
    """Where the command line says that the called party is. Raises ValueError naming the option."""
    if options.timezone and packaged().zone(options.timezone) is None:
        raise ValueError(f"--timezone: {options.timezone!r} is no time zone of the IANA database")
    if options.state and not re.fullmatch("[A-Z]{2}", options.state):
        raise ValueError(f"--state: {options.state!r}: expected two capital letters")
    if not (options.timezone or options.postcode or options.state):
        return None
    return Location(
        zone=options.timezone,
        zone_source="command line",
        zone_as_of=now,
        postcode=options.postcode,
        state=options.state,
    )


def in_words(decision: dict[str, Any]) -> Iterable[str]:
    """A decision object, for people: what decided first, then every rule. Or what was erased."""
    if decision["outcome"] == proof.PHASE:
        yield f"ERASED: {decision['what']}, {decision['rule']}"
        for name in ("counts", "sha256", "masked"):
            if name in decision:
                yield f"  {name}: {decision[name]}"
        return
    word = {"allow": "ALLOWED", "deny": "DENIED", "defer": "PUT OFF"}[decision["outcome"]]
    yield f"{word}: {decision.get('sentence') or decision.get('reason') or ''}".rstrip(": ")
    if decision.get("retry_at"):
        yield f"  may be tried from {decision['retry_at']}"
    for rule in decision["rules"]:
        if rule["outcome"] != "allow":
            said = describe(rule["id"], rule["reason"], rule["inputs"])
            yield f"  {rule['outcome']:<5} {rule['id']} v{rule['version']}: {said}"
    passed = [rule["id"] for rule in decision["rules"] if rule["outcome"] == "allow"]
    if passed:
        yield f"  passed: {', '.join(passed)}"
    duties = [duty["kind"] for duty in decision.get("obligations", ())]
    if duties:
        yield f"  to be done: {', '.join(duties)}"
    if decision.get("versions"):
        yield "  judged by " + ", ".join(f"{k} {v}" for k, v in decision["versions"].items())


def _explain(options: argparse.Namespace, settings: Settings) -> int:
    with open_store(settings) as store:
        records: list[DecisionRecord] = store.read(decisions.of_call, options.call_id)
    if not records:
        print(f"tandem: no decision about {options.call_id}", file=sys.stderr)
        return EXIT_FAILED
    for record in records:
        name = f"{record.decision['id']}, " if "id" in record.decision else ""
        print(
            f"{record.at.isoformat()} {record.phase} ({name}decision {record.seq} of {record.tenant_id})"
        )
        for line in in_words(record.decision):
            print(f"  {line}")
    return 0


def _replay(options: argparse.Namespace, settings: Settings) -> int:
    until = options.until or datetime.now(UTC)
    since = options.since or until - timedelta(days=1)
    rules = rules_with(settings.policy, options.pack)

    def kept(conn: Connection) -> list[DecisionRecord]:
        return list(decisions.between(conn, since=since, until=until, tenant_id=options.tenant))

    with open_store(settings) as store:
        records = store.read(kept)
    # Lines of the ledger that are no decisions.
    records = [one for one in records if one.phase not in (proof.PHASE, platform_stop.PHASE)]
    changed = unreadable = 0
    for record in records:
        if record.facts is None:
            unreadable += 1
            continue
        known = stored.load(record.facts)
        if options.at is not None:
            known = replace(known, at=options.at)
        difference = differs(record.decision, evaluate(rules, known).to_dict())
        if difference:
            changed += 1
            print(
                f"{record.call_id or 'check'} {record.phase} {record.at.isoformat()}: {difference}"
            )
    print(f"{len(records)} decisions, {changed} differ, {unreadable} without their facts")
    return 0


def rules_with(settings: PolicySettings, packs: list[Path] | None) -> tuple[Rule, ...]:
    """The configured rules, under other packs where some are named. Raises PackError, OSError."""
    if not packs:
        return build_rules(settings)
    return build_rules(settings, law_of([path.read_bytes() for path in packs]))


def differs(was: dict[str, Any], becomes: dict[str, Any]) -> str | None:
    """What is different in words; None when outcome, time and deciding rules are the same."""

    def essence(decision: dict[str, Any]) -> tuple[Any, ...]:
        firing = tuple(rule["id"] for rule in decision["rules"] if rule["outcome"] != "allow")
        return decision["outcome"], decision.get("retry_at"), firing

    before, after = essence(was), essence(becomes)
    if before == after:
        return None
    return f"{_essence_text(before)} -> {_essence_text(after)}"


def _essence_text(essence: tuple[Any, ...]) -> str:
    outcome, retry_at, firing = essence
    until = f" until {retry_at}" if retry_at else ""
    return f"{outcome}{until}" + (f" ({', '.join(firing)})" if firing else "")


def _verify(options: argparse.Namespace, settings: Settings) -> int:
    with open_store(settings) as store:
        found: decisions.Verified = store.read(decisions.verify, options.tenant)
    flaws = list(found.flaws)
    if options.anchor is not None:
        with open_store(settings) as store:
            flaws += store.read(anchored, json.loads(options.anchor.read_text("utf-8")))
    for flaw in flaws:
        row = "the end of the chain" if flaw.row is None else f"row {flaw.row}"
        print(f"{flaw.tenant_id}: {row}: {flaw.what}", file=sys.stderr)
    if options.json:
        heads = {whose: {"seq": seq, "hash": link} for whose, (seq, link) in found.heads.items()}
        print(json.dumps(heads, indent=2, sort_keys=True))
    else:
        print(f"{found.rows} decisions of {len(found.heads)} tenants, {len(flaws)} flaws")
        for whose, (seq, link) in sorted(found.heads.items()):
            print(f"  {whose}: {seq} {link}")
    return EXIT_FAILED if flaws else 0


def anchored(conn: Connection, heads: dict[str, dict[str, Any]]) -> list[decisions.Flaw]:
    """Heads that were kept elsewhere: each has to be a link of its chain still."""
    flaws = []
    for tenant_id, head in heads.items():
        link = decisions.hash_at(conn, tenant_id, int(head["seq"]))
        if link != head["hash"] and int(head["seq"]) > 0:
            what = f"link {head['seq']} is not the one that was anchored"
            flaws.append(decisions.Flaw(tenant_id, None, int(head["seq"]), what))
    return flaws
