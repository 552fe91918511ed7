"""May this call or message happen? Facts go in, a decision comes out.

Reading order
    facts           everything a rule may know, the instant included
    decision        what a rule says, and what all of them together say
    engine          run every rule; the strictest wins; when all would allow
    catalogue       the built-in rules in their order, and groups of them
    rules/          one family of rules a file; base says how one is written
    law             rule packs, numbering plan and time zones, asked by instant and number
    pack            the figures of law as rows; pack_reading makes them from a file and names what is wrong
    hours, holidays when a start is permitted, in every candidate zone
    numbering       what a dialled string is
    registry        names of the configuration to rules
    preview         what another pack would have said
    loader          the one module that reads: packaged packs and the packaged tz data
    masking         telephone numbers as a record may show them

Pure: no I/O, no clock, no Trio. Whoever calls this reads the store first and puts what was found, or that nothing
could be read, into `Facts`. Absence of data denies; it never allows.
"""

from __future__ import annotations

from policy.catalogue import BUILT_IN, GROUPS
from policy.decision import Decision, Obligation, Outcome, Rule, RuleResult
from policy.engine import evaluate
from policy.facts import Facts, OptOut
from policy.law import Law
from policy.loader import law_of, packaged, packaged_and
from policy.masking import mask_number, mask_numbers, mask_written, replace_numbers
from policy.pack_reading import PackError
from policy.preview import Change, preview
from policy.registry import PolicyConfigError, RuleSet, expanded, load_rules
from policy.rules.consent_kinds import fitting, verified_at

__all__ = [
    "BUILT_IN",
    "GROUPS",
    "Change",
    "Decision",
    "Facts",
    "Law",
    "Obligation",
    "OptOut",
    "Outcome",
    "PackError",
    "PolicyConfigError",
    "Rule",
    "RuleResult",
    "RuleSet",
    "evaluate",
    "expanded",
    "fitting",
    "law_of",
    "load_rules",
    "mask_number",
    "mask_numbers",
    "mask_written",
    "packaged",
    "packaged_and",
    "preview",
    "replace_numbers",
    "verified_at",
]
