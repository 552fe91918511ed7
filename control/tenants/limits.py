"""How much of the gateway one tenant may use: requests to the API, and calls at once.

A tenant's own `limits` go before the configuration's. Requests are counted in this process; calls are counted
in the store, so that daemons that share it share the limit.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from control.config import ControlSettings
from control.store import tenants
from control.store.tables import calls

BURST_S = 2.0
"""A tenant that was quiet may send what it could have sent in this time at once."""
BUCKETS_MAX = 10_000
"""Tenants whose requests are counted; beyond it the one that was quiet longest starts anew."""

CALLS_MAX = "calls_max"
REQUESTS_PER_S = "requests_per_s"


@dataclass(frozen=True, slots=True)
class Limits:
    """`calls_max` None = as many as there is room for."""

    requests_per_s: float
    calls_max: int | None


def limits_of(own: dict[str, Any] | None, control: ControlSettings) -> Limits:
    """What holds for a tenant whose own limits are `own`."""
    given = own or {}
    return Limits(
        requests_per_s=float(given.get(REQUESTS_PER_S) or control.tenant_requests_per_s),
        calls_max=given.get(CALLS_MAX) or control.tenant_calls_max or None,
    )


def room_for_calls(conn: Connection, tenant_id: str, control: ControlSettings) -> int | None:
    """How many more calls the tenant may have now; None = no limit but the gateway's own.

    Counted are calls that Twilio has, or may have: not those that wait for their turn.
    """
    tenant = tenants.get(conn, tenant_id)
    limit = limits_of(tenant.limits if tenant else None, control).calls_max
    if limit is None:
        return None
    waiting = calls.c.dial_state == "intent"
    live = (calls.c.tenant_id == tenant_id) & calls.c.ended_at.is_(None)
    total = conn.execute(select(func.count()).where(live)).scalar_one()
    queued = conn.execute(select(func.count()).where(live, waiting)).scalar_one()
    return max(0, limit - (total - queued))


class RequestLimiter:
    """A token bucket for each tenant. Pure; `now_s` is any monotonic clock."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, tenant_id: str, per_s: float, now_s: float) -> float:
        """0 when the request may be answered now (and is counted), else the seconds until one may."""
        most = max(1.0, per_s * BURST_S)
        tokens, then_s = self._buckets.pop(tenant_id, (most, now_s))
        tokens = min(most, tokens + (now_s - then_s) * per_s)
        is_free = tokens >= 1.0
        self._buckets[tenant_id] = (tokens - 1.0 if is_free else tokens, now_s)
        while len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return 0.0 if is_free else (1.0 - tokens) / per_s
