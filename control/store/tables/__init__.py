"""The schema, in SQLAlchemy Core: one module for each area, all in one `metadata`."""

from __future__ import annotations

from control.store.tables import (
    after_call,
    compliance,
    dialing,
    nodes,
    numbers,
    provisioning,
    routing,
    tenancy,
)
from control.store.tables.core import (
    agents,
    call_events,
    call_turns,
    calls,
    decisions,
    idempotency_keys,
    metadata,
    opt_outs,
    tenants,
    webhooks_seen,
)

__all__ = [
    "after_call",
    "agents",
    "call_events",
    "call_turns",
    "calls",
    "compliance",
    "decisions",
    "dialing",
    "idempotency_keys",
    "metadata",
    "nodes",
    "numbers",
    "opt_outs",
    "provisioning",
    "routing",
    "tenancy",
    "tenants",
    "webhooks_seen",
]
