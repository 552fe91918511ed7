"""Asking the policy: what is known of a call is read from the store, the rules decide, the answer is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from control.ledger import Ruling
from control.office import Office
from control.store import StoreUnavailable, opt_outs
from control.store.records import OptOutRecord
from policy import Decision, Facts, OptOut, evaluate
from policy.facts import Channel, Direction, Phase


@dataclass(frozen=True, slots=True)
class Question:
    """May this call (or message) happen, at this phase of its life?"""

    direction: Direction
    phase: Phase
    tenant_id: str
    agent_id: str
    from_number: str
    to_number: str
    channel: Channel = "voice"

    @property
    def customer_number(self) -> str:
        return self.from_number if self.direction == "inbound" else self.to_number


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, ready to be kept."""

    allowed: bool
    ruling: Ruling
    reason: str
    """Of the first rule that did not allow: `DNC-INT: …`; empty when all did."""

    @property
    def decision(self) -> dict[str, Any]:
        """The contract's decision object."""
        return self.ruling.decision


def read_opt_out(conn: Connection, tenant_id: str, number: str) -> OptOutRecord | None:
    """For callers that read other things in the same transaction."""
    return opt_outs.get(conn, tenant_id, number)


async def ask(office: Office, question: Question, at: datetime | None = None) -> Verdict:
    """Read the lists, then judge. A store that cannot be read is a fact for the rules, not an error."""
    try:
        opt_out = await office.store.read(
            read_opt_out, question.tenant_id, question.customer_number
        )
    except StoreUnavailable:
        return judge(office, question, None, is_readable=False, at=at)
    return judge(office, question, opt_out, at=at)


def judge(
    office: Office,
    question: Question,
    opt_out: OptOutRecord | None,
    *,
    is_readable: bool = True,
    at: datetime | None = None,
) -> Verdict:
    """Let the rules decide on what was read."""
    now = at or office.clock.now()
    decision = evaluate(
        office.rules,
        Facts(
            direction=question.direction,
            phase=question.phase,
            tenant_id=question.tenant_id,
            agent_id=question.agent_id,
            from_number=question.from_number,
            to_number=question.to_number,
            channel=question.channel,
            at=now,
            opt_out=_as_fact(opt_out),
            store_readable=is_readable,
        ),
    )
    decided_by, reason = _deciding_rule(decision)
    office.metrics.policy_decisions.labels(decision.outcome, decided_by).inc()
    ruling = Ruling(question.phase, question.tenant_id, decision.to_dict(), now)
    return Verdict(decision.allowed, ruling, reason)


def _as_fact(record: OptOutRecord | None) -> OptOut | None:
    if record is None:
        return None
    return OptOut(e164=record.e164, since=record.created_at, source=record.source)


def _deciding_rule(decision: Decision) -> tuple[str, str]:
    if decision.allowed:
        return "none", ""
    rule = next(rule for rule in decision.rules if rule.outcome == decision.outcome)
    return rule.id, f"{rule.id}: {rule.reason}"
