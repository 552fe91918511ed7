"""What a request to Twilio can end in. Errors say what is known afterwards.

TwilioRefused       it answered no: nothing was done
TwilioUnreachable   no byte of the request was written: nothing was done
TwilioUncertain     the request left and no usable answer came: it may have been done
"""

from __future__ import annotations


class TwilioError(Exception):
    """Base of what a request to Twilio can end in."""


class TwilioRefused(TwilioError):
    """Twilio said no; `code` is its error code (0 when it gave none), `status` the HTTP status."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(f"Twilio refused: {message} (HTTP {status}, error {code})")
        self.status = status
        self.code = code
        self.message = message


class TwilioUnreachable(TwilioError):
    """No connection: nothing was written."""


class TwilioUncertain(TwilioError):
    """The request was sent, or may have been, and its outcome is not known."""
