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

import json
import random
import ssl
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, TypeVar

import requests
import trio
import urllib3.exceptions
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http.response import Response
from twilio.rest import Client

from control.twilio.calls import CallRequests, CallSeen, Created
from control.twilio.errors import TwilioError, TwilioRefused, TwilioUncertain, TwilioUnreachable
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


T = TypeVar("T")


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
    """One account's REST client. `count(endpoint, outcome)` is called once for each HTTP request."""

    def __init__(
        self,
        settings: TwilioAccount,
        *,
        count: Callable[[str, str], None] = lambda endpoint, outcome: None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._limiter = trio.CapacityLimiter(THREADS_MAX)
        self._count = count
        http = Transport(settings.api_base_url, read_timeout_s)
        self._client = Client(
            settings.account_sid,
            settings.auth_token.reveal(),
            http_client=http,
            region=settings.region or None,
            edge=settings.edge or None,
            # Not empty, or the client would look into the process's own environment.
            environment={"TANDEM": "1"},
        )
        self._http = http

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
        for left in reversed(range(ATTEMPTS_MAX)):
            try:
                return await self._once(endpoint, request)
            except TwilioRefused as refusal:
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

    async def _once(self, endpoint: str, request: Callable[[], Any]) -> Any:
        # A thread cannot be cancelled, only left behind: whoever dials has recorded the intent before.
        outcome = "uncertain"
        try:
            answer = await trio.to_thread.run_sync(
                partial(_translated, request), limiter=self._limiter, abandon_on_cancel=True
            )
            outcome = "ok"
        except TwilioRefused as refusal:
            outcome = "busy" if refusal.status == 429 else "refused"
            raise
        except TwilioUnreachable:
            outcome = "unreachable"
            raise
        finally:
            self._count(endpoint, outcome)
        return answer


def _translated(request: Callable[[], T]) -> T:
    """Run the request; foreign exceptions leave as ours."""
    try:
        return request()
    except (TwilioRestException, TwilioServiceException) as error:
        raise _refusal_or_doubt(error) from error
    except requests.exceptions.ConnectionError as error:  # includes ConnectTimeout
        if _nothing_written(error):
            raise TwilioUnreachable(f"no connection to Twilio: {_cause(error)}") from error
        raise TwilioUncertain(f"connection to Twilio lost: {_cause(error)}") from error
    except requests.exceptions.RequestException as error:
        raise TwilioUncertain(f"no answer from Twilio: {type(error).__name__}") from error
    except TwilioException as error:
        raise _of_page(error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # The client reads the answer's JSON without looking: whatever is odd there ends here.
        raise TwilioUncertain(f"unreadable answer from Twilio: {type(error).__name__}") from error


def _of_page(error: TwilioException) -> TwilioError:
    """A list that was refused: the client only says that it has no page, and hands over the answer."""
    response = error.args[1] if len(error.args) > 1 else None
    if not isinstance(response, Response) or response.status_code < 400:
        return TwilioUncertain(f"unreadable answer from Twilio: {type(error).__name__}")
    try:
        body = json.loads(response.text)
    except ValueError:
        body = None
    told = body if isinstance(body, dict) else {}
    return _refusal_or_doubt(
        SimpleNamespace(
            status=response.status_code,
            code=told.get("code"),
            msg=told.get("message") or told.get("detail") or told.get("title") or "",
        )
    )


def _refusal_or_doubt(error: Any) -> TwilioError:
    status = error.status if isinstance(error.status, int) else 0
    if status >= 500 or status == 408 or status < 300:
        return TwilioUncertain(f"Twilio failed with HTTP {status}")
    text = (
        getattr(error, "msg", None) or getattr(error, "detail", None) or getattr(error, "title", "")
    )
    code = error.code if isinstance(error.code, int) else 0
    return TwilioRefused(status, code, str(text)[:300])


def _nothing_written(error: requests.exceptions.ConnectionError) -> bool:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    if isinstance(reason, urllib3.exceptions.SSLError):
        # Other TLS errors may also come while the answer is read.
        return any(isinstance(inner, ssl.SSLCertVerificationError) for inner in reason.args)
    return isinstance(
        reason,
        urllib3.exceptions.NewConnectionError
        | urllib3.exceptions.ConnectTimeoutError
        | urllib3.exceptions.ProxyError,
    )


def _cause(error: BaseException) -> str:
    cause = error.args[0] if error.args else error
    return type(getattr(cause, "reason", cause)).__name__


def _owned(number: Any) -> OwnedNumber:
    return OwnedNumber(
        sid=number.sid,
        e164=number.phone_number,
        status=number.status,
        voice_url=number.voice_url,
        voice_fallback_url=number.voice_fallback_url,
        status_callback=number.status_callback,
    )
