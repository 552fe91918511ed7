"""Asking the policy: what is known of a call is read from the store, the rules decide, the answer is kept.

The rules run in a thread with a deadline. Those of plug-ins have a shorter one each (`control.plugins`), so the
one here is met only when something of ours is wrong; then nothing is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import trio
from sqlalchemy import Connection

from control import ids, log
from control.compliance import clock_state, facts, stored
from control.compliance.facts import Asked
from control.ledger import Ruling
from control.office import Office
from control.plugins import begin_decision
from control.store import StoreUnavailable, opt_outs
from control.store.records import OptOutRecord
from policy import Decision, Facts, RuleResult, evaluate
from policy.facts import Clock

Question = Asked
"""May this call happen, at this phase of its life?"""

EVALUATION_DEADLINE_S = 4.0
EVALUATION_THREADS = 4
"""Decisions that are made at once. A thread given up keeps its place until it is done."""
_threads = trio.CapacityLimiter(EVALUATION_THREADS)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, ready to be kept."""

    allowed: bool
    ruling: Ruling
    reason: str
    """Of the first rule that did not allow: `DNC-INT: …`; empty when all did."""
    known: Facts | None = None
    """What it was made from."""

    @property
    def decision(self) -> dict[str, Any]:
        """The contract's decision object."""
        return self.ruling.decision


def read_opt_out(conn: Connection, tenant_id: str, number: str) -> OptOutRecord | None:
    """For callers that read other things in the same transaction."""
    return opt_outs.get(conn, tenant_id, number)


async def ask(office: Office, question: Question, at: datetime | None = None) -> Verdict:
    """Read everything, then judge: as of now, or as if it were `at`.

    A store that cannot be read is a fact for the rules, not an error.
    """
    now = office.clock.now()
    try:
        read = partial(
            facts.assemble, asked=question, at=at or now, read_at=now, shelf=office.shelf
        )
        known = await office.store.read(read)
        lookup = office.reassigned
        if lookup is not None and await lookup.refresh(office.store, known, now):
            known = await office.store.read(read)
    except StoreUnavailable as error:
        log.event("policy_without_store", level="error", error=str(error))
        known = facts.bare(question, at or now)
    return await judge(office, replace(known, clock=_clock(office)))


async def judge(office: Office, known: Facts) -> Verdict:
    """Let the rules decide on what was read."""
    decision = await _decide(office, known)
    decided_by = "none" if decision.decided_by is None else decision.decided_by.id
    office.metrics.policy_decisions.labels(decision.outcome, decided_by).inc()
    for rule in decision.rules:
        office.metrics.rule_decisions.labels(rule.id, rule.outcome).inc()
    now = office.clock.now()
    shown = {"id": ids.new_id(ids.DECISION, now), "phase": known.phase} | _shown(decision, known)
    ruling = Ruling(known.phase, known.tenant_id, shown, now, stored.dump(known))
    return Verdict(decision.allowed, ruling, decision.reason, known)


def _shown(decision: Decision, known: Facts) -> dict[str, Any]:
    """The contract's decision object; the duty to identify says as whom."""
    shown = decision.to_dict()
    for duty in shown.get("obligations", ()):
        if duty.get("kind") == "identify":
            duty["seller"] = known.seller
    return shown


async def _decide(office: Office, known: Facts) -> Decision:
    begin_decision()
    with trio.move_on_after(EVALUATION_DEADLINE_S):
        return await trio.to_thread.run_sync(
            evaluate, office.rules, known, abandon_on_cancel=True, limiter=_threads
        )
    log.event("policy_too_slow", level="error", deadline_s=EVALUATION_DEADLINE_S)
    late = RuleResult("SYS-DEADLINE", 1, "deny", "no_answer_in_time")
    return Decision("deny", (late,), known.at)


def _clock(office: Office) -> Clock:
    """The kernel is asked only where the configuration says that it knows."""
    trusted = office.settings.policy.trust_clock
    stepped_s = getattr(office.clock, "recent_step_s", None)
    return Clock(
        is_synchronised=True if trusted else clock_state.kernel_says_synchronised(),
        stepped_ms=0 if stepped_s is None else int(stepped_s() * 1000),
    )
