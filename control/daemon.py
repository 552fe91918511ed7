"""The composition root: builds everything, starts it in order, drains it on SIGTERM.

store ─ workers ─ switchboard ─ provisioning ─ public port ─ control port ─ READY
SIGTERM: no new calls (readyz 503) ─ calls end ─ HTTP goes down last, because callbacks still come
With another instance on the same port (`control.siblings`): nothing more is accepted here, and what is left of the
calls goes on there.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import trio

from control import heap, log, returning, verticals
from control.after import AfterCall, Needs
from control.api import call_models
from control.api.app import create_api
from control.clock import VARIABLE as clock_variable
from control.clock import Clock
from control.compliance.permissions import PermissionsReader
from control.config import Listen, Settings, warnings
from control.config_checks import store_url_masked
from control.elevenlabs.agent_body import own_variables
from control.elevenlabs.rest import ElevenLabsRest
from control.elevenlabs.workspace import Workspace
from control.front import Front
from control.hooks.app import create_hooks
from control.http import SHUTDOWN_GRACE_S, HttpServer
from control.journal import Journal
from control.leaving import DRAIN_MARGIN_S, hand_over_max_s
from control.metrics import Metrics
from control.numbers import Numbers
from control.office import node_name
from control.plugins import build_reassigned, build_rules
from control.provisioning import Provisioning
from control.provisioning.client_tools import definitions
from control.provisioning.self_test import Probes
from control.provisioning.values import Services
from control.sdnotify import Notifier
from control.siblings import LISTEN_RETRY_S, Siblings
from control.store import Store, StoreUnavailable, sealed
from control.switchboard import Switchboard
from control.tenants.access import TwilioAccess
from control.tenants.service import Tenants
from control.twilio.rest import TwilioRest
from control.urls import PublicUrls
from control.vault import SealBroken, Vault, VaultError, open_vault
from control.workers import WorkerPool
from gateway import scheduling
from gateway.errors import LinkError

EXIT_FAILED = 1
BACKLOG = 1024
CONTROL_NICENESS = 5
DESCRIPTORS = 65_536
STOP_MARGIN_S = 5.0
"""After drain and HTTP have had their own time: then the process ends, whatever still hangs."""
REAL_TWILIO = "https://api.twilio.com"
STATUS_EVERY_S = 1.0


class StartFailed(Exception):
    """The daemon cannot start; the text names the key to look at."""


def run(settings: Settings) -> int:
    """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when something failed."""
    log.configure(level=settings.log.level, format=settings.log.format, secrets=settings.secrets())
    log.install_exception_hooks()
    _allow_descriptors()
    heap.share_one()
    for warning in warnings(settings):
        log.event("config_warning", level="warning", about=warning)
    try:
        return trio.run(_run, settings)
    except trio.TrioInternalError as error:  # not even the boundary in there was reached
        log.event("daemon_failed", level="error", error=error)
    return EXIT_FAILED


async def _run(settings: Settings) -> int:
    """As long as signals are received here nobody ends the process before it has said why it ends."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            return await _serve(settings, signals)
        except* (StartFailed, LinkError) as group:
            for error in _leaves(group):
                print(f"tandem: {error}", file=sys.stderr)  # noqa: T201
        except* Exception as group:  # noqa: BLE001  # the daemon's top: one line, then the exit code
            for error in _leaves(group):
                log.event("daemon_failed", level="error", error=error)
    return EXIT_FAILED


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


@dataclass(slots=True)
class _Parts:
    """What `_serve` starts and stops."""

    settings: Settings
    pool: WorkerPool
    switchboard: Switchboard
    tenants: Tenants
    provisioning: Provisioning
    numbers: Numbers
    after: AfterCall
    permissions: PermissionsReader
    front: Front
    api: HttpServer
    notifier: Notifier
    siblings: Siblings | None
    was_forced: bool = False

    # ---- what the door of `control.siblings` opens to

    @property
    def is_draining(self) -> bool:
        return self.switchboard.draining

    def takes(self, *, ticket: str, call_id: str, path: str) -> bool:
        return self.switchboard.is_about_ours(ticket=ticket, call_id=call_id, path=path)

    def serve(self, sock: socket.socket, head: bytes) -> None:
        self.front.adopt(sock, head)


async def _serve(settings: Settings, signals: AsyncIterator[int]) -> int:
    # Before anything is started: a port that is taken shall cost nothing.
    folder = _runtime_folder(settings)
    siblings = Siblings(Path(folder), node_name(settings)) if folder else None
    public = await _listen_public(settings, siblings)
    control = await _listen("control.listen", settings.control.listen)
    async with (
        _door(siblings, settings, public),
        _built(settings, folder, siblings) as parts,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_stop_at_once_on_second, signals, parts, nursery.cancel_scope)
        await nursery.start(parts.pool.run)
        scheduling.give_way(CONTROL_NICENESS)
        await nursery.start(parts.switchboard.run)
        await nursery.start(parts.tenants.run)
        await nursery.start(parts.provisioning.run)
        nursery.start_soon(parts.provisioning.health.run)
        nursery.start_soon(parts.numbers.run)
        nursery.start_soon(parts.permissions.run)
        await nursery.start(parts.after.run)
        async with trio.open_nursery() as ports:
            await ports.start(parts.front.serve, public)
            await ports.start(parts.api.serve, control)
            nursery.start_soon(parts.notifier.run_watchdog, parts.pool.turns)
            if siblings is not None:
                siblings.host = parts
            parts.notifier.ready(f"{parts.pool.count} media workers")
            log.event(
                "ready",
                public=_address(public),
                control=_address(control),
                workers=parts.pool.count,
            )
            # Both ports are served until the drain is over.
        nursery.cancel_scope.cancel()
    log.event("stopped", forced=parts.was_forced)
    return EXIT_FAILED if parts.was_forced else 0


