"""Why the switchboard did not do what was asked of it: what the API turns into problem documents."""

from __future__ import annotations

from typing import Any

from control.store.records import CallRecord


class Refusal(Exception):
    """Base of everything below."""


class AgentNotFound(Refusal):
    """No agent has this id."""


class AgentNotLive(Refusal):
    """The agent cannot take part in calls now; the text says why."""


class PolicyRefused(Refusal):
    """The decision was no. The call is recorded as `blocked`."""

    def __init__(self, decision: dict[str, Any], call_id: str) -> None:
        super().__init__("refused by policy")
        self.decision = decision
        self.call_id = call_id


class TooFarAhead(Refusal):
    """The call is wanted later than calls are kept."""

    def __init__(self, days: int) -> None:
        super().__init__(f"at most {days} days ahead")


class NotAdmitted(Refusal):
    """No more calls at the moment; the text says why. Nothing was dialled."""


class DialRefused(Refusal):
    """Twilio did not take the call. `code` is Twilio's error code, 0 when there is none."""

    def __init__(self, code: int, message: str, call_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.call_id = call_id


class DialUncertain(Refusal):
    """The answer to the dial request was lost. It goes on being looked for and is never sent again."""

    def __init__(self, record: CallRecord) -> None:
        super().__init__("it is not known yet whether the call was dialled")
        self.record = record


class CallNotFound(Refusal):
    """No call has this id."""


class CallOver(Refusal):
    """The call has ended."""
