"""Twilio's usage records: what an account used and what it costs, by category.

Source: Twilio docs, "Usage Records": one record for each category over the days from `start_date` to `end_date`,
both included, in the account's days (GMT).
"""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Any

from control.twilio.conferences import Asking

RECORDS_MAX = 1000


async def usage_records(twilio: Asking, first: date, last: date) -> list[dict[str, Any]]:
    """Used categories, with `category, description, count, count_unit, usage, usage_unit, price, price_unit`.

    Raises TwilioRefused, TwilioUnreachable, TwilioUncertain.
    """
    found = await twilio.ask(
        "usage.records",
        partial(
            twilio.client.usage.records.list,
            start_date=first,
            end_date=last,
            include_subaccounts=False,
            limit=RECORDS_MAX,
        ),
    )
    return [shown for shown in map(_shown, found) if shown["count"] or shown["price"]]


def _shown(record: Any) -> dict[str, Any]:
    return {
        "category": str(record.category),
        "description": str(record.description or ""),
        "count": _number(record.count),
        "count_unit": record.count_unit or None,
        "usage": _number(record.usage),
        "usage_unit": record.usage_unit or None,
        "price": _number(record.price),
        "price_unit": record.price_unit or None,
    }


def _number(value: Any) -> float:
    """Twilio's decimals come as texts and as numbers."""
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0
