"""What an operator granted a tenant, and what the tenant narrowed: `tenant_policies.profile`."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from policy import switches
from policy.facts import Hours, TenantFacts

DEFAULT_REGIONS = frozenset({"US"})
Region = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class OpenHours(BaseModel):
    """Calling hours on some weekdays (0 = Monday), in the called party's local time."""

    model_config = ConfigDict(extra="forbid")
    weekdays: set[Annotated[int, Field(ge=0, le=6)]]
    start_min: int = Field(ge=0, le=1440)
    end_min: int = Field(ge=0, le=1440)


class Profile(BaseModel):
    """Everything about a tenant that rules may know and no other table says."""

    model_config = ConfigDict(extra="forbid")
    seller: str | None = Field(
        None, min_length=1, max_length=200, description="Legal name, as consents name it."
    )
    callback_number: str | None = Field(None, description="Said in calls; reaches a person.")
    toll_free_opt_out: bool = Field(
        False, description="The callback number is toll-free and reaches the opt-out."
    )
    regions: set[Region] | None = Field(None, description="Where it may call; without it: US.")
    approved_regions: set[Region] | None = None
    registrations: set[Region] | None = Field(
        None, description="US states where it is registered as a telephone seller."
    )
    hours: list[OpenHours] | None = None
    closed_dates: set[date] = set()
    clean_days: int | None = Field(None, ge=0)
    is_stopped: bool = Field(False, description="The kill switch: nothing is dialled.")
    usage_trigger_fired: bool = False
    switches: set[str] = set()
    call_limit_micro_usd: int | None = Field(None, ge=0)
    day_limit_micro_usd: int | None = Field(None, ge=0)
    month_limit_micro_usd: int | None = Field(None, ge=0)

    @field_validator("switches")
    @classmethod
    def _known(cls, given: set[str]) -> set[str]:
        unknown = sorted(given - switches.ALL)
        if unknown:
            raise ValueError(
                f"no switch {unknown[0]!r}; there are: {', '.join(sorted(switches.ALL))}"
            )
        return given


def read(kept: dict[str, Any] | None) -> Profile:
    """The profile as it is kept; the default one where nobody said anything."""
    return Profile.model_validate(kept or {})


def as_facts(profile: Profile, state: str, name: str) -> TenantFacts:
    """Of a tenant in `state` (`active`, `suspended`, …). Without a legal name, the tenant's `name` is it."""
    hours = profile.hours
    return TenantFacts(
        state=state,
        seller=profile.seller or name,
        regions=frozenset(profile.regions) if profile.regions is not None else DEFAULT_REGIONS,
        approved_regions=_frozen(profile.approved_regions),
        registrations=frozenset(profile.registrations or ()),
        hours=None
        if hours is None
        else tuple(Hours(frozenset(one.weekdays), one.start_min, one.end_min) for one in hours),
        closed_dates=frozenset(profile.closed_dates),
        clean_days=profile.clean_days,
        is_stopped=profile.is_stopped,
        usage_trigger_fired=profile.usage_trigger_fired,
        switches=frozenset(profile.switches),
    )


def _frozen(given: set[str] | None) -> frozenset[str] | None:
    return None if given is None else frozenset(given)
