"""The tenants' Twilio accounts, as the steps and the health check need them."""

from __future__ import annotations

from typing import Any

from control.provisioning.values import Skipped
from control.twilio.rest import TwilioRest


class SharedAccount:
    """Every tenant in the one account of the configuration: nothing to make."""

    def __init__(self, twilio: TwilioRest, account_sid: str) -> None:
        self._twilio = twilio
        self._account_sid = account_sid

    async def of(self, tenant_id: str) -> TwilioRest:
        """The client that acts for this tenant."""
        return self._twilio

    async def ensure_subaccount(self, tenant_id: str) -> None:
        raise Skipped

    async def ensure_key(self, tenant_id: str) -> None:
        raise Skipped

    async def status(self, tenant_id: str, *, refresh: bool = False) -> dict[str, Any]:
        return {"sid": self._account_sid, "status": "active"}
