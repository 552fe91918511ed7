"""Who acts in a tenant's Twilio account, as far as numbers need to know."""

from __future__ import annotations

from typing import Protocol

from control.twilio.rest import TwilioRest


class TwilioAccess(Protocol):
    """See `control.tenants.access`."""

    async def of(self, tenant_id: str) -> TwilioRest: ...
