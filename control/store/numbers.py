"""Numbers: bought, adopted, released, and the intents to buy."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from control.ids import DEFAULT_TENANT_ID

BUYING = "buying"
ACTIVE = "active"
RELEASED = "released"
GONE = "gone"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NumberRecord:
    """A telephone number of a tenant, or the intent to buy one."""

    id: str
    created_at: datetime
    updated_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    status: str = BUYING
    """`buying`, `active`, `released`, `gone` (not in the account any more), `failed` (nothing bought)."""
    e164: str | None = None
    sid: str | None = None
    type: str | None = None
    country: str | None = None
    region: str | None = None
    locality: str | None = None
    capabilities: dict[str, bool] = field(default_factory=dict)
    agent_id: str | None = None
    origin: str = "bought"
    """`bought` or `adopted`."""
    intent_key: str | None = None
    friendly_name: str | None = None
    """What the number is called at Twilio; by it a purchase is found whose answer was lost."""
    wish: dict[str, Any] = field(default_factory=dict)
    attempt_e164: str | None = None
    attempt_at: datetime | None = None
    """The request that was last about to be sent: its outcome may be unknown."""
    bundle_sid: str | None = None
    address_sid: str | None = None
    problem: dict[str, Any] | None = None
    checked_at: datetime | None = None
    mended_at: datetime | None = None
    mended: list[str] = field(default_factory=list)
    released_at: datetime | None = None
