"""Problems of numbers and papers as the API answers them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from control.api.dependencies import dependencies
from control.api.problem import Problem
from control.numbers import NumberProblem, Numbers

RETRY_AFTER_S = 5
_KINDS = {
    "invalid": "invalid",
    "not_sold": "no-such-numbers",
    "none_available": "no-such-numbers",
    "requirements_missing": "requirements-missing",
    "in_use": "conflict",
    "over": "conflict",
    "taken": "conflict",
    "not_owned": "invalid",
    "not_found": "not-found",
    "refused": "twilio-refused",
    "unreachable": "unavailable",
}
"""The codes of NumberProblem, and the kinds of problem that they are answered as."""
OF_PROVIDER = ("twilio-refused", "unavailable")


def own_numbers() -> Numbers:
    """Of this process. Raises Problem (503) when it has none."""
    found = dependencies().numbers
    if found is None:
        raise Problem("unavailable", "this process has no access to numbers")
    return found


@asynccontextmanager
async def as_problems() -> AsyncIterator[None]:
    """Problems of numbers leave as problems of the API."""
    try:
        yield
    except NumberProblem as problem:
        raise answered(problem) from problem


def answered(problem: NumberProblem) -> Problem:
    """A problem of numbers as one of the API."""
    kind = _KINDS[problem.code]
    if problem.transient and kind != "unavailable":
        kind = "unavailable"
    members = problem.as_json()
    told: dict[str, Any] = {
        name: members[name] for name in ("missing", "nearby") if name in members
    }
    if kind == "twilio-refused":
        told["twilio"] = {"code": problem.twilio_code, "message": problem.message}
    if problem.holder:
        told["agent_id"] = problem.holder
    errors = [(problem.field, problem.message)] if problem.field else []
    # What is missing has fields of its own: each is named.
    errors += [
        (item.field, item.name)
        for item in problem.missing
        if item.field and item.field != problem.field
    ]
    headers = {"Retry-After": str(RETRY_AFTER_S)} if kind == "unavailable" else None
    return Problem(kind, problem.message, errors=errors, headers=headers, **told)
