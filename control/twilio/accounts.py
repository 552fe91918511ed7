"""Twilio's Accounts and Keys, on the shared transport; every function takes the main account's client.

Every function raises TwilioRefused, TwilioUnreachable and TwilioUncertain.
Source: Twilio docs, "Account resource", "Key resource (v2010)"; keys of the kind "standard", which can do
everything in their account but manage accounts and keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from control.twilio.errors import TwilioRefused
from control.twilio.rest import TwilioRest

ACTIVE = "active"
SUSPENDED = "suspended"
CLOSED = "closed"
NAME_MAX_CHARS = 64


@dataclass(frozen=True, slots=True)
class Account:
    """A subaccount as Twilio shows it."""

    sid: str
    name: str
    status: str
    auth_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, the only time that its secret is shown."""

    sid: str
    secret: str = field(repr=False)


async def create(main: TwilioRest, name: str) -> Account:
    """Make a subaccount. Never sent twice when its outcome is uncertain."""
    made = partial(main.client.api.v2010.accounts.create, friendly_name=name)
    return _account(await main.ask("accounts.create", made, repeatable=False))


async def by_name(main: TwilioRest, name: str) -> Account | None:
    """The oldest subaccount of exactly this name that is not closed."""
    listed = partial(main.client.api.v2010.accounts.list, friendly_name=name, limit=50)
    found = await main.ask("accounts.list", listed)
    mine = [one for one in found if one.friendly_name == name and str(one.status) != CLOSED]
    mine.sort(key=lambda one: (one.date_created is None, one.date_created, one.sid))
    return _account(mine[0]) if mine else None


async def fetch(main: TwilioRest, sid: str) -> Account | None:
    """The subaccount; None when there is none."""
    try:
        return _account(await main.ask("accounts.fetch", main.client.api.v2010.accounts(sid).fetch))
    except TwilioRefused as refusal:
        if refusal.status == 404:
            return None
        raise


async def set_status(main: TwilioRest, sid: str, status: str) -> Account:
    """Suspend, resume or close (for good) a subaccount."""
    change = partial(main.client.api.v2010.accounts(sid).update, status=status)
    return _account(await main.ask("accounts.update", change))


async def rename(main: TwilioRest, sid: str, name: str) -> Account:
    """Give a subaccount another name."""
    change = partial(main.client.api.v2010.accounts(sid).update, friendly_name=name)
    return _account(await main.ask("accounts.update", change))


async def mint_key(main: TwilioRest, account_sid: str, name: str) -> Key:
    """Make an API key in a subaccount. Never sent twice when its outcome is uncertain."""
    keys = main.client.api.v2010.accounts(account_sid).new_keys
    made = await main.ask("keys.create", partial(keys.create, friendly_name=name), repeatable=False)
    return Key(sid=str(made.sid), secret=str(made.secret))


async def keys_named(main: TwilioRest, account_sid: str, name: str) -> list[str]:
    """SIDs of a subaccount's keys of exactly this name."""
    keys = main.client.api.v2010.accounts(account_sid).keys
    found = await main.ask("keys.list", partial(keys.list, limit=1000))
    return [str(one.sid) for one in found if one.friendly_name == name]


async def revoke_key(main: TwilioRest, account_sid: str, sid: str) -> bool:
    """Delete a key. False when it was gone already."""
    key = main.client.api.v2010.accounts(account_sid).keys(sid)
    try:
        await main.ask("keys.delete", key.delete)
    except TwilioRefused as refusal:
        if refusal.status == 404:
            return False
        raise
    return True


def _account(shown: Any) -> Account:
    return Account(
        sid=str(shown.sid),
        name=str(shown.friendly_name or ""),
        status=str(shown.status),
        auth_token=str(shown.auth_token or ""),
    )
