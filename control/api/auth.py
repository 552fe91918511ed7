"""`Authorization: Bearer KEY`: who asks, checked before anything else is looked at.

The admin key sees every tenant. A tenant's key sees that tenant alone: whatever belongs to another one is
answered exactly as if it did not exist. Handlers call the functions of this module for every id and every
list; a test tries each route with another tenant's key.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import trio
from quart import current_app, g, request

from control.api import scopes
from control.api.dependencies import dependencies
from control.api.problem import Problem, invalid, not_found
from control.ids import DEFAULT_TENANT_ID
from control.store import StoreUnavailable, tenant_keys, tenants
from control.tenants import keys
from control.tenants.limits import limits_of

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})
"""Answered without a key: probes, scrapers, readers. None of them shows a call or a number."""
_REALM = 'Bearer realm="tandem"'
LAST_USED_EVERY = timedelta(minutes=1)
"""How exact `last_used_at` is: a write for every request would cost more than the request."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `tenant_id` and `key_id` are None for the admin key."""

    tenant_id: str | None
    key_id: str | None
    scopes: frozenset[str]
    tenant_status: str = "active"
    requests_per_s: float | None = None

    @property
    def is_admin(self) -> bool:
        return self.tenant_id is None


ADMIN = Principal(None, None, frozenset({keys.ADMIN}))


async def require_key() -> None:
    """Set `principal()`. Raises Problem: 401 without a key that is known, 429 when its tenant's requests come
    too fast, 403 when its scopes do not do."""
    if request.path in OPEN_PATHS:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise _refused("send an API key as `Authorization: Bearer KEY`", "")
    found = await _principal_of(given.strip())
    if found is None:
        raise _refused("this key is not known", ', error="invalid_token"')
    g.principal = found
    _require_pace(found)
    _require_scope(found)


def principal() -> Principal:
    """Who asks for this request."""
    found: Principal = g.principal
    return found


async def tenant_for_new(asked: str | None, field: str = "tenant_id") -> str:
    """The tenant that something new is to belong to.

    The admin names it, or means the default one; a tenant's key means its own and may name no other.
    Raises Problem: 404 for another tenant's, 422 for one that is not there, 409 when it is not active.
    """
    asking = principal()
    tenant_id = own_tenant(asked, field)
    if asking.is_admin:
        record = await dependencies().store.read(tenants.get, tenant_id)
        if record is None:
            raise invalid(field, f"there is no tenant {tenant_id}")
        status = record.status
    else:
        status = asking.tenant_status
    if status != "active":
        text = f"tenant {tenant_id} is {status}"
        raise Problem("conflict", text, errors=[(field, text)])
    return tenant_id


def own_tenant(asked: str | None, field: str = "tenant_id") -> str:
    """The one tenant that is meant: the key's own; for the admin the one asked for, or the default.

    Raises Problem (404) when a tenant's key asks for another. Whether it exists is not looked at.
    """
    mine = principal().tenant_id
    if mine is None:
        return asked or DEFAULT_TENANT_ID
    if asked not in (None, mine):
        raise not_found(f"there is no tenant {asked}", field)
    return mine


async def existing_tenant(asked: str | None, field: str = "tenant_id") -> str:
    """`own_tenant`, looked up: for what is done in the tenant's Twilio account.

    Raises Problem: 404 for another tenant's, 422 for one that is not there.
    """
    tenant_id = own_tenant(asked, field)
    if await dependencies().store.read(tenants.get, tenant_id) is None:
        raise invalid(field, f"there is no tenant {tenant_id}")
    return tenant_id


def visible_tenant(asked: str | None = None, field: str = "tenant_id") -> str | None:
    """Whose records a list may show: None = everybody's. `asked` is the list's own filter.

    Raises Problem (404) when a tenant's key asks for another tenant's.
    """
    return asked if principal().is_admin else own_tenant(asked, field)


def require_visible(tenant_id: str, missing: Callable[[], Problem] | None = None) -> None:
    """Raise the 404 for another tenant's record.

    `missing` makes the problem that the handler answers when there is no such record at all: the two must not
    be told apart, so give it wherever the handler has one.
    """
    if principal().tenant_id not in (None, tenant_id):
        raise missing() if missing is not None else not_found("there is no such thing")


async def _principal_of(given: str) -> Principal | None:
    if _same(given, dependencies().settings.control.admin_key.reveal()):
        return ADMIN
    if not given.startswith(keys.MARK):
        return None
    known = dependencies()
    found = await known.store.read(tenant_keys.by_digest, keys.digest(given))
    if found is None:
        return None
    key, tenant = found
    per_s = limits_of(tenant.limits, known.settings.control).requests_per_s
    now = known.clock.now()
    if key.last_used_at is None or now - key.last_used_at >= LAST_USED_EVERY:
        with suppress(StoreUnavailable):  # the request itself will say so, if it needs the store
            await known.store.write(tenant_keys.used, key.id, now)
    return Principal(tenant.id, key.id, frozenset(key.scopes), tenant.status, per_s)


def _require_pace(asking: Principal) -> None:
    if asking.tenant_id is None or asking.requests_per_s is None:
        return
    limiter = dependencies().request_limiter
    wait_s = limiter.wait_s(asking.tenant_id, asking.requests_per_s, trio.current_time())
    if wait_s > 0:
        raise Problem(
            "too-many-requests",
            f"more than {asking.requests_per_s:g} requests a second",
            headers={"Retry-After": str(math.ceil(wait_s))},
        )


def _require_scope(asking: Principal) -> None:
    if request.endpoint is None:  # no such path, or no such method: that is what will be answered
        return
    needed = scopes.needed(current_app.view_functions.get(request.endpoint), request.method)
    if keys.allows(asking.scopes, needed):
        return
    if needed == keys.ADMIN:
        raise not_found(f"there is no path {request.path}")
    raise Problem(
        "forbidden",
        f"this key lacks the scope `{needed}`",
        headers={"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{needed}"'},
    )


def _same(given: str, key: str) -> bool:
    # Digests first: compare_digest takes its constant time only for texts of one length.
    one, other = (hashlib.sha256(text.encode()).digest() for text in (given, key))
    return hmac.compare_digest(one, other)


def _refused(detail: str, error: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": _REALM + error})
