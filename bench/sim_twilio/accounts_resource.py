"""Accounts.json and Keys.json: subaccounts, API keys, and who may act in which account.

Source: Twilio, "Account resource", "Key resource", "REST API: requests" (credentials), error dictionary. What
Twilio does not document is marked below.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bench.sim_twilio.account import API_VERSION, new_sid, rfc2822
from bench.sim_twilio.rest_error import RestError

CREATE = frozenset({"FriendlyName"})
UPDATE = frozenset({"FriendlyName", "Status"})
LIST = frozenset({"FriendlyName", "Status"})
KEY_CREATE = KEY_UPDATE = frozenset({"FriendlyName"})
NAME_MAX_CHARS = 64
SUBACCOUNTS_MAX = 1_000
STATUSES = frozenset({"active", "suspended", "closed"})
_CHILDREN = {
    "calls": "Calls",
    "incoming_phone_numbers": "IncomingPhoneNumbers",
    "keys": "Keys",
    "messages": "Messages",
    "usage": "Usage",
}

Params = Mapping[str, Sequence[str]]


@dataclass(slots=True)
class SubAccount:
    """An account: the main one, or one below it."""

    sid: str
    auth_token: str
    owner_sid: str
    friendly_name: str
    created_at: datetime
    status: str = "active"
    updated_at: datetime | None = None
    secondary_auth_token: str | None = None

    def resource(self) -> dict[str, Any]:
        """The JSON object of an Account."""
        uri = f"/{API_VERSION}/Accounts/{self.sid}"
        return {
            "sid": self.sid,
            "owner_account_sid": self.owner_sid,
            "friendly_name": self.friendly_name,
            "auth_token": self.auth_token,
            "status": self.status,
            "type": "Full",
            "date_created": rfc2822(self.created_at),
            "date_updated": rfc2822(self.updated_at or self.created_at),
            "uri": uri + ".json",
            "subresource_uris": {name: f"{uri}/{path}.json" for name, path in _CHILDREN.items()},
        }


@dataclass(slots=True)
class ApiKey:
    """A standard key of one account."""

    secret: str
    account_sid: str
    friendly_name: str
    created_at: datetime
    sid: str = field(default_factory=lambda: new_sid("SK"))
    updated_at: datetime | None = None

    def resource(self) -> dict[str, Any]:
        """The JSON object of a Key."""
        return {
            "sid": self.sid,
            "friendly_name": self.friendly_name,
            "date_created": rfc2822(self.created_at),
            "date_updated": rfc2822(self.updated_at or self.created_at),
        }


class Accounts(Mapping[str, SubAccount]):
    """All accounts by SID, the main one among them, and their keys (`keys_by_sid`)."""

    def __init__(self, main: SubAccount, keys: Mapping[str, str]) -> None:
        self.main = main
        self._all = {main.sid: main}
        self.keys_by_sid = {
            sid: ApiKey(secret, main.sid, "", main.created_at, sid=sid)
            for sid, secret in keys.items()
        }

    def __getitem__(self, sid: str) -> SubAccount:
        return self._all[sid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def subaccounts(self) -> list[SubAccount]:
        """Every account but the main one, the oldest first, closed ones too."""
        return [one for one in self.values() if one is not self.main]

    def token_of(self, account_sid: str) -> str:
        """What webhooks of an account are signed with."""
        return self._all.get(account_sid, self.main).auth_token

    # ---- who asks ----------------------------------------------------------------------------

    def check(self, user: str, password: str, path: Sequence[str]) -> str:
        """The account that a request acts in: `path` is what follows `/Accounts`, without `.json`.

        An account acts in itself, the main one in all; a key acts in its account, and has no business with
        accounts and keys. Raises: RestError 20003, 20404, 20005.
        """
        asker, is_key = self._authenticated(user, password)
        target = path[0] if path else asker.sid
        manages = len(path) < 2 or path[1] == "Keys"
        if is_key and manages:
            raise RestError(401, 20003, "Authenticate")
        if target != asker.sid:
            # A stranger's account and one that is not there are not told apart (not documented).
            if asker is not self.main or target not in self._all:
                raise RestError(
                    404, 20404, f"The requested resource /Accounts/{target} was not found"
                )
            if is_key:
                raise RestError(401, 20003, "Authenticate")
        if self._all[target].status != "active" and not (asker is self.main and len(path) < 2):
            raise RestError(403, 20005, "Account not active")
        return target

    def _authenticated(self, user: str, password: str) -> tuple[SubAccount, bool]:
        key = self.keys_by_sid.get(user)
        if key is not None and password and key.secret == password:
            return self._all[key.account_sid], True
        account = self._all.get(user)
        tokens = (account.auth_token, account.secondary_auth_token) if account else ()
        if account is None or not password or password not in tokens:
            raise RestError(401, 20003, "Authenticate")
        return account, False

    # ---- accounts ----------------------------------------------------------------------------

    def create(self, by: str, params: Params, now: datetime) -> SubAccount:
        """A new subaccount. Raises: RestError 20003 by a subaccount, 21480 over the limit."""
        if by != self.main.sid:
            raise RestError(401, 20003, "Authenticate")
        if len(self.subaccounts) >= SUBACCOUNTS_MAX:
            raise RestError(400, 21480, "Account has reached its limit of subaccounts")
        name = _name(params) or f"SubAccount Created at {now:%Y-%m-%d %I:%M %p}"
        made = SubAccount(new_sid("AC"), secrets.token_hex(16), self.main.sid, name, now)
        self._all[made.sid] = made
        return made

    def update(self, by: str, account: SubAccount, params: Params, now: datetime) -> None:
        """Rename, suspend, resume or close. Raises: RestError 21475, 21477, 21479, 20003."""
        status = params.get("Status", [""])[0]
        if status and status not in STATUSES:
            raise RestError(400, 21475, f"Invalid account status: {status}"[:200])
        if status and account is self.main:
            raise RestError(400, 21477, "Account is not a subaccount")
        if status and by != self.main.sid:
            raise RestError(401, 20003, "Authenticate")
        if account.status == "closed":
            raise RestError(400, 21479, "Account is closed and cannot be changed")
        if "FriendlyName" in params:
            account.friendly_name = _name(params)
        account.status = status or account.status
        account.updated_at = now

    def select(self, by: str, params: Params) -> list[SubAccount]:
        """What a list shows: an account itself and those below it, the newest first, exact filters."""
        name, status = (params.get(key, [""])[0] for key in ("FriendlyName", "Status"))
        mine = [one for one in self.values() if by in (one.sid, one.owner_sid)]
        return [
            one
            for one in reversed(mine)
            if name in ("", one.friendly_name) and status in ("", one.status)
        ]

    # ---- keys --------------------------------------------------------------------------------

    def create_key(self, account_sid: str, params: Params, now: datetime) -> dict[str, Any]:
        """A new key; its resource with the secret, which is shown here alone."""
        key = ApiKey(secrets.token_urlsafe(24)[:32], account_sid, _name(params), now)
        self.keys_by_sid[key.sid] = key
        return key.resource() | {"secret": key.secret}

    def keys_of(self, account_sid: str) -> list[ApiKey]:
        """The keys of an account, the oldest first."""
        return [key for key in self.keys_by_sid.values() if key.account_sid == account_sid]

    def key(self, account_sid: str, sid: str) -> ApiKey:
        """One key of the account. Raises: RestError 20404."""
        key = self.keys_by_sid.get(sid)
        if key is None or key.account_sid != account_sid:
            raise RestError(404, 20404, f"The requested resource Keys/{sid} was not found")
        return key


def _name(params: Params) -> str:
    name = params.get("FriendlyName", [""])[0]
    if len(name) > NAME_MAX_CHARS:
        raise RestError(400, 20001, f"FriendlyName is longer than {NAME_MAX_CHARS} characters")
    return name
