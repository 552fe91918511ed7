"""Credentials at Twilio and ElevenLabs, the webhooks of numbers, and the clock; by requests that only read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from control.clock import Clock
from control.config import Settings
from control.doctor.records import OwnNumber
from control.doctor.values import Finding, fail, ok, warn
from control.elevenlabs.rest import (
    REPLY_TIMEOUT_S,
    ElevenLabsRefused,
    ElevenLabsRest,
    ElevenLabsUnavailable,
)
from control.numbers import wiring
from control.twilio import accounts
from control.twilio import numbers as twilio_numbers
from control.twilio.rest import TwilioError, TwilioRefused, TwilioRest
from control.urls import PublicUrls
from policy import mask_numbers

READ_TIMEOUT_S = 15.0
CLOCK_WARN_S = 2.0
CLOCK_FAIL_S = 30.0
SHOWN_MAX = 5
"""Numbers named in one line."""


class Offsets:
    """How far this machine's clock is from that of each provider, by the `Date` of its answers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.by_provider: dict[str, float] = {}

    def date(self, provider: str, said_date: str | None) -> None:
        """An answer has come. Its date has whole seconds: half of one is added."""
        try:
            said = parsedate_to_datetime(said_date or "")
        except ValueError:
            return
        if said.tzinfo is None:
            said = said.replace(tzinfo=UTC)
        offset_s = (self._clock.now() - said).total_seconds() - 0.5
        known = self.by_provider.get(provider)
        if known is None or abs(offset_s) < abs(known):
            self.by_provider[provider] = offset_s

    def finding(self) -> Finding:
        """The worst of them."""
        if not self.by_provider:
            advice = "nothing to do if time is synchronised otherwise (timedatectl)"
            return warn("clock", "no provider told the time", advice)
        provider, offset_s = max(self.by_provider.items(), key=lambda item: abs(item[1]))
        text = f"{offset_s:+.1f} s against {provider}"
        if abs(offset_s) >= CLOCK_FAIL_S:
            return fail("clock", text, "synchronise it: calling hours are judged by this clock")
        if abs(offset_s) >= CLOCK_WARN_S:
            return warn("clock", text, "synchronise it (timedatectl set-ntp true)")
        return ok("clock", text)


async def twilio(settings: Settings, own: Sequence[OwnNumber], offsets: Offsets) -> list[Finding]:
    """The account's credentials, then the webhooks of its numbers and its subaccounts' numbers."""
    rest = TwilioRest(settings.twilio, read_timeout_s=READ_TIMEOUT_S)

    def dated(response: Any, **_: Any) -> None:
        offsets.date("Twilio", response.headers.get("Date"))

    rest.client.http_client.session.hooks["response"].append(dated)
    try:
        account = await accounts.fetch(rest, settings.twilio.account_sid)
    except TwilioRefused as error:
        advice = "look at twilio.account_sid and twilio.auth_token"
        return [fail("twilio credentials", str(error), advice)]
    except TwilioError as error:
        return [
            fail("twilio credentials", str(error), "look at the network and twilio.api_base_url")
        ]
    else:
        if account is None:
            return [fail("twilio credentials", "there is no such account", "twilio.account_sid")]
        if account.status != accounts.ACTIVE:
            text = f"the account is {account.status}"
            return [fail("twilio credentials", text, "no call is possible: ask Twilio")]
        return [
            ok("twilio credentials", f"are accepted, the account is {account.status}"),
            await _wired(rest, settings, own),
        ]
    finally:
        rest.close()


async def _wired(rest: TwilioRest, settings: Settings, own: Sequence[OwnNumber]) -> Finding:
    check = "webhooks of numbers"
    if not own:
        return ok(check, "there are no numbers yet")
    wanted = wiring.wanted(PublicUrls(settings.public.url, settings.public.media_url))
    by_account: dict[str | None, list[str]] = defaultdict(list)
    for one in own:
        by_account[one.account_sid].append(one.e164)
    wrong: list[str] = []
    for account_sid, e164s in by_account.items():
        try:
            owned = await twilio_numbers.all_owned(_acting_in(rest, settings, account_sid))
        except TwilioError as error:
            return fail(check, f"of {account_sid or 'the main account'}: {error}", "see above")
        found = {number.e164: number for number in owned}
        for e164 in e164s:
            number = found.get(e164)
            if number is None:
                wrong.append(f"{mask_numbers(e164)} is not in the account")
            elif different := wiring.differences(number.webhooks, wanted):
                wrong.append(f"{mask_numbers(e164)}: {', '.join(different)}")
    if not wrong:
        return ok(check, f"all {len(own)} lead here")
    more = f"; and {len(wrong) - SHOWN_MAX} more" if len(wrong) > SHOWN_MAX else ""
    advice = "a running daemon puts webhooks back at its next look; what is gone has to be replaced"
    return fail(check, "; ".join(wrong[:SHOWN_MAX]) + more, advice)


def _acting_in(rest: TwilioRest, settings: Settings, account_sid: str | None) -> TwilioRest:
    """The main account's credentials are good for its subaccounts too."""
    if account_sid is None or account_sid == settings.twilio.account_sid:
        return rest
    return TwilioRest(settings.twilio, shares=rest, account_sid=account_sid)


class _Dated(httpx.AsyncHTTPTransport):
    """Tells the date of every answer."""

    def __init__(self, offsets: Offsets) -> None:
        super().__init__()
        self._offsets = offsets

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self._offsets.date("ElevenLabs", response.headers.get("date"))
        return response


async def elevenlabs(settings: Settings, offsets: Offsets) -> Finding:
    """Whether the key is accepted for reading agents."""
    check = "elevenlabs credentials"
    rest = ElevenLabsRest(
        settings.elevenlabs, reply_timeout_s=REPLY_TIMEOUT_S, transport=_Dated(offsets)
    )
    async with rest:
        try:
            await rest.request("agents.list", "GET", "/v1/convai/agents", query={"page_size": "1"})
        except ElevenLabsRefused as error:
            return fail(check, str(error), "look at elevenlabs.api_key and what it may do")
        except ElevenLabsUnavailable as error:
            return fail(check, str(error), "look at the network and elevenlabs.base_url")
    return ok(check, "are accepted")
