"""One purchase: bought once, whatever is killed when.

Before each request the intent's row says which number is about to be asked for (`attempt_e164`). Whoever
takes the intent up again first looks for a number of the row's friendly name; when there is none it asks for
the *same* number again, because one number cannot be bought twice. Only a plain no, late enough for an
earlier request to have come to its end at Twilio, lets it go on to the next candidate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import trio

from control import failpoints, ids, log
from control.clock import Clock
from control.numbers import plan, refusals, search
from control.numbers.values import Candidate, NumberProblem, NumberWish
from control.store import NumberTaken, Store
from control.store import numbers as stored
from control.store.numbers import NumberRecord
from control.twilio import numbers as twilio_numbers
from control.twilio.numbers import Owned, Webhooks
from control.twilio.rest import (
    TwilioError,
    TwilioRefused,
    TwilioRest,
    TwilioUncertain,
    TwilioUnreachable,
)

PREFIX = "num"
CANDIDATES_MAX = 10
SEARCHES_MAX = 2
"""A second search, when others bought every candidate of the first."""
SETTLE_S = 30.0
"""Twilio gives a request up by itself after up to 26 s: what is not there by then will not come."""
SETTLE_POLL_S = 2.0


@dataclass(slots=True)
class Purchase:
    """The purchase of one intent. Raises NumberProblem and StoreUnavailable; may be run again."""

    store: Store
    rest: TwilioRest
    webhooks: Webhooks
    clock: Clock
    record: NumberRecord
    wish: NumberWish
    in_doubt: bool = field(init=False)
    """A request may have been let through of which we have no answer."""

    def __post_init__(self) -> None:
        self.in_doubt = self.record.attempt_e164 is not None

    async def run(self) -> NumberRecord:
        """Buy, or find what was bought."""
        try:
            return await self._bought(await self._buy())
        except TwilioError as error:
            problem = refusals.of(error)
            await self._keep_problem(problem)
            raise problem from error
        except NumberProblem as problem:
            await self._keep_problem(problem)
            raise

    async def find(self) -> NumberRecord | None:
        """What an interrupted purchase bought; buys nothing. Raises TwilioError."""
        owned = await self._by_name()
        return None if owned is None else await self._bought(owned)

    async def _buy(self) -> Owned:
        owned = await self._interrupted()
        if owned is not None:
            return owned
        if self.wish.e164 is not None:
            return await self._this_very_one(self.wish.e164)
        tried = {self.record.attempt_e164}
        for _ in range(SEARCHES_MAX):
            found = await search.candidates(self.rest, self.wish, CANDIDATES_MAX)
            if not found:
                raise await search.nothing(self.rest, self.wish)
            for candidate in await self._allowed(found):
                if candidate.e164 in tried:
                    continue
                tried.add(candidate.e164)
                owned = await self._attempt(candidate.e164, candidate)
                if owned is not None:
                    return owned
        raise NumberProblem(
            "taken",
            f"others bought each of {len(tried - {None})} candidates first; try again",
            transient=True,
        )

    async def _this_very_one(self, e164: str) -> Owned:
        owned = await self._attempt(e164)
        if owned is None:
            raise NumberProblem("taken", "e164: Twilio does not sell this number", field="e164")
        return owned

    async def _allowed(self, found: list[Candidate]) -> list[Candidate]:
        """Those that need no address first; all of them when an address was given."""
        if self.wish.address_sid is not None or self.wish.bundle_sid is not None:
            return found
        free = [one for one in found if one.address_requirements == "none"]
        if not free:
            raise await refusals.of_address(self.rest, self.wish, found[0].address_requirements)
        return free

    # ---- one request ---------------------------------------------------------------------------

    async def _interrupted(self) -> Owned | None:
        """The outcome of a request that somebody sent before us and did not live to note."""
        e164 = self.record.attempt_e164
        if e164 is None:
            return None
        log.event(
            "number_purchase_resumed", number_id=self.record.id, tenant_id=self.record.tenant_id
        )
        owned = await self._by_name() or await self._attempt(e164)
        self.in_doubt = False
        return owned

    async def _attempt(self, e164: str, candidate: Candidate | None = None) -> Owned | None:
        """Ask for this number, twice when the first outcome stays unknown; None when somebody else has it."""
        if candidate is not None:
            self.record = replace(self.record, region=candidate.region, locality=candidate.locality)
        try:
            return await self._send(e164)
        except TwilioUncertain:
            return await self._by_name() or await self._send(e164)

    async def _send(self, e164: str) -> Owned | None:
        was_in_doubt, self.in_doubt = self.in_doubt, True
        await self._note(
            attempt_e164=e164,
            attempt_at=self.clock.now(),
            region=self.record.region,
            locality=self.record.locality,
        )
        try:
            failpoints.reach("numbers.intent_kept")
            bought = await twilio_numbers.buy(
                self.rest,
                e164,
                friendly_name=self.record.friendly_name or self.record.id,
                webhooks=self.webhooks,
                bundle_sid=self.wish.bundle_sid,
                address_sid=self.wish.address_sid,
            )
            failpoints.reach("numbers.bought")
            return bought
        except TwilioUnreachable:
            self.in_doubt = was_in_doubt  # not a byte was written
            raise
        except TwilioRefused as refusal:
            # An earlier request may have been let through all the same.
            owned = await self._settled(refusal.code) if was_in_doubt else None
            self.in_doubt = False
            if owned is None and refusal.code not in refusals.TAKEN:
                raise await refusals.of_purchase(self.rest, refusal, self.wish) from refusal
            return owned

    async def _settled(self, code: int) -> Owned | None:
        """A number that may be ours by a request still on its way: wait until that cannot be any more."""
        if code not in refusals.TAKEN:
            return await self._by_name()
        sent_at = self.record.attempt_at or self.clock.now()
        until = sent_at + timedelta(seconds=SETTLE_S)
        give_up_s = trio.current_time() + SETTLE_S
        while True:
            owned = await self._by_name()
            if owned is not None:
                return owned
            if self.clock.now() >= until or trio.current_time() >= give_up_s:
                return None
            await trio.sleep(SETTLE_POLL_S)

    async def _by_name(self) -> Owned | None:
        name = self.record.friendly_name
        return None if name is None else await twilio_numbers.by_name(self.rest, name)

    # ---- the row -------------------------------------------------------------------------------

    async def _bought(self, owned: Owned) -> NumberRecord:
        try:
            await self._note(**columns_of(owned), attempt_e164=None, attempt_at=None, problem=None)
        except NumberTaken as taken:
            raise NumberProblem("in_use", f"{owned.sid} is adopted already") from taken
        log.event(
            "number_bought",
            number_id=self.record.id,
            tenant_id=self.record.tenant_id,
            e164=owned.e164,
        )
        return self.record

    async def _keep_problem(self, problem: NumberProblem) -> None:
        """What cannot be done ends the intent; what may work later leaves it as it is."""
        columns: dict[str, Any] = {"problem": problem.as_json()}
        if not self.in_doubt:
            columns |= {"attempt_e164": None, "attempt_at": None}
        if not problem.transient:
            columns["status"] = stored.FAILED
        await self._note(**columns)

    async def _note(self, **columns: Any) -> None:
        self.record = await self.store.write(
            stored.update, self.record.id, **columns, updated_at=self.clock.now()
        )


def columns_of(owned: Owned) -> dict[str, Any]:
    """What a number at Twilio says about its row."""
    return {
        "status": stored.ACTIVE,
        "e164": owned.e164,
        "sid": owned.sid,
        "capabilities": owned.capabilities,
        "bundle_sid": owned.bundle_sid,
        "address_sid": owned.address_sid,
    }


def wish_columns(wish: NumberWish) -> dict[str, Any]:
    """A wish for the row, without what was not wished for."""
    return {name: value for name, value in asdict(wish).items() if value is not None}


def intent(
    now: datetime,
    tenant_id: str,
    wish: NumberWish,
    intent_key: str,
    *,
    agent_id: str | None,
    label: str | None,
) -> NumberRecord:
    """The row of a purchase that is to be made."""
    number_id = ids.new_id(PREFIX, now)
    return NumberRecord(
        id=number_id,
        created_at=now,
        updated_at=now,
        tenant_id=tenant_id,
        status=stored.BUYING,
        type=plan.parsed(wish.e164).type if wish.e164 else wish.type,
        country=wish.country,
        agent_id=agent_id,
        intent_key=intent_key,
        friendly_name=plan.twilio_name(label, number_id),
        wish=wish_columns(wish),
    )
