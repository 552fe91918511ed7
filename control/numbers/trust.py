"""Trust Hub of a tenant: a customer profile, and what stands on it: SHAKEN/STIR and CNAM.

Each is a filing; what stands on the profile waits for its approval. A number is put on the profile first, then
on the product: Twilio refuses the other order. Source: Twilio docs, "Trust Hub REST API".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from control import log
from control.numbers import refusals
from control.numbers.papers import Contents, Item, Papers, family_of
from control.numbers.values import Missing, NumberProblem
from control.store import filings as stored
from control.store import numbers as stored_numbers
from control.store.filings import CNAM, PROFILE, SHAKEN_STIR, FilingRecord
from control.twilio import filing
from control.twilio.rest import TwilioError, TwilioRest

PRIMARY_POLICY = "RN6433641899984f951173ef1738c3bdd0"
SECONDARY_POLICY = "RNdfbf3fae0e1107f8aded0e7cead80bf5"
SHAKEN_STIR_POLICY = "RN7a97559effdf62d00f4298208492a5ea"
CNAM_POLICY = "RNf3db3cd1fe25fcfd3c3ded065c8fea53"
"""The same for all accounts of Twilio's."""
CNAM_MAX_CHARS = 15


@dataclass(frozen=True, slots=True)
class Trust:
    """Profiles and trust products of all tenants. Methods raise NumberProblem and StoreUnavailable."""

    papers: Papers
    main: TwilioRest | None
    """The client of the main account, whose primary profile vouches for others'."""

    async def file_profile(
        self,
        tenant_id: str,
        *,
        email: str,
        business: dict[str, Any],
        representatives: Sequence[dict[str, Any]],
        address_sid: str,
        primary_profile_sid: str | None = None,
        label: str | None = None,
    ) -> FilingRecord:
        """Who the tenant is. The approved primary profile of the main account vouches for it."""
        primary = primary_profile_sid or await self._primary()
        people = [
            Item(f"authorized_representative_{place}", attributes)
            for place, attributes in enumerate(representatives, start=1)
        ]
        contents = Contents(
            email=email,
            end_users=[Item("customer_profile_business_information", business), *people],
            documents=[Item("customer_profile_address", {"address_sids": address_sid})],
            vouchers=[primary],
        )
        record = self.papers.new(tenant_id, PROFILE, label, policy_sid=SECONDARY_POLICY)
        return await self.papers.file(record, contents)

    async def file_shaken_stir(
        self, tenant_id: str, *, email: str, label: str | None = None
    ) -> FilingRecord:
        """So that the tenant's calls are signed with attestation A."""
        profile = await self._approved_profile(tenant_id)
        record = self.papers.new(tenant_id, SHAKEN_STIR, label, policy_sid=SHAKEN_STIR_POLICY)
        return await self.papers.file(record, Contents(email, vouchers=[profile.sid or ""]))

    async def file_cnam(
        self, tenant_id: str, *, email: str, display_name: str, label: str | None = None
    ) -> FilingRecord:
        """The name that is displayed at calls from the tenant's local numbers of the US."""
        profile = await self._approved_profile(tenant_id)
        record = self.papers.new(tenant_id, CNAM, label, policy_sid=CNAM_POLICY)
        who = Item("cnam_information", {"cnam_display_name": display_name})
        contents = Contents(email, end_users=[who], vouchers=[profile.sid or ""])
        return await self.papers.file(record, contents)

    async def connect(self, tenant_id: str, filing_id: str, number: str) -> FilingRecord:
        """Let a profile or a product stand for one of the tenant's numbers. Twice is as good as once."""
        record = await self.papers.get(tenant_id, filing_id, stored.TRUST)
        owned = await self.papers.store.read(stored_numbers.get, number, tenant_id=tenant_id)
        if owned is None or owned.sid is None or owned.status != stored_numbers.ACTIVE:
            raise NumberProblem("not_found", f"number: there is no number {number}", field="number")
        if record.kind == CNAM and (owned.country, owned.type) != ("US", "local"):
            raise NumberProblem(
                "invalid", "number: CNAM is for local numbers of the US only", field="number"
            )
        if record.status not in stored.APPROVED:
            raise NumberProblem("in_use", f"{filing_id} is {record.status}, not approved")
        rest = await self.papers.rest(tenant_id)
        try:
            if record.kind != PROFILE:
                profile = await self._approved_profile(tenant_id)
                await filing.connect_number(rest, "customer_profile", profile.sid or "", owned.sid)
            await filing.connect_number(rest, family_of(record.kind), record.sid or "", owned.sid)
        except TwilioError as error:
            raise refusals.of(error) from error
        log.event("trust_number_connected", filing_id=record.id, number_id=owned.id)
        if all(one["sid"] != owned.sid for one in record.items):
            items = [*record.items, {"sid": owned.sid, "type": "phone-number"}]
            record = await self.papers.note(record, items=items)
        return record

    async def _primary(self) -> str:
        try:
            found = (
                await filing.approved(self.main, "customer_profile", PRIMARY_POLICY)
                if self.main is not None
                else None
            )
        except TwilioError as error:
            raise refusals.of(error) from error
        if found is None:
            raise NumberProblem(
                "requirements_missing",
                "primary_profile_sid: the main account has no approved primary customer profile",
                field="primary_profile_sid",
                missing=[
                    Missing(
                        "primary_profile_sid",
                        "Approved primary customer profile of the main Twilio account",
                        "Made once in the Twilio console, under Trust Hub; its SID begins with BU.",
                    )
                ],
            )
        return found.sid

    async def _approved_profile(self, tenant_id: str) -> FilingRecord:
        found = await self.papers.store.read(stored.approved, tenant_id, PROFILE)
        if found is None:
            raise NumberProblem(
                "requirements_missing",
                "the tenant has no approved customer profile: file one, and wait for its approval",
                missing=[
                    Missing(
                        None,
                        "Approved customer profile of the tenant",
                        "Filed with kind `customer_profile`; reviews take one to three days.",
                    )
                ],
            )
        return found
