"""What requests about tenants look like, and how a tenant and its keys are shown."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from control.api.answers import Answer, PageQuery
from control.api.reading import Body, Query
from control.config import ControlSettings, RetentionSettings, TwilioSettings
from control.ids import DEFAULT_TENANT_ID
from control.retention import periods
from control.store.records import TenantKeyRecord, TenantRecord
from control.tenants.keys import TENANT
from control.tenants.limits import limits_of

NAME_MAX_CHARS = 200
CALLS_MAX = 100_000
CPS_MAX = 1_000.0
REQUESTS_MAX_PER_S = 10_000.0

Scope = Literal[
    "calls:read", "calls:write", "calls:erase", "agents:read", "agents:write", "lists", "tenant"
]
TenantStatus = Literal["provisioning", "active", "suspended", "closing", "closed", "failed"]


def _visible_text(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("a text of printable characters, not only spaces")
    return text.strip()


Name = Annotated[str, Field(min_length=1, max_length=NAME_MAX_CHARS), AfterValidator(_visible_text)]


class TenantCreate(Body):
    """A new tenant."""

    name: Name

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Bright Smiles Dental"}]})


class LimitsIn(Body):
    """Of this tenant alone; null = what the configuration says for all."""

    calls_max: int | None = Field(
        None, ge=1, le=CALLS_MAX, description="Calls at once, both ways. Over it callers hear busy."
    )
    calls_per_minute: int | None = Field(
        None, ge=1, le=CALLS_MAX, description="Calls that begin in a minute, both ways; likewise."
    )
    cps: float | None = Field(
        None, ge=0.01, le=CPS_MAX, description="Calls a second that are dialled in its account."
    )
    requests_per_s: float | None = Field(
        None, ge=0.1, le=REQUESTS_MAX_PER_S, description="API requests a second."
    )


class RetentionIn(Body):
    """Days after the end of a call; null = what the configuration says for all, 0 = kept."""

    transcripts_days: int | None = Field(
        None, description="Transcript, summary, extractions, variables, metadata, text messages."
    )
    recordings_days: int | None = Field(None, description="Recordings on the gateway's disk.")
    numbers_days: int | None = Field(
        None, description=f"People's numbers; not below {periods.NUMBERS_DAYS_MIN}."
    )

    @field_validator("transcripts_days", "recordings_days", "numbers_days")
    @classmethod
    def _in_range(cls, days: int | None, info: ValidationInfo) -> int | None:
        return None if days is None else periods.check(str(info.field_name), days)


class TenantPatch(Body):
    """Changes. `status` and `limits` are for the admin key alone; so is keeping anything longer than the
    configuration says."""

    name: Name = ""
    status: Literal["active", "suspended"] = Field(
        "active",
        description="`suspended`: no calls, and its Twilio subaccount is suspended; `active`: again.",
    )
    limits: LimitsIn = Field(
        default_factory=lambda: LimitsIn(
            calls_max=None, calls_per_minute=None, cps=None, requests_per_s=None
        )
    )

    retention: RetentionIn = Field(
        default_factory=lambda: RetentionIn(
            transcripts_days=None, recordings_days=None, numbers_days=None
        )
    )

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "suspended"}]})


class TenantClose(Body):
    """Closing a tenant cannot be undone, at Twilio neither: say its name to confirm."""

    confirm: str | None = Field(None, max_length=NAME_MAX_CHARS, description="The tenant's name.")

    model_config = ConfigDict(json_schema_extra={"examples": [{"confirm": "Bright Smiles Dental"}]})


class TenantCloseQuery(Query):
    """The confirmation may be here, too."""

    confirm: str | None = Field(None, max_length=NAME_MAX_CHARS, description="The tenant's name.")


class TenantsQuery(PageQuery):
    """Filters of the list."""

    status: TenantStatus | None = None


class TenantAccount(Answer):
    """The tenant's Twilio account; of the default tenant it is the one of the configuration."""

    sid: str | None
    status: str | None = Field(description="What Twilio said last.")


class LimitsShown(Answer):
    """What is in force; `calls_max`, `calls_per_minute` null = as many as there is room for."""

    calls_max: int | None
    calls_per_minute: int | None
    cps: float
    requests_per_s: float


class RetentionShown(Answer):
    """In force: days after the end of a call; 0 = kept."""

    transcripts_days: int
    recordings_days: int
    numbers_days: int


class Tenant(Answer):
    """A tenant."""

    id: str
    name: str
    status: str = Field(
        description="provisioning, active, suspended, closing, closed or failed. Calls only when active."
    )
    subaccount: TenantAccount
    limits: LimitsShown
    retention: RetentionShown
    problem: str | None = Field(
        description="Why what is wanted of Twilio has not come to pass; it is tried again."
    )
    created_at: datetime
    updated_at: datetime


def _everything() -> list[Scope]:
    return [TENANT]


class KeyCreate(Body):
    """A new API key."""

    name: Name = Field("API key", description="For people, to tell keys apart.")
    scopes: list[Scope] = Field(
        default_factory=_everything,
        min_length=1,
        max_length=len(Scope.__args__),  # type: ignore[attr-defined]
        description="What it may do; `tenant` = everything of this tenant.",
    )

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "CRM", "scopes": ["calls:read", "calls:write"]}]}
    )


class Key(Answer):
    """An API key of a tenant, as it is shown after it was made."""

    id: str
    tenant_id: str
    name: str
    prefix: str = Field(description="The first characters of the key.")
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


class KeyMade(Key):
    """A new API key, the only time that it is shown whole."""

    key: str | None = Field(
        description="Only a digest of it is kept: null in the repeated answer to a repeated request."
    )


class Rotation(Answer):
    """The tenant's new key at Twilio."""

    tenant_id: str
    key_sid: str
    old_key: str = Field(
        description="`revoked`, or `retiring`: it is as soon as no request uses it, or Twilio answers."
    )


def shown(
    record: TenantRecord,
    *,
    control: ControlSettings,
    twilio: TwilioSettings,
    retention: RetentionSettings,
) -> Tenant:
    """The tenant as the API shows it."""
    limits = limits_of(record.limits, control)
    is_default = record.id == DEFAULT_TENANT_ID
    return Tenant(
        id=record.id,
        name=record.name,
        status=record.status,
        subaccount=TenantAccount(
            sid=twilio.account_sid if is_default else record.account_sid,
            status="active" if is_default else record.account_status,
        ),
        limits=LimitsShown(
            calls_max=limits.calls_max,
            calls_per_minute=limits.calls_per_minute,
            cps=limits.cps or twilio.cps,
            requests_per_s=limits.requests_per_s,
        ),
        retention=RetentionShown(**asdict(periods.periods_of(record.retention, retention.of_all))),
        problem=record.problem,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def shown_key(record: TenantKeyRecord) -> Key:
    """The key as the API shows it."""
    return Key(
        id=record.id,
        tenant_id=record.tenant_id,
        name=record.name,
        prefix=record.prefix,
        scopes=record.scopes,
        created_at=record.created_at,
        last_used_at=record.last_used_at,
        revoked_at=record.revoked_at,
    )


def made_key(record: TenantKeyRecord, key: str | None) -> KeyMade:
    """The key with its text."""
    return KeyMade(**shown_key(record).model_dump(), key=key)
