"""`/v2/tenants/{id}/policy`: what a tenant was granted and what it narrowed; for operators."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError
from quart import Blueprint, Response

from control.api.answers import Answer, answer
from control.api.auth import principal
from control.api.dependencies import dependencies
from control.api.openapi import operation
from control.api.problem import Problem, not_found
from control.api.reading import Body, read_body
from control.compliance import profile
from control.store import dnc, tenants

blueprint = Blueprint("compliance", __name__)


class TenantPolicyChange(Body):
    """The whole profile: it replaces the former one."""

    profile: dict[str, Any] = Field(
        description="`seller`, `callback_number`, `regions`, `registrations`, `hours`, `closed_dates`, "
        "`switches`, limits in micro-dollars and `is_stopped`, the kill switch.",
        examples=[{"seller": "Acme Roofing LLC", "regions": ["US"], "registrations": ["TX"]}],
    )


class TenantPolicy(Answer):
    """What rules know of a tenant."""

    tenant_id: str
    profile: dict[str, Any]


@blueprint.get("/v2/tenants/<tenant_id>/policy")
@operation(
    name="getTenantPolicy",
    about="Tenants",
    answers={200: TenantPolicy},
    problems=["not-found"],
    scope="admin",
)
async def get_tenant_policy(tenant_id: str) -> Response:
    """What the policy knows of a tenant"""
    await _existing(tenant_id)
    kept = await dependencies().store.read(dnc.get_profile, tenant_id)
    return answer(TenantPolicy(tenant_id=tenant_id, profile=_plain(profile.read(kept))))


@blueprint.put("/v2/tenants/<tenant_id>/policy")
@operation(
    name="putTenantPolicy",
    about="Tenants",
    body=TenantPolicyChange,
    answers={200: TenantPolicy},
    problems=["not-found"],
    scope="admin",
)
async def put_tenant_policy(tenant_id: str) -> Response:
    """Say what a tenant may do; in force from the next decision on"""
    given = await read_body(TenantPolicyChange)
    await _existing(tenant_id)
    try:
        checked = profile.read(given.profile)
    except ValidationError as error:
        errors = [
            ("profile." + ".".join(str(part) for part in one["loc"]), one["msg"])
            for one in error.errors(include_url=False, include_input=False)
        ]
        detail = "; ".join(f"{name}: {why}" for name, why in errors)
        raise Problem("invalid", detail, errors=errors) from error
    known, plain = dependencies(), _plain(checked)
    who = principal().key_id or "admin"
    await known.store.write(dnc.put_profile, tenant_id, plain, known.clock.now(), who)
    return answer(TenantPolicy(tenant_id=tenant_id, profile=plain))


async def _existing(tenant_id: str) -> None:
    if await dependencies().store.read(tenants.get, tenant_id) is None:
        raise not_found(f"there is no tenant {tenant_id}")


def _plain(given: profile.Profile) -> dict[str, Any]:
    plain: dict[str, Any] = given.model_dump(mode="json", exclude_defaults=True)
    return {
        name: sorted(value) if isinstance(getattr(given, name), set) else value
        for name, value in plain.items()
    }
