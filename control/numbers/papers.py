"""Papers: what countries and carriers want to see of a tenant, filed at Twilio and reviewed there.

Regulatory bundles (so that a number may be bought), customer profiles, and the trust products that stand on a
profile: SHAKEN/STIR (attestation A) and CNAM (the name that is displayed). Names and papers pass through to
Twilio and are not kept here.

A filing is a row before Twilio is asked. What breaks on the way leaves a draft with its `reason`; the drafts
of Twilio cost nothing, so the caller simply files again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import trio

from control import ids, log
from control.clock import Clock
from control.numbers import plan, refusals
from control.numbers.access import TwilioAccess
from control.numbers.values import NumberProblem, NumberType, NumberWish
from control.store import Store, StoreUnavailable
from control.store import filings as stored
from control.store.filings import BUNDLE, PROFILE, FilingRecord
from control.twilio import filing, regulatory
from control.twilio.filing import Family
from control.twilio.regulatory import Regulation
from control.twilio.rest import TwilioError, TwilioRest, TwilioUncertain

PREFIX = "flg"
POLL_INTERVAL_S = 300.0
"""Reviews take hours to days."""
POLLED_AT_ONCE_MAX = 50


@dataclass(frozen=True, slots=True)
class Item:
    """An end user or a document: Twilio's type, and what it wants to know."""

    type: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a container. `vouchers` are SIDs of approved containers, or of items that exist."""

    email: str
    end_users: Sequence[Item] = ()
    documents: Sequence[Item] = ()
    vouchers: Sequence[str] = ()
    label: str | None = None


@dataclass(slots=True)
class Papers:
    """Filings of all tenants. Methods raise NumberProblem and StoreUnavailable."""

    store: Store
    access: TwilioAccess
    clock: Clock
    _polling: trio.Lock = field(default_factory=trio.Lock)

    async def regulations(
        self, tenant_id: str, country: str, type: NumberType, end_user_type: str | None = None
    ) -> list[Regulation]:
        """What a country wants for numbers of this type; empty when it wants no bundle."""
        wish = plan.checked(NumberWish(type, country))
        rest = await self.rest(tenant_id)
        try:
            return await regulatory.regulations(
                rest, country=wish.country, number_type=type, end_user_type=end_user_type
            )
        except TwilioError as error:
            raise refusals.of(error) from error

    async def file_bundle(
        self,
        tenant_id: str,
        country: str,
        type: NumberType,
        end_user_type: str,
        contents: Contents,
    ) -> FilingRecord:
        """Make a bundle, and submit it when Twilio finds nothing missing."""
        found = await self.regulations(tenant_id, country, type, end_user_type)
        if not found:
            raise NumberProblem(
                "invalid",
                f"country: Twilio asks for no {end_user_type}'s bundle for {type} numbers of {country}",
                field="country",
            )
        record = self.new(tenant_id, BUNDLE, contents.label, policy_sid=found[0].sid)
        record = replace(
            record, country=country.upper(), number_type=type, end_user_type=end_user_type
        )
        return await self.file(record, contents)

    async def file(self, record: FilingRecord, contents: Contents) -> FilingRecord:
        """Make the container of a new record, fill it, evaluate it, submit it when nothing is missing."""
        await self.store.write(stored.add, record)
        rest = await self.rest(record.tenant_id)
        try:
            record = await self._fill(rest, record, contents)
            findings = await filing.evaluate(
                rest, family_of(record.kind), record.sid or "", record.policy_sid
            )
            record = await self.note(record, findings=[asdict(one) for one in findings])
            if not findings:
                made = await filing.submit(rest, family_of(record.kind), record.sid or "")
                record = await self.note(
                    record, status=made.status, submitted_at=self.clock.now(), reason=None
                )
        except TwilioError as error:
            await self.note(record, reason=str(error))
            raise refusals.of(error) from error
        log.event("filed", filing_id=record.id, kind=record.kind, status=record.status)
        return record

    async def _fill(
        self, rest: TwilioRest, record: FilingRecord, contents: Contents
    ) -> FilingRecord:
        family = family_of(record.kind)
        name = record.friendly_name
        rule = {"regulation_sid" if family == "bundle" else "policy_sid": record.policy_sid or ""}
        try:
            made = await filing.create(
                rest, family, friendly_name=name, email=contents.email, **rule
            )
        except TwilioUncertain:
            found = await filing.by_name(rest, family, name)
            if found is None:
                raise
            made = found
        record = await self.note(record, sid=made.sid, status=made.status)
        items: list[dict[str, str]] = []
        for item in contents.end_users:
            sid = await filing.add_end_user(rest, family, item.type, item.attributes, name)
            items.append({"sid": sid, "type": item.type})
        for item in contents.documents:
            sid = await filing.add_document(rest, family, item.type, item.attributes, name)
            items.append({"sid": sid, "type": item.type})
        items += [{"sid": sid, "type": "voucher"} for sid in contents.vouchers]
        record = await self.note(record, items=items)
        for one in items:
            await filing.assign(rest, family, made.sid, one["sid"])
        return record

    async def refresh(self, record: FilingRecord) -> FilingRecord:
        """What Twilio's people have said by now."""
        if record.sid is None:
            return record
        family = family_of(record.kind)
        rest = await self.rest(record.tenant_id)
        try:
            found = await filing.fetch(rest, family, record.sid)
            if found is None:
                return await self.note(record, status="gone", checked_at=self.clock.now())
            reason = record.reason
            if found.status == "twilio-rejected":
                reasons = list(found.reasons)
                papers = [one["sid"] for one in record.items if one["sid"].startswith("RD")]
                reasons += [await filing.why_rejected(rest, family, sid) or "" for sid in papers]
                told = dict.fromkeys(text for text in reasons if text)
                reason = "; ".join(told) or "rejected; Twilio wrote the reason by e-mail"
        except TwilioError as error:
            raise refusals.of(error) from error
        if found.status != record.status:
            log.event("filing_status", filing_id=record.id, kind=record.kind, status=found.status)
        return await self.note(
            record,
            status=found.status,
            reason=None if found.status in stored.APPROVED else reason,
            valid_until=found.valid_until,
            checked_at=self.clock.now(),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask what became of reviews, now and from time to time. Runs until cancelled."""
        task_status.started()
        while True:
            await self.poll()
            await trio.sleep(POLL_INTERVAL_S)

    async def poll(self) -> None:
        """Ask about each that is in review. What fails is asked again at the next time."""
        async with self._polling:
            try:
                for record in await self.store.read(stored.in_review, POLLED_AT_ONCE_MAX):
                    try:
                        await self.refresh(record)
                    except NumberProblem as problem:
                        log.event(
                            "filing_poll_failed",
                            level="warning",
                            filing_id=record.id,
                            error=problem,
                        )
            except StoreUnavailable as error:
                log.event("filing_poll_failed", level="warning", error=error)

    async def get(self, tenant_id: str, filing_id: str, kinds: Sequence[str]) -> FilingRecord:
        """By id. Raises NumberProblem (`not_found`)."""
        record = await self.store.read(stored.get, tenant_id, filing_id, kinds)
        if record is None:
            raise NumberProblem("not_found", f"there is no filing {filing_id}")
        return record

    # ---- shared with the trust products --------------------------------------------------------

    def new(self, tenant_id: str, kind: str, label: str | None, *, policy_sid: str) -> FilingRecord:
        """A filing that is to be made."""
        now = self.clock.now()
        filing_id = ids.new_id(PREFIX, now)
        return FilingRecord(
            id=filing_id,
            kind=kind,
            friendly_name=plan.twilio_name(label, filing_id),
            created_at=now,
            updated_at=now,
            tenant_id=tenant_id,
            policy_sid=policy_sid,
        )

    async def rest(self, tenant_id: str) -> TwilioRest:
        """The client of the tenant's account."""
        try:
            return await self.access.of(tenant_id)
        except TwilioError as error:
            raise refusals.of(error) from error

    async def note(self, record: FilingRecord, **columns: Any) -> FilingRecord:
        """Write it down."""
        columns["updated_at"] = self.clock.now()
        await self.store.write(stored.change, record.id, **columns)
        return replace(record, **columns)


def family_of(kind: str) -> Family:
    """Which resource of Twilio's a kind is."""
    if kind == BUNDLE:
        return "bundle"
    return "customer_profile" if kind == PROFILE else "trust_product"
