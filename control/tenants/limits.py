"""How much of the gateway one tenant may use. Its own `limits` go before the configuration's.

Requests to the API are counted here, in this process. Calls are held to `calls_max` and `calls_per_minute` in the
store (`control.store.admission`), so that daemons that share it share the limit: over it callers hear busy, and
outbound calls wait in the dial queue, which also keeps to `cps`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from control.config import ControlSettings

BURST_S = 2.0
"""A tenant that was quiet may send what it could have sent in this time at once."""
BUCKETS_MAX = 10_000
"""Tenants whose requests are counted; beyond it the one that was quiet longest starts anew."""

CALLS_MAX = "calls_max"
CALLS_PER_MINUTE = "calls_per_minute"
CPS = "cps"
REQUESTS_PER_S = "requests_per_s"


@dataclass(frozen=True, slots=True)
class Limits:
    """`calls_max`, `calls_per_minute` None = as many as there is room for; `cps` None = as `twilio.cps` says."""

    requests_per_s: float
    calls_max: int | None
    calls_per_minute: int | None = None
    cps: float | None = None


def limits_of(own: dict[str, Any] | None, control: ControlSettings) -> Limits:
    """What holds for a tenant whose own limits are `own`."""
    given = own or {}
    return Limits(
        requests_per_s=float(given.get(REQUESTS_PER_S) or control.tenant_requests_per_s),
        calls_max=given.get(CALLS_MAX) or control.tenant_calls_max or None,
        calls_per_minute=given.get(CALLS_PER_MINUTE) or control.tenant_calls_per_minute or None,
        cps=given.get(CPS),
    )


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
