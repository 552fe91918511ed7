"""What is done once a call has ended, as items of the outbox. Each step is one transaction with what it asks for.

    after_call ─► call.ended pushed ─► analysis (webhook or polling) ─► call.result pushed, message considered
             └──► price, until Twilio has settled it

A step that is run twice finds what it did: keys of the outbox and ids of events are made of the call's id.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection

from control import extractions, failpoints, log
from control.elevenlabs.rest import ElevenLabsError, ElevenLabsRefused
from control.extractions import Extraction, ExtractionProblem
from control.outbox import GiveUp, Outbox, OutboxItem, Settled, TryAgain, steps
from control.results import bill, fields
from control.results.conversation import DONE, FINAL, Findings, findings, kept
from control.results.merging import in_order, merged
from control.store import Store, after_call, agents, calls, conversations, outbox
from control.store.conversations import ConversationRecord
from control.store.records import AgentRecord, CallRecord, EventRecord, TurnRecord
from control.twilio.prices import Charge
from control.twilio.rest import TwilioError, TwilioRest
from control.verticals import DEFAULT, Vertical
from control.webhooks_out import events

ANALYSIS = "analysis"
PRICE = "price"
SMS = "sms"
FOUND = "conversation_found"
"""A line of the timeline: ElevenLabs was asked which conversations the call had."""

POLL_S = (3.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
"""Waits between polls, the first one before the first; the last one again and again."""
ANALYSIS_MAX = timedelta(hours=24)
UNTALKED_POLL_S = 30.0
"""The shortest wait before each poll about a call that nobody answered: its agent has waited and said nothing, a
webhook is as welcome as ever, and of a campaign's calls most are such."""
UNFOUND_MAX = timedelta(minutes=15)
"""For a call whose conversation has no id here: when ElevenLabs does not know it by then, there is none."""
UNTALKED_UNFOUND_MAX = timedelta(minutes=2)
"""The same for a call that nobody answered: its agent may have waited, or was not there yet."""
PRICE_S = (60.0, 120.0, 300.0, 900.0, 3600.0)
PRICE_MAX = timedelta(hours=24)
RETRY_S = (1.0, 5.0, 30.0, 120.0, 600.0)
SPREAD = 0.1
TITLE_MAX_CHARS = 500

Show = Callable[[CallRecord, Sequence[EventRecord], Sequence[TurnRecord]], dict[str, Any]]


class Clock(Protocol):
    def now(self) -> datetime: ...


class Service(Protocol):
    """What is used of `control.elevenlabs.rest.ElevenLabsRest`."""

    async def get_conversation(self, conversation_id: str) -> dict[str, Any]: ...
    async def find_conversations(self, variable: str, value: str) -> list[str]: ...


class Accounts(Protocol):
    """What is used of `control.tenants.access.TwilioAccess`."""

    async def of(self, tenant_id: str) -> TwilioRest: ...


