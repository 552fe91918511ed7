"""What the switchboard says no with, as problems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from control.api.problem import Problem, invalid, not_found
from control.refusals import (
    AgentNotFound,
    AgentNotLive,
    CallNotFound,
    CallOver,
    DialRefused,
    NotAdmitted,
    PolicyRefused,
    TooFarAhead,
)

NOT_ADMITTED_RETRY_AFTER_S = 5


@contextmanager
def as_problems() -> Iterator[None]:
    """Translate the switchboard's exceptions; DialUncertain is an answer and passes through."""
    try:
        yield
    except AgentNotFound as error:
        raise not_found("there is no such agent", "agent_id") from error
    except AgentNotLive as error:
        text = _text(error, "the agent is not live")
        raise Problem("conflict", text, errors=[("agent_id", text)]) from error
    except TooFarAhead as error:
        raise invalid("not_before", str(error)) from error
    except PolicyRefused as error:
        raise Problem(
            "policy-refused",
            f"a rule forbids this call: {_rules_of(error.decision)}",
            had_effect=True,
            decision=error.decision,
            call_id=error.call_id,
        ) from error
    except DialRefused as error:
        raise Problem(
            "dial-refused",
            f"Twilio refused the call: {error.message}",
            had_effect=True,
            twilio={"code": error.code, "message": error.message},
            call_id=error.call_id or None,
        ) from error
    except NotAdmitted as error:
        retry = {"Retry-After": str(NOT_ADMITTED_RETRY_AFTER_S)}
        raise Problem(
            "unavailable", _text(error, "no room for this call now"), headers=retry
        ) from error
    except CallNotFound as error:
        raise not_found("there is no such call") from error
    except CallOver as error:
        # `initiate` may meet it too: hung up before it was dialled. Then there is a record.
        raise Problem("conflict", _text(error, "the call is over"), had_effect=True) from error


def _text(error: Exception, fallback: str) -> str:
    return str(error) or fallback


def _rules_of(decision: dict[str, Any]) -> str:
    said_no = [rule for rule in decision.get("rules", ()) if rule.get("outcome") != "allow"]
    return (
        "; ".join(f"{rule.get('id')}: {rule.get('reason')}" for rule in said_no) or "see decision"
    )
