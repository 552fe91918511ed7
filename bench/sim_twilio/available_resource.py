"""AvailablePhoneNumbers: countries, types, filters and their limits.

Source: Twilio, "AvailablePhoneNumber resource"; the 2010 OpenAPI document for the parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.sim_twilio.account import API_VERSION, E164
from bench.sim_twilio.market import COUNTRIES, Country, Offer, pattern
from bench.sim_twilio.rest_error import RestError

if TYPE_CHECKING:
    from bench.sim_twilio.sim import TwilioSim

KINDS = {"Local": "local", "TollFree": "toll_free", "Mobile": "mobile"}
"""Path segment and name among the sub-resources. National, Voip … are sold nowhere here: 404."""
_BOOLEANS = frozenset(
    {
        "SmsEnabled", "MmsEnabled", "VoiceEnabled", "FaxEnabled", "Beta", "ExcludeAllAddressRequired",
        "ExcludeLocalAddressRequired", "ExcludeForeignAddressRequired",
    }
)  # fmt: skip
_NORTH_AMERICA = frozenset(
    {
        "AreaCode", "NearNumber", "NearLatLong", "Distance", "InPostalCode", "InRegion",
        "InRateCenter", "InLata",
    }
)  # fmt: skip
SEARCH = _BOOLEANS | _NORTH_AMERICA | {"Contains", "InLocality"}
DISTANCE_MILES = 25
DISTANCE_MAX_MILES = 500

Params = Mapping[str, Sequence[str]]
Fits = Callable[[Offer], bool]


def countries(account_sid: str) -> dict[str, Any]:
    """The list of countries."""
    uri = f"/{API_VERSION}/Accounts/{account_sid}/AvailablePhoneNumbers.json"
    shown = [_country(country, account_sid) for country in COUNTRIES.values()]
    return {"countries": shown, "uri": uri}


def country(code: str, account_sid: str) -> dict[str, Any]:
    """One country. Raises: RestError 20404."""
    return _country(_known(code), account_sid)


def search(
    sim: TwilioSim, account_sid: str, code: str, kind: str, params: Params, limit: int
) -> dict[str, Any]:
    """Numbers for sale. Raises: RestError 20404 for what is not sold, 20001 for a bad value."""
    where = _known(code)
    if kind not in where.areas:
        raise _not_found(f"AvailablePhoneNumbers/{code}/{kind}")
    fits = _filters(where, {name: values[0] for name, values in params.items()})
    owned = sim.numbers

    def free(offer: Offer) -> bool:
        return offer.phone_number not in owned and all(fit(offer) for fit in fits)

    offers = sim.market.offers(where, kind, free, limit)
    return {
        "available_phone_numbers": [offer.resource() for offer in offers],
        "uri": f"/{API_VERSION}/Accounts/{account_sid}/AvailablePhoneNumbers/{code}/{kind}.json",
    }


def _known(code: str) -> Country:
    found = COUNTRIES.get(code)
    if found is None:
        raise _not_found(f"AvailablePhoneNumbers/{code}")
    return found


def _not_found(what: str) -> RestError:
    return RestError(404, 20404, f"The requested resource /{what} was not found")


def _country(shown: Country, account_sid: str) -> dict[str, Any]:
    uri = f"/{API_VERSION}/Accounts/{account_sid}/AvailablePhoneNumbers/{shown.code}"
    return {
        "country_code": shown.code,
        "country": shown.name,
        "uri": uri + ".json",
        "beta": False,
        "subresource_uris": {KINDS[kind]: f"{uri}/{kind}.json" for kind in shown.areas},
    }


def _bad(name: str, value: str) -> RestError:
    return RestError(400, 20001, f"Invalid value for {name}: {value}"[:200])


def _filters(where: Country, given: Mapping[str, str]) -> list[Fits]:
    _check(where, given)
    address = where.address_requirements
    fits: list[Fits] = []
    if given.get("FaxEnabled") == "true":  # sold nowhere any more
        fits.append(lambda offer: False)
    if given.get("SmsEnabled") == "true":
        fits.append(lambda offer: offer.can_send_sms)
    if given.get("MmsEnabled") == "true":
        fits.append(lambda offer: where.code in ("US", "CA"))
    for name, excluded in (
        ("ExcludeAllAddressRequired", ("any", "local", "foreign")),
        ("ExcludeLocalAddressRequired", ("local",)),
        ("ExcludeForeignAddressRequired", ("foreign",)),
    ):
        if given.get(name) == "true" and address in excluded:
            fits.append(lambda offer: False)
    if "AreaCode" in given:
        prefix = "+1" + given["AreaCode"]
        fits.append(lambda offer: offer.phone_number.startswith(prefix))
    if "Contains" in given:
        wanted = pattern(given["Contains"])
        fits.append(lambda offer: wanted.search(offer.phone_number) is not None)
    for name, attribute in (
        ("InLocality", "locality"),
        ("InRegion", "region"),
        ("InPostalCode", "postal_code"),
        ("InLata", "lata"),
        ("InRateCenter", "locality"),
    ):
        if name in given:
            fits.append(_equals(attribute, given[name]))
    if "NearNumber" in given:
        area = where.area_near(given["NearNumber"])
        place = (area.latitude, area.longitude) if area else (None, None)
        fits.append(_within(*place, given.get("Distance")))
    if "NearLatLong" in given:
        fits.append(_within(*given["NearLatLong"].split(","), given.get("Distance")))
    return fits


def _equals(attribute: str, wanted: str) -> Fits:
    return lambda offer: (getattr(offer.area, attribute) or "").lower() == wanted.lower()


def _within(latitude: str | None, longitude: str | None, miles: str | None) -> Fits:
    if latitude is None or longitude is None:
        return lambda offer: False
    at, distance = (float(latitude), float(longitude)), int(miles or DISTANCE_MILES)
    return lambda offer: offer.area.miles_to(*at) <= distance


def _check(where: Country, given: Mapping[str, str]) -> None:
    for name, value in given.items():
        if name in _BOOLEANS and value not in ("true", "false"):
            raise _bad(name, value)
        if name in _NORTH_AMERICA and where.code not in ("US", "CA"):
            raise RestError(400, 20001, f"{name} applies to the US and Canada only")
    forms = {
        "AreaCode": r"\d{3}",
        "Contains": r"[0-9A-Za-z*%+$]{2,16}",
        "InRegion": r"[A-Za-z]{2}",
        "Distance": r"\d{1,3}",
        "NearNumber": E164.pattern,
        "NearLatLong": r"-?[\d.]+,-?[\d.]+",
    }
    for name, form in forms.items():
        if name in given and not re.fullmatch(form, given[name]):
            raise _bad(name, given[name])
    if int(given.get("Distance", "0")) > DISTANCE_MAX_MILES:
        raise _bad("Distance", given["Distance"])
    if "InRateCenter" in given and "InLata" not in given:
        raise RestError(400, 20001, "InRateCenter needs InLata")