class Results:
    """One per daemon. `show` makes the record that customers are pushed."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        service: Service,
        accounts: Accounts,
        *,
        verticals: Mapping[str, Vertical],
        show: Show,
        on_over: Callable[[str], None] = lambda call_id: None,
        poll_s: Sequence[float] = POLL_S,
        price_s: Sequence[float] = PRICE_S,
        spread: Callable[[], float] = lambda: random.uniform(1, 1 + SPREAD),
    ) -> None:
        self._store = store
        self._clock = clock
        self._service = service
        self._accounts = accounts
        self._verticals = verticals
        self._show = show
        self._on_over = on_over
        """Told of each call of which nothing more will be found out."""
        self._poll_s = tuple(poll_s)
        self._price_s = tuple(price_s)
        self._spread = spread
        """By what a first and a last wait is lengthened: of a thousand calls that ended together."""
        self._outbox: Outbox | None = None

    def register(self, runner: Outbox) -> None:
        """Take items of our kinds."""
        self._outbox = runner
        again = steps(*RETRY_S, forever=True)
        runner.handle(after_call.KIND, self.begin, schedule=again)
        runner.handle(ANALYSIS, self.analyse, schedule=steps(*self._poll_s[1:], forever=True))
        runner.handle(PRICE, self.price, schedule=steps(*self._price_s[1:], forever=True))

    # ---- the end -------------------------------------------------------------------------------

    async def begin(self, item: OutboxItem) -> Settled:
        """The call has ended: say so, and find out what it was about. One transaction, as every call needs it."""
        now = self._clock.now()

        def begin(conn: Connection) -> tuple[bool, Settled]:
            return self._begin(conn, item.key, now), Settled(outbox.done(conn, item, now))

        is_over, settled = await self._store.write(begin)
        failpoints.reach("after_call.begun")
        self._wake()
        if is_over:
            self._on_over(item.key)
        return settled

    def _begin(self, conn: Connection, call_id: str, now: datetime) -> bool:
        """Whether nothing more will be found out."""
        record = calls.get(conn, call_id)
        if record is None:
            raise GiveUp("there is no such call")
        was_talk = record.answered_at is not None
        if record.analysis is None:
            is_known = record.conversation_id or was_talk or conversations.may_miss_one(record)
            status = "pending" if is_known else "none"
            calls.update(conn, call_id, analysis={"status": status})
            self._emit(conn, events.CALL_ENDED, record, now)
            if status == "none":
                self._complete(conn, call_id, now)
                return True
        if was_talk and record.twilio_call_sid:
            self._ask(conn, PRICE, record, now, self._price_s[0])
        told = conversations.of_call(conn, record)
        is_there = bool(told) and all(map(_is_final, told.values()))
        wait_s = self._poll_s[0] if was_talk else max(self._poll_s[0], UNTALKED_POLL_S)
        self._ask(conn, ANALYSIS, record, now, 0.0 if is_there else wait_s)
        return False

    def _ask(
        self, conn: Connection, kind: str, record: CallRecord, now: datetime, wait_s: float
    ) -> None:
        outbox.add(
            conn,
            kind=kind,
            key=record.id,
            tenant_id=record.tenant_id,
            due_at=now + timedelta(seconds=wait_s * self._spread()),
            now=now,
        )

    # ---- analysis ------------------------------------------------------------------------------

    async def analyse(self, item: OutboxItem) -> None:
        """Take the analyses that webhooks brought, or ask for them. Raises TryAgain until all are there."""
        found = await self._store.read(_call_and_conversations, item.key)
        if found is None:
            raise GiveUp("there is no such call")
        record, told = found
        if record.texts_erased_at is not None:
            if (record.analysis or {}).get("status") not in ("done", "failed"):
                await self._give_up(record.id, "the call was erased")
            return
        waited = self._clock.now() - item.created_at
        before = {name for name, one in told.items() if _is_final(one)}
        problem = await self._poll(record, told, waited)
        news = [one for one in told.values() if one and one.conversation_id not in before]
        if problem and waited < ANALYSIS_MAX:
            if news:
                await self._store.write(_keep, news)
            after_s = UNTALKED_POLL_S if record.answered_at is None else None
            latest = None if told else item.created_at + _search_max(record) * self._spread()
            raise TryAgain(problem, after_s, latest=latest)
        if not told and record.answered_at is None:
            await self._store.write(self._untalked, record.id, self._clock.now())
            self._wake()
            self._on_over(record.id)
            return
        if not any(map(_is_final, told.values())):
            reason = f"after a day: {problem}" if problem else "ElevenLabs knows no conversation"
            await self._give_up(record.id, reason)
            return
        await self._store.write(self._apply, record.id, told, self._clock.now())
        failpoints.reach("analysis.applied")
        self._wake()
        self._on_over(record.id)

    async def _poll(
        self, record: CallRecord, told: dict[str, ConversationRecord | None], waited: timedelta
    ) -> str | None:
        """Ask for what is not final; `told` gets the answers. Returns what is still to be waited for."""
        was_talk = record.answered_at is not None
        if conversations.may_miss_one(record) or (not told and was_talk):
            try:
                await self._look_for(record, told)
            except ElevenLabsError as error:
                return str(error)
            if not told and waited < _search_max(record):
                return "the conversation is unknown"
        problem = None
        for name in [name for name, one in told.items() if not _is_final(one)]:
            try:
                told[name] = one = await self._told(record, name)
            except ElevenLabsError as error:
                is_unknown = isinstance(error, ElevenLabsRefused) and error.status == 404
                if not is_unknown or waited < UNFOUND_MAX:
                    problem = str(error)
                continue
            if not _is_final(one):
                problem = f"the conversation is {one.status or 'without a status'}"
        return problem

    async def _look_for(
        self, record: CallRecord, told: dict[str, ConversationRecord | None]
    ) -> None:
        """A process died before it wrote the id down; our own id travelled with the conversation."""
        newest_first = await self._service.find_conversations("gw_call_id", record.id)
        found = [name for name in reversed(newest_first) if name not in told]
        if found:
            at_ms = _ms(self._clock.now())
            await self._store.write(conversations.name, record.id, found, FOUND, at_ms, {})
            log.event("conversations_found", call_id=record.id, count=len(found))
            told.update(dict.fromkeys(found))

    async def _told(self, record: CallRecord, conversation_id: str) -> ConversationRecord:
        data = await self._service.get_conversation(conversation_id)
        return ConversationRecord(
            conversation_id=conversation_id,
            tenant_id=record.tenant_id,
            status=str(data.get("status") or ""),
            source="poll",
            received_at=self._clock.now(),
            call_id=record.id,
            data=kept(data),
        )

    def _apply(
        self,
        conn: Connection,
        call_id: str,
        told: Mapping[str, ConversationRecord | None],
        now: datetime,
    ) -> None:
        record = calls.get(conn, call_id)
        if record is None or (record.analysis or {}).get("status") in ("done", "failed"):
            return
        if record.texts_erased_at is not None:
            return  # in this very moment: the next attempt sees it
        final = [one for one in told.values() if one is not None and _is_final(one)]
        for one in final:
            conversations.put(conn, one)
            conversations.claim(conn, one.conversation_id, call_id, record.tenant_id)
        found = merged(in_order(findings(one.data or {}) for one in final))
        agent = agents.get(conn, record.agent_id) if record.agent_id else None
        values = fields.extract(self.fields_of(agent), found.collected)
        is_done = found.status == DONE
        calls.update(
            conn,
            call_id,
            conversation_id=record.conversation_id or final[-1].conversation_id,
            summary=found.summary,
            extractions=values.values if is_done else {},
            extraction_problems=values.problems if is_done and values.problems else None,
            analysis=_analysis(found, final[-1], now) | _each(told),
        )
        conversations.settle(conn, record)
        if found.cost:
            after_call.add_cost(conn, call_id, {"elevenlabs": found.cost})
        _fill_transcript(conn, record, found)
        line = {
            "status": found.status,
            "source": final[-1].source,
            "problems": len(values.problems),
        }
        calls.append_events(conn, call_id, [("analysed", _ms(now), line)])
        self._complete(conn, call_id, now)

    def fields_of(self, agent: AgentRecord | None) -> tuple[Extraction, ...]:
        """What an agent is to find out: its own schema, or its vertical's."""
        if agent is None:
            return ()
        declared = agent.extractions
        if declared is None:
            vertical = self._verticals.get(agent.vertical or DEFAULT)
            declared = vertical.extractions if vertical is not None else None
        try:
            return extractions.parse(declared)
        except ExtractionProblem as problem:
            log.event(
                "extractions_unreadable", level="warning", agent_id=agent.id, error=str(problem)
            )
            return ()

    async def _give_up(self, call_id: str, reason: str) -> None:
        await self._store.write(self._none, call_id, reason, self._clock.now())
        self._wake()
        self._on_over(call_id)

    def _untalked(self, conn: Connection, call_id: str, now: datetime) -> None:
        """There was no conversation after all."""
        calls.update(conn, call_id, analysis={"status": "none"})
        if (record := calls.get(conn, call_id)) is not None:
            conversations.settle(conn, record)
        self._complete(conn, call_id, now)

    def _none(self, conn: Connection, call_id: str, reason: str, now: datetime) -> None:
        if (record := calls.get(conn, call_id)) is not None:
            conversations.settle(conn, record)
        calls.update(conn, call_id, analysis={"status": "failed", "reason": reason[:500]})
        calls.append_events(
            conn, call_id, [("analysis_failed", _ms(now), {"reason": reason[:500]})]
        )
        self._complete(conn, call_id, now)

    def _complete(self, conn: Connection, call_id: str, now: datetime) -> None:
        """Nothing more will be found out: tell the customer, and see whether a message is to be sent."""
        record = calls.get(conn, call_id)
        if record is None:
            return
        self._emit(conn, events.CALL_RESULT, record, now)
        agent = agents.get(conn, record.agent_id) if record.agent_id else None
        if agent is not None and (agent.sms or {}).get("template"):
            self._ask(conn, SMS, record, now, 0.0)

    def _emit(self, conn: Connection, event: str, known: CallRecord, now: datetime) -> None:
        """`known` may be older than what this transaction has written: what is pushed is read when somebody wants it."""

        def data() -> dict[str, Any]:
            record = calls.get(conn, known.id) or known
            return self._show(record, calls.events(conn, known.id), calls.turns(conn, known.id))

        events.emit(
            conn,
            event=event,
            key=known.id,
            tenant_id=known.tenant_id,
            data=data,
            now=now,
            call_id=known.id,
        )

    # ---- what a webhook brings -----------------------------------------------------------------

    async def take(self, data: Mapping[str, Any]) -> str:
        """A conversation that ElevenLabs has pushed: kept, and used as soon as its call is over.

        Returns `taken`, `repeated` or `unknown` (no call of ours; it is kept nevertheless). Raises
        StoreUnavailable: then it has to be sent again.
        """
        outcome = await self._store.write(self._take, dict(data), self._clock.now())
        self._wake()
        return outcome

    def _take(self, conn: Connection, data: dict[str, Any], now: datetime) -> str:
        conversation_id = str(data["conversation_id"])
        owner = conversations.call_of(conn, conversation_id) or _named_call(conn, data)
        call = calls.get(conn, owner[0]) if owner else None
        is_erased = call is not None and call.texts_erased_at is not None
        record = ConversationRecord(
            conversation_id=conversation_id,
            tenant_id=owner[1] if owner else _tenant_of_agent(conn, data),
            status=str(data.get("status") or "done"),
            source="webhook",
            received_at=now,
            call_id=owner[0] if owner else None,
            data={} if is_erased else kept(data),
        )
        is_news = conversations.put(conn, record)
        if owner is None:
            return "unknown" if is_news else "repeated"
        outbox.hasten(conn, ANALYSIS, owner[0], now, now)
        return "taken" if is_news else "repeated"

    # ---- cost ----------------------------------------------------------------------------------

    async def price(self, item: OutboxItem) -> None:
        """What Twilio asks for, which is known some minutes after the end. Raises TryAgain until all of it is."""
        account = await self._store.read(bill.account_of, item.key, SMS)
        if account is None or account.record.twilio_call_sid is None:
            raise GiveUp("there is no such call")
        record = account.record
        found: list[tuple[str, Charge]] = []
        problem = "the price has not settled"
        try:
            found = await bill.charges(await self._accounts.of(record.tenant_id), account)
        except TwilioError as error:
            problem = str(error)
        is_late = self._clock.now() - item.created_at >= PRICE_MAX
        shown = bill.shown(found, is_open=account.is_open, is_late=is_late)
        known = (record.bill or {}).get("twilio")
        if not found and known:
            shown = known | {"status": bill.PARTIAL if is_late else bill.WAITING}
        if shown["status"] == bill.WAITING:
            if shown != known and found:
                await self._store.write(after_call.add_cost, record.id, {"twilio": shown})
            raise TryAgain(problem)
        await self._store.write(self._priced, record.id, shown, self._clock.now())
        self._wake()

    def _priced(self, conn: Connection, call_id: str, price: dict[str, Any], now: datetime) -> None:
        """The result went out long ago, as a rule: what the call cost is an event of its own."""
        after_call.add_cost(conn, call_id, {"twilio": price})
        if (record := calls.get(conn, call_id)) is not None:
            self._emit(conn, events.CALL_COST, record, now)

    def _wake(self) -> None:
        if self._outbox is not None:
            self._outbox.wake()


