"""All built-in rules in the order of the record, and the groups of them that a configuration may name."""

from __future__ import annotations

from policy.rules import (
    calling_hours,
    consent,
    duties,
    fraud,
    frequency,
    health,
    inbound,
    lists,
    messages,
    numbers,
    system,
)
from policy.rules.base import Define

CATALOGUE: tuple[Define, ...] = (
    *system.RULES,
    *numbers.RULES,
    *consent.RULES,
    *lists.RULES,
    *calling_hours.RULES,
    *frequency.RULES,
    *fraud.RULES,
    *health.RULES,
    *duties.RULES,
    *messages.RULES,
    *inbound.RULES,
)
BUILT_IN: dict[str, Define] = {define.name: define for define in CATALOGUE}
ALIASES = {"system": "sys_store", "opt_out": "dnc_int"}
"""Names of the first version, still good."""
GROUPS: dict[str, tuple[str, ...]] = {
    "standard": tuple(BUILT_IN),
    "base": (
        "sys_store",
        "ten_state",
        "num_emerg",
        "num_premium",
        "num_own",
        "dnc_int",
        "frd_kill",
    ),
}
"""`base` needs no list, no consent and no time of day, and lets the fictitious numbers of a first trial pass."""
