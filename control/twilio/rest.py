"""Twilio's REST API: the only module that talks to it, through the official client, in threads.

Errors say what is known afterwards, because creating a call is not idempotent:

    TwilioRefused       it answered no: nothing was done
    TwilioUnreachable   no byte of the request was written: nothing was done
    TwilioUncertain     the request left and no usable answer came: it may have been done

Only what surely was not done is tried again (429, connection refused), with a bounded back-off; requests
that may be repeated (reading, ending a call, setting a number's webhooks) are also tried again after an
uncertain answer.

Source: Twilio docs, "Calls", "IncomingPhoneNumbers", "Error 20429", "Error 20500".
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import trio
from twilio.rest import Client

from control.twilio.calls import CallRequests, CallSeen, Created
from control.twilio.errors import TwilioError, TwilioRefused, TwilioUncertain, TwilioUnreachable
from control.twilio.flights import Flights
from control.twilio.translation import translated
from control.twilio.transport import THREADS_MAX, Transport

__all__ = [
    "CallSeen",
    "Created",
    "OwnedNumber",
    "TwilioError",
    "TwilioRefused",
    "TwilioRest",
    "TwilioUncertain",
    "TwilioUnreachable",
]

READ_TIMEOUT_S = 30.0
"""Twilio gives up by itself after up to 26 s: a shorter wait would make known outcomes uncertain."""
ATTEMPTS_MAX = 5
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 30.0
BACKOFF_JITTER = 0.1
AT_ONCE_MAX = 16
"""Requests at once for one account; those of all accounts share `THREADS_MAX`."""


class _Revealing(Protocol):
    def reveal(self) -> str: ...


class TwilioAccount(Protocol):
    """The `[twilio]` section of the configuration, as far as it is needed here."""

    @property
    def account_sid(self) -> str: ...
    @property
    def auth_token(self) -> _Revealing: ...
    @property
    def api_base_url(self) -> str: ...
    @property
    def edge(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...


class OwnedNumber(NamedTuple):
    """A number of the account."""

    sid: str
    e164: str
    status: str | None
    voice_url: str | None
    voice_fallback_url: str | None
    status_callback: str | None


class TwilioRest(CallRequests):
    """One account's REST client. `count(endpoint, outcome)` is called once for each HTTP request.

    Credentials are changed in place (`act_as`): whoever holds the client, or a resource of it, goes on with
    the new ones. `renew`, if set, is asked once when Twilio does not accept the credentials; true: they were
    changed, and the request is sent again, because a 401 surely did nothing.
    """

    def __init__(
        self,
        settings: TwilioAccount,
        *,
        count: Callable[[str, str], None] = lambda endpoint, outcome: None,
        read_timeout_s: float = READ_TIMEOUT_S,
        shares: TwilioRest | None = None,
        account_sid: str | None = None,
    ) -> None:
        self._settings = settings
        self._count = count
        self._at_once = trio.CapacityLimiter(AT_ONCE_MAX)
        self._threads: trio.CapacityLimiter = (
            shares._threads if shares else trio.CapacityLimiter(THREADS_MAX)
        )
        self._http: Transport = (
            shares._http if shares else Transport(settings.api_base_url, read_timeout_s)
        )
        self._flights = Flights()
        self.renew: Callable[[], Awaitable[bool]] | None = None
        self.observe: Callable[[str, float], None] = lambda endpoint, seconds: None
        """Told how long each request took, the wait for its turn included."""
        self._client = Client(
            settings.account_sid,
            settings.auth_token.reveal(),
            account_sid,
            http_client=self._http,
            region=settings.region or None,
            edge=settings.edge or None,
            # Not empty, or the client would look into the process's own environment.
            environment={"TANDEM": "1"},
        )
        if shares is None:
            # The client imports its resources when they are first used: half a second of the event loop.
            self._client.api.v2010  # noqa: B018

    def for_account(self, account_sid: str, key_sid: str, secret: str) -> TwilioRest:
        """A client that acts in another account, with a key of that account; connections are shared."""
        other = TwilioRest(self._settings, count=self._count, shares=self, account_sid=account_sid)
        other.observe = self.observe
        other.act_as(key_sid, secret)
        return other

    def act_as(self, key_sid: str, secret: str) -> int:
        """Use these credentials from now on. What is returned is for `settled`."""
        self._client.username, self._client.password = key_sid, secret
        self._client.auth = (key_sid, secret)
        return self._flights.turn()

    async def settled(self, before: int) -> None:
        """Wait until no request is under way that was begun before `act_as` returned this."""
        await self._flights.landed(before)

    @property
    def account_sid(self) -> str:
        """The account that this client acts in."""
        return str(self._client.account_sid)

    @property
    def key_sid(self) -> str:
        """Whose credentials it uses: a key's SID, or the account's own."""
        return str(self._client.auth[0])

    def close(self) -> None:
        """Give the pooled connections back."""
        self._http.session.close()

    @property
    def client(self) -> Any:
        """Twilio's own client, for resources that have a module of their own; run them by `ask`."""
        return self._client

    async def ask(
        self, endpoint: str, request: Callable[[], Any], *, repeatable: bool = True
    ) -> Any:
        """Run one blocking request of `client` in a thread, with deadlines and back-off.

        `endpoint` is the metrics' name for it. `repeatable`: may be sent again after an uncertain answer.
        Raises TwilioRefused, TwilioUnreachable, TwilioUncertain.
        """
        return await self._ask(endpoint, request, repeatable=repeatable)

    async def find_number(self, e164: str) -> OwnedNumber | None:
        """The account's number `e164`, or None when the account does not own it."""
        found = await self._ask(
            "numbers.list",
            partial(self._client.incoming_phone_numbers.list, phone_number=e164, limit=20),
        )
        # The filter matches parts of numbers too.
        return next((_owned(number) for number in found if number.phone_number == e164), None)

    async def set_number_webhooks(
        self, sid: str, *, voice_url: str, voice_fallback_url: str, status_callback: str
    ) -> OwnedNumber:
        """Route a number's calls to us."""
        number = await self._ask(
            "numbers.update",
            partial(
                self._client.incoming_phone_numbers(sid).update,
                voice_url=voice_url,
                voice_method="POST",
                voice_fallback_url=voice_fallback_url,
                voice_fallback_method="POST",
                status_callback=status_callback,
                status_callback_method="POST",
            ),
        )
        return _owned(number)

    async def _ask(
        self, endpoint: str, request: Callable[[], Any], *, repeatable: bool = True
    ) -> Any:
        delay_s = BACKOFF_FIRST_S
        may_renew = self.renew is not None
        for left in reversed(range(ATTEMPTS_MAX)):
            try:
                return await self._once(endpoint, request)
            except TwilioRefused as refusal:
                if refusal.status == 401 and may_renew and left:
                    may_renew = False
                    if await self._renewed():
                        continue
                if refusal.status != 429 or not left:
                    raise
            except TwilioUnreachable:
                if not left:
                    raise
            except TwilioUncertain:
                if not repeatable or not left:
                    raise
            await trio.sleep(delay_s * random.uniform(1 - BACKOFF_JITTER, 1 + BACKOFF_JITTER))
            delay_s = min(delay_s * 2, BACKOFF_MAX_S)
        raise AssertionError("unreachable")

    async def _renewed(self) -> bool:
        return self.renew is not None and await self.renew()

    async def _once(self, endpoint: str, request: Callable[[], Any]) -> Any:
        # A thread cannot be cancelled, only left behind: whoever dials has recorded the intent before.
        outcome = "uncertain"
        began_s = trio.current_time()
        try:
            async with self._at_once:
                answer = await self._in_thread(request)
            outcome = "ok"
        except TwilioRefused as refusal:
            outcome = "busy" if refusal.status == 429 else "refused"
            raise
        except TwilioUnreachable:
            outcome = "unreachable"
            raise
        finally:
            self._count(endpoint, outcome)
            self.observe(endpoint, trio.current_time() - began_s)
        return answer

    async def _in_thread(self, request: Callable[[], Any]) -> Any:
        # Counted until the thread itself is done: one that was left behind still uses the credentials.
        flight = self._flights.take_off()
        has_begun = False

        def run() -> Any:
            nonlocal has_begun
            has_begun = True
            try:
                return translated(request)
            finally:
                flight.land()

        try:
            return await trio.to_thread.run_sync(run, limiter=self._threads, abandon_on_cancel=True)
        finally:
            if not has_begun:
                flight.land()


def _owned(number: Any) -> OwnedNumber:
    return OwnedNumber(
        sid=number.sid,
        e164=number.phone_number,
        status=number.status,
        voice_url=number.voice_url,
        voice_fallback_url=number.voice_fallback_url,
        status_callback=number.status_callback,
    )
