"""Who broke it: the exceptions of the gateway.

    GatewayError
    ├─ LegError                 carries `leg` ("caller" | "agent") and the blame for the call record
    │  ├─ LegRefused            handshake, 4xx, bad ticket
    │  ├─ LegTimeout            connect, first message, idle, send
    │  ├─ LegClosed             code and reason as received
    │  └─ LegProtocolError      malformed; the text is a short, redacted sample
    └─ LinkError                control and worker disagree or parted

The normal end of a call is not an error: it is a `Termination` (see `gateway.events`). Pure.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of everything this package raises on purpose."""


class LinkError(GatewayError):
    """The other end of the worker link said something that is no message, or is gone."""


class LegError(GatewayError):
    """One leg of a call failed. `code` is a WebSocket close code or an HTTP status when there was one."""

    def __init__(self, leg: str, reason: str, *, code: int | None = None) -> None:
        super().__init__(f"{leg} leg: {reason}" + (f" ({code})" if code is not None else ""))
        self.leg = leg
        self.reason = reason
        self.code = code

    @property
    def blame(self) -> str:
        """Who pays in the record: Twilio answers for the caller leg, ElevenLabs for the agent leg."""
        return "twilio" if self.leg == "caller" else "agent"


class LegRefused(LegError):
    """The peer said no before the leg was up."""


class LegTimeout(LegError):
    """The peer did not do in time what it has to do."""


class LegClosed(LegError):
    """The peer went away."""


class LegProtocolError(LegError):
    """The peer sent something that the protocol does not allow."""
