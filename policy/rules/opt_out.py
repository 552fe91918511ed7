"""DNC-INT: never call a number on the tenant's own do-not-call list (47 CFR 64.1200(d)).

A request to stop reaches every channel and campaign of the tenant, so its scope is recorded, not weighed.
Inbound calls pass: there the consumer calls us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy.decision import Outcome, RuleResult
from policy.facts import Facts
from policy.rules import refuse_settings


class OptOutRule:
    """See the module's text. Without a readable list the answer is deny."""

    id = "DNC-INT"
    version = 1

    def __call__(self, facts: Facts) -> RuleResult:
        """Deny when the called number is on the list, or when nobody can know."""
        inputs: dict[str, Any] = {
            "number": facts.customer_number,
            "direction": facts.direction,
            "phase": facts.phase,
            "store_readable": facts.store_readable,
        }
        outcome, reason = self._judge(facts)
        if facts.opt_out is not None:
            inputs["opted_out_since"] = facts.opt_out.since
            inputs["opt_out_source"] = facts.opt_out.source
            inputs["opt_out_scope"] = facts.opt_out.scope
        return RuleResult(self.id, self.version, outcome, reason, inputs)

    def _judge(self, facts: Facts) -> tuple[Outcome, str]:
        if facts.direction == "inbound":
            return "allow", "inbound"
        if facts.opt_out is not None:
            return "deny", "revoked_in_flight" if facts.phase == "answer" else "opted_out"
        if not facts.store_readable:
            return "deny", "list_unreadable"
        return "allow", "not_listed"


def rule(table: Mapping[str, Any]) -> OptOutRule:
    """Makes the rule; it takes no settings."""
    refuse_settings(table)
    return OptOutRule()