def _allow_descriptors() -> None:
    """As many as we may have: the usual 1,024 are fewer than the connections that the public port counts to, and
    what runs out first should be what we decide about. systemd has given more already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _stop_at_once_on_second(
    signals: AsyncIterator[int], parts: _Parts, everything: trio.CancelScope
) -> None:
    """The first signal drains; the second one does not wait."""
    async with trio.open_nursery() as nursery:
        async for number in signals:
            log.event("signal", name=signal.Signals(number).name)
            if parts.switchboard.draining:
                parts.was_forced = True
                everything.cancel()
                return
            nursery.start_soon(_drain, parts)


async def _drain(parts: _Parts) -> None:
    timeout_s = parts.settings.media.drain_timeout_s
    everything_s = timeout_s + 2 * DRAIN_MARGIN_S + 2 * SHUTDOWN_GRACE_S + STOP_MARGIN_S
    parts.notifier.stopping("draining")

    async def successor() -> str | None:
        return None if parts.siblings is None else await parts.siblings.successor()

    if await successor() is not None:
        everything_s += hand_over_max_s(sum(parts.switchboard.live_counts().values()))
        parts.front.leave_to_others()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_say_what_is_left, parts)
        with trio.move_on_after(everything_s):
            await parts.switchboard.drain(successor)
        nursery.cancel_scope.cancel()
    parts.front.stop()
    parts.api.stop()


async def _say_what_is_left(parts: _Parts) -> None:
    while True:
        left = sum(parts.switchboard.live_counts().values())
        parts.notifier.status(f"draining, {left} calls left")
        await trio.sleep(STATUS_EVERY_S)


@asynccontextmanager
async def _door(
    siblings: Siblings | None, settings: Settings, public: list[trio.SocketListener]
) -> AsyncIterator[None]:
    """Our door, open: an instance that starts now, or will later, gets the port from us."""
    async with trio.open_nursery() as nursery:
        if siblings is not None:
            await nursery.start(siblings.run, _shared(settings), public)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _built(
    settings: Settings, folder: str, siblings: Siblings | None
) -> AsyncIterator[_Parts]:
    """Everything, connected. Raises StartFailed."""
    try:
        store = await trio.to_thread.run_sync(Store.open, settings.store.url)
    except StoreUnavailable as error:
        raise StartFailed(f"store.url: {error}") from error
    metrics = Metrics(_version())
    clock = _clock(settings)
    tokens = _main_tokens(settings)
    pool = WorkerPool(
        dataclasses.replace(settings.media, runtime_dir=folder),
        log_level=settings.log.level,
        log_format=settings.log.format,
        log=log.event,
        version=_version(),
    )
    twilio = TwilioRest(
        settings.twilio,
        count=lambda endpoint, outcome: metrics.twilio_requests.labels(endpoint, outcome).inc(),
    )
    twilio.observe = metrics.times_of("twilio")
    vault = await _opened_vault(settings, store)
    access = TwilioAccess(twilio, store, vault, main_tokens=tokens, clock=clock)
    tenants = Tenants(access, store, vault, clock)
    switchboard = Switchboard(
        settings=settings,
        store=store,
        pool=pool,
        twilio=twilio,
        rules=build_rules(settings.policy),
        reassigned=build_reassigned(settings.policy),
        clock=clock,
        metrics=metrics,
        access=access,
        journal=Journal(Path(folder) if folder else None, node_name(settings)),
    )
    try:
        async with ElevenLabsRest(settings.elevenlabs) as elevenlabs:
            elevenlabs.observe = metrics.times_of("elevenlabs")
            urls = PublicUrls(settings.public.url, settings.public.media_url)
            numbers = Numbers(store, access, urls, clock, main=twilio)
            probes = Probes(settings, pool, clock, own_variables)
            switchboard.on_other_event = probes.offer
            services = Services(
                settings=settings,
                store=store,
                accounts=tenants,
                numbers=numbers,
                workspace=Workspace(elevenlabs),
                probe=probes,
                clock=clock,
                verticals=verticals.load(settings.control.verticals_dir),
                tools=definitions,
            )
            provisioning = Provisioning(services)
            after = AfterCall(
                Needs(
                    settings=settings,
                    store=store,
                    clock=clock,
                    metrics=metrics,
                    vault=vault,
                    access=access,
                    urls=urls,
                    elevenlabs=elevenlabs,
                    verticals=services.verticals,
                    show=call_models.pushed,
                    version=_version(),
                    node=switchboard.node,
                    ask=switchboard.ask_policy,
                )
            )
            hooks = create_hooks(
                switchboard,
                public_url=settings.public.url,
                tokens=tokens,
                metrics=metrics,
                signers=access,
                also=after.routes(),
            )
            api = create_api(
                switchboard=switchboard,
                store=store,
                settings=settings,
                clock=clock,
                metrics=metrics,
                provisioning=provisioning,
                pool=pool,
                own_numbers=numbers,
                tenants_service=tenants,
                after=after,
                retention=after.retention,
            )
            front = Front(
                hooks,
                switchboard,
                media_url=settings.public.media_url,
                tokens=tokens,
                metrics=metrics,
                signers=access,
                others=siblings,
            )
            yield _Parts(
                settings,
                pool,
                switchboard,
                tenants,
                provisioning,
                numbers,
                after,
                PermissionsReader(store, access, clock),
                front,
                HttpServer(api),
                Notifier(),
                siblings,
            )
    finally:
        twilio.close()
        store.close()


def _clock(settings: Settings) -> Clock:
    """The law's time is the host's; a test may have another one, before a simulated Twilio and nowhere else."""
    is_set = bool(os.environ.get(clock_variable))
    if is_set and settings.twilio.api_base_url == REAL_TWILIO:
        raise StartFailed(f"{clock_variable}: only with a simulated Twilio (twilio.api_base_url)")
    try:
        clock = Clock.of_environment()
    except ValueError as error:
        raise StartFailed(f"{clock_variable}: {error}") from error
    if is_set:
        log.event("clock_of_a_test", level="error", now=clock.now().isoformat())
    return clock


def _runtime_folder(settings: Settings) -> str:
    """Where a process that replaces this one finds its workers, and other instances its door; empty: nowhere."""
    try:
        return returning.runtime_dir(settings)
    except OSError as error:
        # Calls are carried all the same; they would end with this process.
        log.event("runtime_dir_unusable", level="warning", error=str(error))
        return ""


def _main_tokens(settings: Settings) -> tuple[str, ...]:
    """What the main account's webhooks may be signed with; two while its token is rotated."""
    secondary = settings.twilio.auth_token_secondary
    first = settings.twilio.auth_token.reveal()
    return (first,) if secondary is None else (first, secondary.reveal())


