"""All checks, in the order in which one would look."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import trio

from control.clock import Clock
from control.config import Settings, warnings
from control.doctor import host, providers, reach, records
from control.doctor.values import Finding, fail, ok, warn

ASK_TIMEOUT_S = 5.0


async def examine(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    """Every finding as soon as it is known."""
    told = warnings(settings)
    for text in told:
        yield warn("configuration", text, "change it unless it is meant")
    if not told:
        yield ok("configuration", "is valid")
    for finding in host.folders(settings):
        yield finding
    looked = await trio.to_thread.run_sync(records.look, settings.store.url)
    yield looked.finding
    yield host.zones(clock.now())
    yield host.compiled_lane()
    yield await trio.to_thread.run_sync(host.supervised)
    offsets = providers.Offsets(clock)
    for finding in await providers.twilio(settings, looked.numbers, offsets):
        yield finding
    yield await providers.elevenlabs(settings, offsets)
    yield offsets.finding()
    yield await daemon(settings)
    yield await reach.public_url(settings, clock.now())


async def daemon(settings: Settings) -> Finding:
    """Whether it runs here and takes calls."""
    listen = settings.control.listen
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    url = httpx.URL(scheme="http", host=at, port=listen.port, path="/readyz")
    try:
        async with httpx.AsyncClient(timeout=ASK_TIMEOUT_S, trust_env=False) as http:
            reply = await http.get(url)
            state = reply.json()
    except (httpx.HTTPError, ValueError) as error:
        text = f"does not answer on {listen}: {type(error).__name__}"
        return warn("daemon", text, "start it: tandem serve")
    if reply.status_code == 200:
        return ok("daemon", f"takes calls, {state.get('workers')} media workers")
    return fail("daemon", "; ".join(state.get("reasons", ())) or "is not ready", "see its log")
