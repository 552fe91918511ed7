"""What the official client and the HTTP below it raise, as our errors, which say what is known afterwards."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import requests
import urllib3.exceptions
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http.response import Response

from control.twilio.errors import TwilioError, TwilioRefused, TwilioUncertain, TwilioUnreachable

T = TypeVar("T")


def translated(request: Callable[[], T]) -> T:
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