async def _opened_vault(settings: Settings, store: Store) -> Vault:
    """The vault, and everything in the store sealed under its newest key. Raises StartFailed."""
    key = settings.store.encryption_key
    try:
        vault = await trio.to_thread.run_sync(
            open_vault, settings.store.url, None if key is None else key.reveal()
        )
        resealed = await store.write(sealed.reseal, vault.resealed)
    except VaultError as error:
        raise StartFailed(str(error)) from error
    except SealBroken as error:
        raise StartFailed(f"store.encryption_key: {error}") from error
    except StoreUnavailable as error:
        raise StartFailed(f"store.url: {error}") from error
    if resealed:
        log.event("secrets_resealed", count=resealed)
    return vault


async def _listen_public(
    settings: Settings, siblings: Siblings | None
) -> list[trio.SocketListener]:
    """The public port: from an instance that has it already, or else bound. Raises StartFailed."""
    listen = settings.public.listen
    if siblings is None or listen.port == 0:
        return await _listen("public.listen", listen)
    if found := await siblings.listeners(_shared(settings)):
        return found
    try:
        return await _listen("public.listen", listen)
    except StartFailed:
        # Another instance that starts at the same time may have been quicker, and its door about to open.
        await trio.sleep(LISTEN_RETRY_S)
        if found := await siblings.listeners(_shared(settings)):
            return found
        raise


def _shared(settings: Settings) -> str:
    """What instances on one port have in common: its address, and (hashed, it is told) the store."""
    store, _ = store_url_masked(settings.store.url)
    kind, _, path = store.partition(":///")
    if kind.startswith("sqlite") and path:
        store = str(Path(path.partition("?")[0]).resolve())
    return f"{settings.public.listen} {hashlib.sha256(store.encode()).hexdigest()[:16]}"


async def _listen(key: str, listen: Listen) -> list[trio.SocketListener]:
    """Bind, or say which key names an address that cannot be had."""
    try:
        return await trio.open_tcp_listeners(listen.port, host=listen.host, backlog=BACKLOG)
    except OSError as error:
        known = error.errno is not None and error.errno in errno.errorcode
        why = os.strerror(error.errno or 0) if known else str(error)
        raise StartFailed(f"{key}: cannot listen on {listen}: {why}") from error


def _address(listeners: list[trio.SocketListener]) -> str:
    host, port, *_ = listeners[0].socket.getsockname()
    return str(Listen(host, port))


def _version() -> str:
    try:
        return metadata.version("tandem")
    except metadata.PackageNotFoundError:
        return "0+unknown"
