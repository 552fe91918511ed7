"""Which scope a tenant's key needs for a route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from control.tenants.keys import TENANT

SCOPE = "_tandem_scope"
"""Attribute of a view function: the scope that its author named."""
ABOUT = "_tandem_about"
"""Attribute of a view function: its tag."""

OF_TAGS = {
    "Agents": "agents",
    "Numbers": "agents",
    "Calls": "calls",
    "Statistics": "calls",
    "Opt-outs": "lists",
    "Consents": "lists",
    "Lists": "lists",
}
"""What a route is about, and the family of scopes that go with it."""


def needed(view: Callable[..., Any] | None, method: str) -> str:
    """The scope that a request needs.

    A route that names none and is about nothing of the above is for keys that may do everything of a tenant.
    """
    named: str | None = getattr(view, SCOPE, None)
    if named is not None:
        return named
    family = OF_TAGS.get(getattr(view, ABOUT, ""))
    if family is None:
        return TENANT
    if family == "lists":
        return family
    return f"{family}:read" if method in ("GET", "HEAD") else f"{family}:write"
