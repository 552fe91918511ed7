"""Twilio's voice dialling permissions: which countries an account may call at all.

They are the last fence against toll fraud, below our own policy. Act with the client of the account that is
meant. Every function raises TwilioRefused, TwilioUnreachable and TwilioUncertain.
Source: Twilio docs, "Voice dialing geographic permissions".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from control.twilio.rest import TwilioRest

COUNTRIES_MAX = 400
PREFIXES_MAX = 2000


@dataclass(frozen=True, slots=True)
class Permission:
    """What may be called in one country. High risk is what fraudsters earn from."""

    country: str
    name: str
    low_risk: bool
    high_risk_special: bool
    high_risk_tollfraud: bool


async def permissions(rest: TwilioRest) -> list[Permission]:
    """Of all countries, as the account has them now."""
    listed = partial(rest.client.voice.v1.dialing_permissions.countries.list, limit=COUNTRIES_MAX)
    return [_permission(item) for item in await rest.ask("geo.list", listed)]


async def high_risk_prefixes(rest: TwilioRest, country: str) -> list[str]:
    """Prefixes of a country's numbers that pay whoever owns them, E.164 with the `+`."""
    of_country = rest.client.voice.v1.dialing_permissions.countries(country)
    listed = partial(of_country.highrisk_special_prefixes.list, limit=PREFIXES_MAX)
    found = [str(item.prefix or "") for item in await rest.ask("geo.prefixes", listed)]
    return [prefix if prefix.startswith("+") else f"+{prefix}" for prefix in found if prefix]


async def set_permissions(rest: TwilioRest, wanted: Sequence[Permission]) -> int:
    """Set these countries, others stay as they are. Returns how many Twilio has taken."""
    request = json.dumps(
        [
            {
                "iso_code": one.country,
                # Texts: Twilio's document has it so.
                "low_risk_numbers_enabled": _text(one.low_risk),
                "high_risk_special_numbers_enabled": _text(one.high_risk_special),
                "high_risk_tollfraud_numbers_enabled": _text(one.high_risk_tollfraud),
            }
            for one in wanted
        ]
    )
    bulk = rest.client.voice.v1.dialing_permissions.bulk_country_updates
    done = await rest.ask("geo.update", partial(bulk.create, update_request=request))
    return int(done.update_count or 0)


async def inherits(rest: TwilioRest) -> bool:
    """Whether the account has its parent's permissions instead of its own."""
    found = await rest.ask(
        "geo.settings", rest.client.voice.v1.dialing_permissions.settings().fetch
    )
    return bool(found.dialing_permissions_inheritance)


async def set_inheritance(rest: TwilioRest, inherits: bool) -> None:
    """Let the account have its parent's permissions, or its own."""
    settings = rest.client.voice.v1.dialing_permissions.settings()
    change = partial(settings.update, dialing_permissions_inheritance=inherits)
    await rest.ask("geo.settings", change)


def _permission(item: Any) -> Permission:
    return Permission(
        country=item.iso_code,
        name=item.name or item.iso_code,
        low_risk=bool(item.low_risk_numbers_enabled),
        high_risk_special=bool(item.high_risk_special_numbers_enabled),
        high_risk_tollfraud=bool(item.high_risk_tollfraud_numbers_enabled),
    )


def _text(switch: bool) -> str:
    return "true" if switch else "false"
