"""Composes what comes after a call: the outbox, the analysis, pushes, messages, and their webhooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import trio
from quart import Blueprint

from control import ledger
from control.clock import Clock
from control.compliance.facts import Asked
from control.config import Settings
from control.elevenlabs.rest import ElevenLabsRest
from control.hooks.elevenlabs import elevenlabs_routes, parse_secrets
from control.hooks.sms import sms_routes
from control.hooks.twilio import Guard
from control.metrics import Metrics
from control.outbox import Outbox
from control.results import Results
from control.results.initiation import Initiation
from control.results.service import Show
from control.results.source import Conversations
from control.retention.service import Retention
from control.sms.incoming import Incoming
from control.sms.question import question
from control.sms.service import Allowance, Sms
from control.store import Store
from control.store.messages import MessageRecord
from control.telemetry.export import Telemetry
from control.tenants.access import TwilioAccess
from control.urls import PublicUrls
from control.vault import Vault
from control.verdict import Verdict
from control.verticals import Vertical
from control.webhooks_out.delivery import Deliveries, backoff, purpose


@dataclass(frozen=True, slots=True)
class Needs:
    """What the rest of the daemon lends."""

    settings: Settings
    store: Store
    clock: Clock
    metrics: Metrics
    vault: Vault
    access: TwilioAccess
    urls: PublicUrls
    elevenlabs: ElevenLabsRest
    verticals: Mapping[str, Vertical]
    show: Show
    version: str
    node: str
    """This daemon's name, as in the records of its calls."""
    ask: Callable[[Asked], Awaitable[Verdict]]
    """The policy: `control.switchboard.Switchboard.ask_policy`."""


class AfterCall:
    """One per daemon. `run` has to be running for anything to be done."""

    def __init__(self, needs: Needs) -> None:
        settings, store, clock = needs.settings, needs.store, needs.clock
        runs = needs.metrics.outbox_runs
        self.outbox = Outbox(
            store, clock, count=lambda kind, outcome: runs.labels(kind, outcome).inc()
        )
        self._needs = needs
        traced = needs.metrics.telemetry_calls
        self._telemetry = Telemetry(
            settings.telemetry,
            store,
            version=needs.version,
            node=needs.node,
            count=lambda outcome: traced.labels(outcome).inc(),
        )
        self._results = Results(
            store,
            clock,
            Conversations(needs.elevenlabs),
            needs.access,
            verticals=needs.verticals,
            show=needs.show,
            on_over=self._telemetry.call_over,
        )
        erased = needs.metrics.erased
        self.retention = Retention(
            store,
            clock,
            Conversations(needs.elevenlabs),
            node=needs.node,
            recording_dir=settings.media.recording_dir,
            of_all=settings.retention.of_all,
            count=lambda what: erased.labels(what).inc(),
        )
        self.retention.register(self.outbox)
        self._incoming = Incoming(store, clock, wake=self.outbox.wake)
        self._results.register(self.outbox)
        Deliveries(
            store,
            clock,
            needs.vault,
            allow_private=settings.control.webhook_allow_private,
            schedule=backoff(settings.control.webhook_retry_s),
        ).register(self.outbox)
        Sms(
            store,
            clock,
            needs.access,
            needs.urls,
            self._allowance,
            settle_s=settings.twilio.message_settle_s,
        ).register(self.outbox)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.outbox.run)
            nursery.start_soon(self.retention.run)
            nursery.start_soon(self._telemetry.run)
            task_status.started()

    def wake(self) -> None:
        """Something was put into the outbox."""
        self.outbox.wake()

    def seal(self, webhook_id: str, secret: str) -> str:
        """A target's secret, as the store keeps it."""
        return self._needs.vault.seal(purpose(webhook_id), secret)

    def routes(self) -> Sequence[Callable[[Guard], Blueprint]]:
        """For `control.hooks.app.create_hooks`."""
        secret = self._needs.settings.elevenlabs.webhook_secret
        secrets = () if secret is None else parse_secrets(secret.reveal())

        def elevenlabs(_: Guard) -> Blueprint:
            return elevenlabs_routes(
                self._results,
                Initiation(self._needs.store),
                secrets=secrets,
                clock=self._needs.clock,
                metrics=self._needs.metrics,
            )

        return (elevenlabs, lambda guard: sms_routes(self._incoming, guard))

    async def _allowance(self, message: MessageRecord) -> Allowance:
        asked = await self._needs.store.read(question, message)
        verdict = await self._needs.ask(asked)
        retry_at = verdict.decision.get("retry_at")
        return Allowance(
            verdict.allowed,
            verdict.decision,
            verdict.reason,
            datetime.fromisoformat(retry_at) if isinstance(retry_at, str) else None,
            lambda conn, call_id: ledger.add(conn, call_id, verdict.ruling),
        )
