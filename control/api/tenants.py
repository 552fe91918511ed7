"""`/v2/tenants`, their API keys and their Twilio credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quart import Blueprint, Response, g
from sqlalchemy import Connection

from control import ids
from control.api import tenant_models
from control.api.answers import PageQuery, answer, page
from control.api.auth import principal, require_visible, visible_tenant
from control.api.dependencies import Dependencies, dependencies
from control.api.idempotency import KEPT_BODY, idempotent
from control.api.openapi import NoContent, listing, operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import read_body, read_query
from control.api.tenant_models import (
    Key,
    KeyCreate,
    KeyMade,
    Rotation,
    Tenant,
    TenantClose,
    TenantCloseQuery,
    TenantCreate,
    TenantPatch,
    TenantsQuery,
)
from control.retention import periods
from control.store import credentials, tenant_keys, tenants
from control.store.records import TenantKeyRecord, TenantRecord
from control.tenants import keys
from control.tenants.service import TenantBusy, Tenants, TenantState
from control.twilio.errors import TwilioError, TwilioRefused

blueprint = Blueprint("tenants", __name__)

KEYS_MAX = 100
"""Keys in force of one tenant."""
RETRY_AFTER_S = 15


@blueprint.post("/v2/tenants")
@operation(
    name="createTenant",
    about="Tenants",
    body=TenantCreate,
    answers={201: Tenant},
    problems=["twilio-refused", "not-found"],
    creates=True,
    scope=keys.ADMIN,
)
@idempotent
async def create_tenant() -> Response:
    """Make a tenant, with a Twilio subaccount and an API key in it

    For the admin key. `status` is `active` when that is done, `provisioning` when Twilio did not answer in
    time: then it goes on in the background. 502 when Twilio refused; the tenant is kept as `failed`, and
    setting its `status` to `active` tries again.
    """
    given = await read_body(TenantCreate)
    with _as_problems():
        record = await _service().create(given.name)
    return answer(_shown(record), 201, {"Location": f"/v2/tenants/{record.id}"})


@blueprint.get("/v2/tenants")
@operation(name="listTenants", about="Tenants", query=TenantsQuery, answers={200: listing(Tenant)})
async def list_tenants() -> Response:
    """List tenants, the newest first; with a tenant's key that one alone"""
    query = read_query(TenantsQuery)
    records, cursor = await dependencies().store.read(
        tenants.list_tenants,
        tenant_id=visible_tenant(),
        status=query.status,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([_shown(record) for record in records], cursor)


@blueprint.get("/v2/tenants/<tenant_id>")
@operation(name="getTenant", about="Tenants", answers={200: Tenant}, problems=["not-found"])
async def get_tenant(tenant_id: str) -> Response:
    """Show a tenant"""
    return answer(_shown(await _tenant(tenant_id)))


@blueprint.patch("/v2/tenants/<tenant_id>")
@operation(
    name="changeTenant",
    about="Tenants",
    body=TenantPatch,
    answers={200: Tenant},
    problems=["not-found", "conflict", "twilio-refused"],
)
async def change_tenant(tenant_id: str) -> Response:
    """Rename, suspend or resume a tenant, set its limits, or how long its records are kept

    Suspending holds from the answer on; Twilio is told at once or as soon as it answers (see
    `subaccount.status`). Calls in progress go on until Twilio ends them. Resuming waits for Twilio.
    """
    await _tenant(tenant_id)
    given = await read_body(TenantPatch)
    fields = given.model_fields_set
    for_admin = sorted(fields & {"status", "limits"})
    if for_admin and not principal().is_admin:
        text = "only the admin key may change this"
        raise Problem(
            "forbidden",
            f"{for_admin[0]}: {text}",
            errors=[(name, text) for name in for_admin],
        )
    own = given.retention.model_dump(exclude_unset=True) if "retention" in fields else {}
    if not principal().is_admin:
        _refuse_longer(own)
    with _as_problems():
        if "name" in fields:
            await _service().rename(tenant_id, given.name)
        if "limits" in fields:
            await dependencies().store.write(
                _set_own, tenant_id, "limits", given.limits.model_dump(exclude_unset=True)
            )
        if own:
            await dependencies().store.write(_set_own, tenant_id, "retention", own)
        if "status" in fields and given.status == "suspended":
            await _service().suspend(tenant_id)
        elif "status" in fields:
            await _service().resume(tenant_id)
    return answer(_shown(await _tenant(tenant_id)))


@blueprint.delete("/v2/tenants/<tenant_id>")
@operation(
    name="closeTenant",
    about="Tenants",
    body=TenantClose,
    query=TenantCloseQuery,
    answers={200: Tenant, 202: Tenant},
    problems=["not-found", "conflict"],
    scope=keys.ADMIN,
)
async def close_tenant(tenant_id: str) -> Response:
    """Close a tenant, for good

    For the admin key. Needs the tenant's name as `confirm`, in the body or the query. Its keys are revoked
    and its agents closed at once; its Twilio subaccount is closed and its numbers are lost, which Twilio
    cannot undo. 202 when Twilio did not answer yet. Records stay.
    """
    tenant = await _tenant(tenant_id)
    confirm = read_query(TenantCloseQuery).confirm or (await read_body(TenantClose)).confirm
    if tenant.status != "closed":
        if confirm != tenant.name:
            raise invalid("confirm", "required: the name of the tenant, exactly")
        with _as_problems():
            await _service().close(tenant_id)
        tenant = await _tenant(tenant_id)
    return answer(_shown(tenant), 200 if tenant.status == "closed" else 202)


@blueprint.post("/v2/tenants/<tenant_id>/rotate-credentials")
@operation(
    name="rotateCredentials",
    about="Tenants",
    answers={200: Rotation},
    problems=["not-found", "conflict", "twilio-refused"],
)
async def rotate_credentials(tenant_id: str) -> Response:
    """Have a new API key at Twilio, and the old one revoked

    From the answer on the new key is used; requests that are under way finish with the old one before it is
    revoked, so none fails. 409 for the default tenant, whose account is the one of the configuration.
    """
    await _tenant(tenant_id)
    with _as_problems():
        is_revoked = await _service().rotate(tenant_id)
    key = await dependencies().store.read(credentials.current, tenant_id, credentials.API_KEY)
    return answer(
        Rotation(
            tenant_id=tenant_id,
            key_sid=(key.sid if key else None) or "",
            old_key="revoked" if is_revoked else "retiring",
        )
    )


@blueprint.get("/v2/tenants/<tenant_id>/keys")
@operation(
    name="listKeys",
    about="Tenants",
    query=PageQuery,
    answers={200: listing(Key)},
    problems=["not-found"],
)
async def list_keys(tenant_id: str) -> Response:
    """List a tenant's API keys, the newest first, revoked ones too"""
    query = read_query(PageQuery)
    await _tenant(tenant_id)
    records, cursor = await dependencies().store.read(
        tenant_keys.list_keys, tenant_id=tenant_id, limit=query.limit, cursor=query.cursor
    )
    return page([tenant_models.shown_key(record) for record in records], cursor)


@blueprint.post("/v2/tenants/<tenant_id>/keys")
@operation(
    name="createKey",
    about="Tenants",
    body=KeyCreate,
    answers={201: KeyMade},
    problems=["not-found", "conflict"],
    creates=True,
)
@idempotent
async def create_key(tenant_id: str) -> Response:
    """Make an API key for a tenant

    `key` is shown in this answer and never again: only a digest is kept. A repeat with the same
    `Idempotency-Key` makes no second one and shows null.
    """
    given = await read_body(KeyCreate)
    await _tenant(tenant_id)
    now = dependencies().clock.now()
    key = keys.new_key()
    record = TenantKeyRecord(
        id=ids.new_id(ids.TENANT_KEY, now),
        tenant_id=tenant_id,
        name=given.name,
        digest=keys.digest(key),
        prefix=keys.prefix(key),
        scopes=[scope for scope in keys.SCOPES if scope in given.scopes],
        created_at=now,
    )
    await dependencies().store.write(_add_key, record)
    setattr(g, KEPT_BODY, tenant_models.made_key(record, None).model_dump_json())
    return answer(tenant_models.made_key(record, key), 201)


@blueprint.delete("/v2/tenants/<tenant_id>/keys/<key_id>")
@operation(name="revokeKey", about="Tenants", answers={204: NoContent}, problems=["not-found"])
async def revoke_key(tenant_id: str, key_id: str) -> Response:
    """Revoke an API key: the next request with it is refused"""
    await _tenant(tenant_id)
    known = dependencies()
    if not await known.store.write(tenant_keys.revoke, tenant_id, key_id, known.clock.now()):
        raise not_found(f"there is no key {key_id} in force")
    return Response(b"", status=204)


# ---- inside --------------------------------------------------------------------------------------


def _service() -> Tenants:
    service = dependencies().tenants
    if service is None:
        raise RuntimeError("this application was built without the tenants' service")
    return service


async def _tenant(tenant_id: str) -> TenantRecord:
    require_visible(tenant_id, lambda: _no_tenant(tenant_id))
    record = await dependencies().store.read(tenants.get, tenant_id)
    if record is None:
        raise _no_tenant(tenant_id)
    return record


def _no_tenant(tenant_id: str) -> Problem:
    return not_found(f"there is no tenant {tenant_id}")


def _shown(record: TenantRecord) -> Tenant:
    known: Dependencies = dependencies()
    return tenant_models.shown(
        record,
        control=known.settings.control,
        twilio=known.settings.twilio,
        retention=known.settings.retention,
    )


def _set_own(conn: Connection, tenant_id: str, column: str, given: dict[str, Any]) -> None:
    """A limit or period that is given replaces the old one; null takes it away."""
    record = tenants.get(conn, tenant_id, to_change=True)
    if record is None:
        raise _no_tenant(tenant_id)
    own = (getattr(record, column) or {}) | given
    changed = {column: {name: value for name, value in own.items() if value is not None}}
    tenants.change(conn, tenant_id, **changed, updated_at=dependencies().clock.now())


def _refuse_longer(own: dict[str, int | None]) -> None:
    """A tenant may have what is its own erased earlier; what the operator keeps at most is the operator's word."""
    of_all = dependencies().settings.retention
    errors = [
        (
            f"retention.{name}",
            "only the admin key may have it kept longer than the configuration says",
        )
        for name, days in own.items()
        if days is not None and periods.is_longer(days, getattr(of_all, name))
    ]
    if errors:
        raise Problem("forbidden", f"{errors[0][0]}: {errors[0][1]}", errors=errors)


def _add_key(conn: Connection, record: TenantKeyRecord) -> None:
    tenant = tenants.get(conn, record.tenant_id, to_change=True)
    if tenant is None or tenant.status in ("closing", "closed"):
        raise Problem("conflict", "the tenant is closed")
    if tenant_keys.count_in_force(conn, record.tenant_id) >= KEYS_MAX:
        raise Problem("conflict", f"the tenant has {KEYS_MAX} keys in force: revoke one first")
    tenant_keys.insert(conn, record)


@contextmanager
def _as_problems() -> Iterator[None]:
    try:
        yield
    except TenantState as error:
        raise Problem("conflict", str(error)) from error
    except TenantBusy as error:
        text = "something else is being done for this tenant at this moment"
        raise Problem("conflict", text, headers=_RETRY) from error
    except TwilioRefused as refusal:
        raise Problem(
            "twilio-refused",
            f"Twilio refused: {refusal.message}",
            had_effect=True,
            twilio={"code": refusal.code, "message": refusal.message},
        ) from refusal
    except TwilioError as error:
        raise Problem("unavailable", str(error), headers=_RETRY) from error


_RETRY = {"Retry-After": str(RETRY_AFTER_S)}
