"""Usage records: what an account's calls and messages come to, by category, over days of GMT.

Source: Twilio, "Usage Records". Only categories that this simulator can have are listed, as Twilio lists only
those that an account has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from bench.sim_twilio.account import API_VERSION
from bench.sim_twilio.rest_error import RestError

if TYPE_CHECKING:
    from bench.sim_twilio.sim import TwilioSim

LIST = frozenset({"Category", "StartDate", "EndDate", "IncludeSubaccounts"})
MINUTE_PRICE = {"calls-inbound": 0.0085, "calls-outbound": 0.0140}
MESSAGE_PRICE = 0.0079

Params: TypeAlias = Mapping[str, Sequence[str]]


def select(sim: TwilioSim, owner: str, params: Params) -> list[dict[str, Any]]:
    """The account's records over the days asked for. Raises RestError."""
    today = sim.now().date()
    first = _day(params, "StartDate", today, date(today.year, today.month, 1))
    last = _day(params, "EndDate", today, today)
    if first > last:
        raise RestError(400, 20001, "StartDate lies after EndDate")
    own = sim.calls_of(owner)
    calls = [
        call
        for call in (*own, *(leg for one in own for leg in one.children))
        if call.ended_at is not None and first <= _date(call.created_at) <= last
    ]
    texts = [m for m in sim.post.messages.values() if m.account_sid == owner]
    records = []
    total = 0.0
    for category in ("calls-inbound", "calls-outbound"):
        is_inbound = category.endswith("inbound")
        mine = [call for call in calls if (call.direction == "inbound") is is_inbound]
        minutes = sum(math.ceil(call.duration_s / 60) for call in mine)
        price = round(minutes * MINUTE_PRICE[category], 5)
        total += price
        records.append((category, len(mine), "calls", minutes, "minutes", price))
    sent = [m for m in texts if first <= _date(m.created_at) <= last]
    price = round(len(sent) * MESSAGE_PRICE, 5)
    total += price
    records.append(("sms", len(sent), "messages", len(sent), "messages", price))
    records.append(("totalprice", round(total, 5), "usd", round(total, 5), "usd", round(total, 5)))
    wanted = params.get("Category", [""])[0]
    return [
        _resource(owner, first, last, sim.now(), *record)
        for record in records
        if not wanted or record[0] == wanted
    ]


def _date(at: datetime) -> date:
    return at.date()


def _day(params: Params, name: str, today: date, default: date) -> date:
    given = params.get(name, [""])[0]
    if not given:
        return default
    try:
        if given.endswith("days"):
            return today + timedelta(days=int(given.removesuffix("days")))
        return date.fromisoformat(given)
    except ValueError:
        raise RestError(400, 20001, f"Invalid {name}") from None


def _resource(
    owner: str,
    first: date,
    last: date,
    now: datetime,
    category: str,
    count: float,
    count_unit: str,
    usage: float,
    usage_unit: str,
    price: float,
) -> dict[str, Any]:
    return {
        "account_sid": owner,
        "api_version": API_VERSION,
        "as_of": now.isoformat(timespec="seconds"),
        "category": category,
        "count": str(count),
        "count_unit": count_unit,
        "description": category.replace("-", " "),
        "start_date": first.isoformat(),
        "end_date": last.isoformat(),
        "price": price,
        "price_unit": "usd",
        "usage": str(usage),
        "usage_unit": usage_unit,
        "subresource_uris": {},
        "uri": f"/{API_VERSION}/Accounts/{owner}/Usage/Records.json?Category={category}",
    }
