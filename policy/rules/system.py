"""SYS-STORE: when the lists and counters cannot be read, nothing is allowed (fail closed)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy.decision import RuleResult
from policy.facts import Facts
from policy.rules import refuse_settings


class SystemRule:
    """See the module's text. It holds for every direction: a call that cannot be recorded is none."""

    id = "SYS-STORE"
    version = 1

    def __call__(self, facts: Facts) -> RuleResult:
        """Deny when the store could not be read."""
        inputs = {"store_readable": facts.store_readable}
        if facts.store_readable:
            return RuleResult(self.id, self.version, "allow", "store_readable", inputs)
        return RuleResult(self.id, self.version, "deny", "store_unreadable", inputs)


def rule(table: Mapping[str, Any]) -> SystemRule:
    """Makes the rule; it takes no settings."""
    refuse_settings(table)
    return SystemRule()
