"""The line of a tenant's ledger that shows that something was erased: what, when, by which rule. Pure.

`sha256` is over the erased thing, so that whoever has a copy can show that it is (or is not) the one that was
erased here. Of texts it is over their JSON with every telephone number masked, and of a number there is none: ten
digits are found from their hash by trying. The chain keeps numbers masked, as it does in decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from control.store import decisions
from policy import mask_numbers

PHASE = "erased"


def texts_digest(texts: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of canonical JSON, numbers in it masked."""
    dumped = orjson.dumps(texts, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    return decisions.digest(orjson.loads(mask_numbers(dumped)))


def line(
    what: str,
    rule: str,
    at: datetime,
    *,
    of: Mapping[str, str],
    counts: Mapping[str, int] | None = None,
    **found: Any,
) -> dict[str, Any]:
    """`of`: which record (`{"call": id}`); `found`: hashes and masked numbers, those that are None left out."""
    return {
        "outcome": PHASE,
        "what": what,
        "rule": rule,
        "at": at.astimezone(UTC).isoformat(timespec="seconds"),
        "of": dict(of),
        **({"counts": dict(counts)} if counts else {}),
        **{name: value for name, value in found.items() if value is not None},
    }