def _search_max(record: CallRecord) -> timedelta:
    """How long after its end a conversation is looked for that has no id here."""
    return UNFOUND_MAX if record.answered_at is not None else UNTALKED_UNFOUND_MAX


def _analysis(found: Findings, told: ConversationRecord, now: datetime) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "status": found.status,
        "source": told.source,
        "received_at": told.received_at.isoformat(),
        "successful": found.successful,
        "title": found.title[:TITLE_MAX_CHARS] if found.title else None,
        "evaluation": found.evaluation,
        "rationales": found.rationales,
    }
    if found.status != DONE:
        shown["reason"] = found.reason
    return shown


def _fill_transcript(conn: Connection, record: CallRecord, found: Findings) -> None:
    """Our own transcript says what was heard, so theirs is taken only where ours was lost."""
    if calls.turns(conn, record.id):
        return
    begin_ms = _ms(record.answered_at or record.created_at)
    for number, turn in enumerate(found.turns, 1):
        at_ms = begin_ms + round(turn.at_s * 1000)
        calls.upsert_turn(
            conn, record.id, number, turn.role, turn.text, at_ms, None, turn.interrupted
        )


def _is_final(told: ConversationRecord | None) -> bool:
    return told is not None and told.status in FINAL


def _keep(conn: Connection, told: Sequence[ConversationRecord]) -> None:
    """What need not be asked for again."""
    for one in filter(_is_final, told):
        conversations.put(conn, one)


def _each(told: Mapping[str, ConversationRecord | None]) -> dict[str, Any]:
    """What became of each, where there is more than one."""
    if len(told) < 2:
        return {}
    shown = [
        {"conversation_id": name, "status": one.status if one is not None else "unknown"}
        for name, one in told.items()
    ]
    return {"conversations": shown}


def _call_and_conversations(
    conn: Connection, call_id: str
) -> tuple[CallRecord, dict[str, ConversationRecord | None]] | None:
    record = calls.get(conn, call_id)
    return None if record is None else (record, conversations.of_call(conn, record))


def _named_call(conn: Connection, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """The call whose id travelled with the conversation."""
    given = data.get("conversation_initiation_client_data")
    variables = given.get("dynamic_variables") if isinstance(given, dict) else None
    call_id = variables.get("gw_call_id") if isinstance(variables, dict) else None
    record = calls.get(conn, call_id) if isinstance(call_id, str) else None
    return None if record is None else (record.id, record.tenant_id)


def _tenant_of_agent(conn: Connection, data: Mapping[str, Any]) -> str:
    return conversations.tenant_of_agent(conn, str(data.get("agent_id") or ""))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
