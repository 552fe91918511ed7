"""Lawful attempts to depart from, and the rules that a departure fires."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from policy import evaluate
from policy.preview import firing
from tests.policy.worlds import at, facts_for, standard

NOON = at("2027-01-13T18:00:00Z")
NY = facts_for("+12125550123", NOON)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def fires(facts, **settings):
    """The rules that fire, of the standard set with these settings."""
    return firing(evaluate(standard(**settings), facts))


def with_tenant(facts, **changes):
    return replace(facts, tenant=replace(facts.tenant, **changes))


def retry(facts, **settings):
    """The same, and when to try again."""
    decision = evaluate(standard(**settings), facts)
    return firing(decision), decision.retry_at
