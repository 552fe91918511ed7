"""Telephone numbers of tenants: searched, bought once, adopted, wired to us, checked, released.

numbers = Numbers(store, access, urls, clock)
record = await numbers.buy(tenant_id, NumberWish(country="US", area_code="843"),
                           agent_id=agent.id, intent_key=f"{agent.id}/number")

values     what travels: wishes, candidates, problems
plan       what a wish or an E.164 number has to look like, from numbering plans; pure
search     what Twilio has to sell, and what it has near by when it has nothing
buying     the purchase: an intent is committed before each request, so a killed process buys nothing twice
wiring     which URLs a number has to have, and putting them back; pure but for one request
refusals   Twilio's codes in words a person can act on; what a country wants to see first
papers     what countries and carriers want to see: regulatory bundles, filed and reviewed
trust      Trust Hub: customer profile, SHAKEN/STIR, CNAM
service    `Numbers`: all of it for the rest of the daemon
"""

from __future__ import annotations

from control.numbers.service import Numbers
from control.numbers.values import Candidate, Checked, Missing, Nearby, NumberProblem, NumberWish
from control.store.numbers import NumberRecord

__all__ = [
    "Candidate",
    "Checked",
    "Missing",
    "Nearby",
    "NumberProblem",
    "NumberRecord",
    "NumberWish",
    "Numbers",
]
