"""How fast and how much a tenant may dial, and how many calls it may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from control.config import Settings
from control.store.admission import Limit

LimitOf: TypeAlias = Callable[[Any], Limit]
"""Of the `limits` column of a tenant's record."""


def limits_in(settings: Settings) -> LimitOf:
    """The tenant's own limits `cps`, `calls_max` and `calls_per_minute`; where it has none, the configuration's."""
    cps, control = settings.twilio.cps, settings.control

    def limit_of(limits: Any) -> Limit:
        own = limits if isinstance(limits, dict) else {}
        return Limit(
            own.get("cps") or cps,
            own.get("calls_max", control.tenant_calls_max) or None,
            own.get("calls_per_minute", control.tenant_calls_per_minute) or None,
        )

    return limit_of
