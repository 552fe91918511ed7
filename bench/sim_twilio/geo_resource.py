"""Voice dialling permissions of each account. Source: Twilio, "Voice dialing permissions"; voice v1 document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench.sim_twilio.rest_error import RestError

BASE = "/v1/DialingPermissions"
_HOST = "https://voice.twilio.com"
_WORLD = {
    "US": ("United States/Canada", "+1", "NORTH_AMERICA"),
    "GB": ("United Kingdom", "+44", "EUROPE"),
    "DE": ("Germany", "+49", "EUROPE"),
    "CU": ("Cuba", "+53", "NORTH_AMERICA"),
    "LV": ("Latvia", "+371", "EUROPE"),
}
KINDS = (
    "low_risk_numbers_enabled",
    "high_risk_special_numbers_enabled",
    "high_risk_tollfraud_numbers_enabled",
)


class Geo:
    """What each account may dial. A subaccount begins with what it inherits."""

    def __init__(self) -> None:
        self.allowed: dict[str, dict[str, dict[str, bool]]] = {}
        self.inherits: dict[str, bool] = {}
        self.high_risk: dict[str, list[str]] = {"LV": ["+37181"]}
        """High-risk special prefixes by country."""

    def of(self, account_sid: str) -> dict[str, dict[str, bool]]:
        """The switches of an account, by country; the home country is open at first."""
        return self.allowed.setdefault(
            account_sid,
            {iso: {kind: iso == "US" and kind == KINDS[0] for kind in KINDS} for iso in _WORLD},
        )

    def answer(
        self, owner: str, method: str, path: str, pairs: Sequence[tuple[str, str]]
    ) -> tuple[int, Any] | None:
        """Status and body; None when the path is not of this product. Raises: RestError."""
        given = dict(pairs)
        if path == "/v1/Settings":
            if method == "POST":
                self.inherits[owner] = given.get("DialingPermissionsInheritance") == "true"
            shown = {
                "dialing_permissions_inheritance": self.inherits.get(owner, True),
                "url": f"{_HOST}/v1/Settings",
            }
            return (202 if method == "POST" else 200), shown
        if not path.startswith(BASE):
            return None
        match method, path[len(BASE) :].strip("/").split("/"):
            case "GET", ["Countries"]:
                wanted = given.get("IsoCode")
                found = [self._shown(owner, iso) for iso in _WORLD if wanted in (None, iso)]
                return 200, _page(found)
            case "GET", ["Countries", iso] if iso in _WORLD:
                return 200, self._shown(owner, iso)
            case "GET", ["Countries", iso, "HighRiskSpecialPrefixes"] if iso in _WORLD:
                prefixes = [{"prefix": prefix} for prefix in self.high_risk.get(iso, ())]
                return 200, _page(prefixes)
            case "POST", ["BulkCountryUpdates"]:
                return 201, self._update(owner, given)
        raise RestError(404, 20404, f"The requested resource {path} was not found")

    def _update(self, owner: str, given: dict[str, str]) -> dict[str, Any]:
        if set(given) != {"UpdateRequest"}:
            raise RestError(400, 20001, "UpdateRequest is the one parameter")
        try:
            wanted = json.loads(given["UpdateRequest"])
        except ValueError:
            raise RestError(400, 20001, "UpdateRequest is not JSON") from None
        for one in wanted:
            switches = {kind: one.get(kind) for kind in KINDS}
            if one.get("iso_code") not in _WORLD:
                raise RestError(400, 20001, f"iso_code {one.get('iso_code')} is not known")
            # Texts, not booleans: so the document has it.
            if set(one) != {"iso_code", *KINDS} or set(switches.values()) - {"true", "false"}:
                raise RestError(400, 20001, "Each country needs its three switches as texts")
        for one in wanted:
            self.of(owner)[one["iso_code"]] = {kind: one[kind] == "true" for kind in KINDS}
        return {"update_count": len(wanted), "update_request": "accepted"}

    def _shown(self, owner: str, iso: str) -> dict[str, Any]:
        name, code, continent = _WORLD[iso]
        url = f"{_HOST}{BASE}/Countries/{iso}"
        return {
            "iso_code": iso,
            "name": name,
            "country_codes": [code],
            "continent": continent,
            **self.of(owner)[iso],
            "url": url,
            "links": {"highrisk_special_prefixes": f"{url}/HighRiskSpecialPrefixes"},
        }


def _page(items: list[dict[str, Any]]) -> dict[str, Any]:
    url = f"{_HOST}{BASE}/Countries?PageSize=50&Page=0"
    meta = {
        "page": 0,
        "page_size": 50,
        "first_page_url": url,
        "previous_page_url": None,
        "url": url,
        "next_page_url": None,
        "key": "content",
    }
    return {"content": items, "meta": meta}
