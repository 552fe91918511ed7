"""How fast and how much a tenant may dial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from control.store.dialing import Limit

LimitOf: TypeAlias = Callable[[Any], Limit]
"""Of the `limits` column of a tenant's record."""


def limits_with(cps: float, calls_max: int = 0) -> LimitOf:
    """The tenant's own limits, `cps` and `calls_max`; where it has none, these. 0 = as many as there is room."""

    def limit_of(limits: Any) -> Limit:
        own = limits if isinstance(limits, dict) else {}
        return Limit(own.get("cps") or cps, own.get("calls_max", calls_max) or None)

    return limit_of
