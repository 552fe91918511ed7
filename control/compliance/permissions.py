"""Reads Twilio's dialling permissions back, daily: the rules FRD-TWGEO and FRD-PREFIX judge by what was read.

Without a copy that is fresh they refuse, so a new tenant's are read at once, and those of one that failed are
tried again soon.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

import trio
from sqlalchemy import Connection

from control import log
from control.compliance import profile
from control.store import Store, StoreUnavailable, dnc, permissions
from control.store.permissions import PermissionsRecord
from control.twilio import geo
from control.twilio.errors import TwilioError
from control.twilio.geo import Permission
from control.twilio.rest import TwilioRest
from policy.facts import PrefixRisk, ProviderPermission

READ_EVERY = timedelta(hours=20)
"""More often than daily, so that FRD-TWGEO (48 h) survives a day on which Twilio does not answer."""
LOOK_EVERY_S = 15.0
AGAIN_AFTER_S = 300.0
"""An account whose permissions could not be read is left alone for so long."""
AT_ONCE = 20
SHARED = {"CA": "US"}
"""Countries that Twilio may list together with another one."""


class Clock(Protocol):
    def now(self) -> datetime: ...


class Accounts(Protocol):
    async def of(self, tenant_id: str) -> TwilioRest: ...


class PermissionsReader:
    """One per process."""

    def __init__(self, store: Store, accounts: Accounts, clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._failed_s: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                log.event("permissions_unread", level="warning", error=str(error))
            await trio.sleep(LOOK_EVERY_S)

    async def look(self) -> int:
        """Read whatever is due; how many were read. Raises StoreUnavailable."""
        since = self._clock.now() - READ_EVERY
        due = await self._store.read(permissions.unread_since, since, AT_ONCE + len(self._failed_s))
        read = 0
        for tenant_id in due:
            if trio.current_time() < self._failed_s.get(tenant_id, 0.0):
                continue
            try:
                await self.read(tenant_id)
                self._failed_s.pop(tenant_id, None)
                read += 1
            except TwilioError as error:
                self._failed_s[tenant_id] = trio.current_time() + AGAIN_AFTER_S
                log.event(
                    "permissions_unread", level="warning", tenant_id=tenant_id, error=str(error)
                )
        return read

    async def read(self, tenant_id: str) -> None:
        """Read one account's and keep them. Raises TwilioError, StoreUnavailable."""
        rest = await self._accounts.of(tenant_id)
        found = await geo.permissions(rest)
        regions = await self._store.read(_regions, tenant_id)
        listed = {one.country for one in found}
        asked = {
            SHARED.get(region, region) if region not in listed else region for region in regions
        }
        prefixes = {one: await geo.high_risk_prefixes(rest, one) for one in sorted(asked & listed)}
        record = PermissionsRecord(tenant_id, _switches(found), prefixes, self._clock.now())
        await self._store.write(permissions.put, record)


def _switches(found: list[Permission]) -> dict[str, list[bool]]:
    return {
        one.country: [one.low_risk, one.high_risk_special, one.high_risk_tollfraud] for one in found
    }


def _regions(conn: Connection, tenant_id: str) -> frozenset[str]:
    own = profile.read(dnc.get_profile(conn, tenant_id))
    return frozenset(own.regions) if own.regions is not None else profile.DEFAULT_REGIONS


def as_facts(
    kept: PermissionsRecord | None, region: str | None, number: str
) -> tuple[ProviderPermission | None, PrefixRisk | None]:
    """What the copy says of a destination; None where it says nothing."""
    if kept is None or region is None:
        return None, None
    country = region if region in kept.countries else SHARED.get(region, region)
    switches = kept.countries.get(country)
    permission = None
    if switches is not None:
        low_risk, special, toll_fraud = switches
        permission = ProviderPermission(low_risk, special, toll_fraud, kept.read_at)
    prefixes = kept.prefixes.get(country)
    if prefixes is None:
        return permission, None
    matched = max((one for one in prefixes if number.startswith(one)), key=len, default=None)
    return permission, PrefixRisk(matched, kept.read_at)
