"""What Twilio tells of calls, legs, streams and messages: found is whose it is, and it is told.

A callback may reach a daemon that does not have the call: then the one that carries it is told (`relayed`). One about
a call that is over, or that nobody knows, is late, or of a call that was missed (`control.unseen`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from control import log
from control.answering import Answering
from control.calls import LiveCall, Outcome
from control.cluster import relay
from control.compliance.suppression import REASON
from control.dialer import Dialer
from control.dialing.machines import Machines
from control.ending import Ending, cost_of, unknown_call
from control.hooks import debugger
from control.office import Office
from control.store import calls as table
from control.store import nodes, provider_events, tenants, webhooks_seen
from control.store.provider_events import ProviderEventRecord
from control.transfer.order import from_form
from control.transfer.service import Transferring
from control.unseen import Unseen

Form = Mapping[str, str]


class Callbacks:
    """Part of the switchboard; its methods raise StoreUnavailable where they say so there."""

    def __init__(
        self,
        office: Office,
        ending: Ending,
        dialer: Dialer,
        machines: Machines,
        transfers: Transferring,
        answering: Answering,
        unseen: Unseen,
        end_now: Callable[[LiveCall], Awaitable[None]],
    ) -> None:
        self._office = office
        self._ending = ending
        self._dialer = dialer
        self._machines = machines
        self._transfers = transfers
        self._answering = answering
        self._unseen = unseen
        self._end_now = end_now

    def on_message(self, call: LiveCall, message: nodes.Message) -> None:
        """What another daemon was told about a call of ours."""
        match message.what:
            case "status":
                self._ending.on_status(call, message.form)
            case "amd":
                self._machines.heard(call, message.form)
            case "stream":
                self._stream_told(call, message.form)
            case "leg":
                self._office.spawn(self._transfers.leg_status, call, message.form)
            case "recorded":
                self._office.spawn(self._answering.recorded, message.form, call.id)
            case "transfer":
                self._office.spawn(self._transfers.start_unasked, call, from_form(message.form))
            case "hang_up" if not (call.closing or call.ended_status):
                call.hang_up_wanted = True
                self._office.note(call, "hang_up_requested")
                self._office.spawn(self._end_now, call)
            case "opted_out" if not (call.closing or call.ended_status):
                # Asked for elsewhere: in another call, by a text, over the API.
                call.outcome = Outcome("policy", "policy", REASON)
                call.hang_up_wanted = True
                self._office.note(call, "opted_out", source="elsewhere")
                self._office.spawn(self._end_now, call)

    async def relayed(self, what: str, form: Form, call_id: str | None) -> bool:
        """Whether another living daemon carries this call: it has been told. Raises StoreUnavailable."""
        office = self._office
        message = nodes.Message(call_id or "", what, dict(form))
        sid, now = form.get("CallSid", ""), office.clock.now()
        return await office.store.write(relay, message, sid, office.node, now)

    async def message_recorded(self, form: Form, call_id: str | None) -> None:
        """The recording of a message. Raises StoreUnavailable: then it has to be sent again."""
        known = self._office.book.get(call_id) or self._office.book.by_sid(form.get("CallSid"))
        if known is not None or not await self.relayed("recorded", form, call_id):
            await self._answering.recorded(form, call_id)

    async def leg_status(self, form: Form, call_id: str | None) -> None:
        """A callback about the leg to a person. Raises StoreUnavailable."""
        call = await self._office.find(call_id, form.get("ParentCallSid"))
        if call is not None:
            await self._transfers.leg_status(call, form)
        elif not await self.relayed("leg", form, call_id):
            unknown_call("leg", form)

    async def call_status(self, form: Form, call_id: str | None = None) -> None:
        """A status callback. Raises StoreUnavailable: then it has to be sent again."""
        call = await self._known(form, call_id)
        if call is not None:
            self._ending.on_status(call, form)
        elif await self.relayed("status", form, call_id):
            return
        elif not await self._late_status(form, call_id) and not await self._unseen.told(dict(form)):
            unknown_call("status", form)

    async def stream_status(self, form: Form, call_id: str | None = None) -> None:
        """A callback about the media stream: a line of the timeline. Raises StoreUnavailable."""
        call = await self._known(form, call_id)
        if call is not None:
            self._stream_told(call, form)
        elif not await self.relayed("stream", form, call_id):
            unknown_call("stream", form)

    def _stream_told(self, call: LiveCall, form: Form) -> None:
        name = "twilio_" + form.get("StreamEvent", "stream-event").replace("-", "_")[:40]
        error = form.get("StreamError")
        self._office.note(
            call, name, stream_sid=form.get("StreamSid", ""), **({"error": error} if error else {})
        )

    async def machine_detected(self, form: Form, call_id: str | None = None) -> None:
        """Who has answered an outbound call. Raises StoreUnavailable: then it has to be sent again."""
        call = await self._known(form, call_id)
        if call is not None:
            self._machines.heard(call, form)
        elif not await self.relayed("amd", form, call_id):
            unknown_call("amd", form)

    async def provider_event(self, form: Form) -> None:
        """An event of Twilio's Debugger. Raises StoreUnavailable: then it has to be sent again."""
        office = self._office
        event = debugger.event_of(form, office.clock.now())
        kept = await office.store.write(_keep_event, event, form.get("AccountSid", ""))
        if kept is None:
            return  # it came before
        office.metrics.provider_events.labels(kept.provider, kept.level).inc()
        log.event(
            "provider_event",
            level="warning" if kept.level == "error" else "info",
            call_id=kept.call_id,
            provider=kept.provider,
            code=kept.code,
            reason=kept.message,
        )

    async def _known(self, form: Form, call_id: str | None) -> LiveCall | None:
        sid = form.get("CallSid", "")
        call = await self._office.find(call_id, sid)
        if call is None or not sid:
            return None
        if call.twilio_call_sid is None:
            self._dialer.bind(call, sid)
        return call if call.twilio_call_sid == sid else None

    async def _late_status(self, form: Form, call_id: str | None) -> bool:
        """After the end only the bill is news. False when the call is not ours."""
        key = f"status:{form.get('CallSid')}:{form.get('CallStatus')}:{form.get('SequenceNumber')}"
        now = self._office.clock.now()
        sid = form.get("CallSid", "")
        return await self._office.store.write(_late_cost, call_id, sid, cost_of(form), key, now)


def _keep_event(
    conn: Connection, event: ProviderEventRecord, account_sid: str
) -> ProviderEventRecord | None:
    tenant = tenants.by_account(conn, account_sid) if account_sid else None
    if tenant is not None:
        event = replace(event, tenant_id=tenant.id)
    return provider_events.add(conn, event)


def _late_cost(
    conn: Connection,
    call_id: str | None,
    sid: str,
    cost: dict[str, Any],
    key: str,
    at: datetime,
) -> bool:
    record = table.get(conn, call_id) if call_id else table.by_sid(conn, sid)
    if record is None or record.twilio_call_sid != sid:
        return False
    if cost and not record.cost and not webhooks_seen.seen(conn, key, at, record.tenant_id):
        table.update(conn, record.id, cost=cost)
    return True
