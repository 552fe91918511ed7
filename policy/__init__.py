"""May this call happen? Facts go in, a decision comes out.

Reading order
    facts           everything a rule may know, the instant included
    decision        what a rule says, and what all of them together say
    engine          run every rule; the strictest wins
    registry        names of the configuration to rules
    rules/          one family of rules a file
    masking         telephone numbers as a record may show them

Pure: no I/O, no clock, no Trio; standard library only. Whoever calls this reads the store first and puts
what was found, or that nothing could be read, into `Facts`. Absence of data denies; it never allows.
"""

from __future__ import annotations

from policy.decision import Decision, Outcome, Rule, RuleResult
from policy.engine import evaluate
from policy.facts import Facts, OptOut
from policy.masking import mask_number, mask_numbers
from policy.registry import PolicyConfigError, load_rules

__all__ = [
    "Decision",
    "Facts",
    "OptOut",
    "Outcome",
    "PolicyConfigError",
    "Rule",
    "RuleResult",
    "evaluate",
    "load_rules",
    "mask_number",
    "mask_numbers",
]
