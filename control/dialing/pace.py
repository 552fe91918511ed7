"""Slower when Twilio queues, faster again when it does not. Pure.

Twilio dials at its own rate for the account, and says with every call how long it expects to queue it. A call
that waits over there rings at a moment that policy has not judged, so what cannot be dialled at once is better
kept here. The rule is TCP's: cut by a part, wait until the queue is empty, recover in small steps. It finds the
account's true rate without being told, also when others use the account too.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from control.store.dialing import Pace

TOLERATED_MS = 1_000
"""Twilio's estimate is rough, and requests come close together at times."""
CUT = 0.7
STEP = 0.02
FACTOR_MIN = 0.05
HOLD_MAX_S = 60.0


def after_create(pace: Pace, queue_ms: int, now: datetime) -> Pace:
    """The pace after a call that Twilio expects to queue for `queue_ms`."""
    if queue_ms <= TOLERATED_MS:
        return Pace(min(1.0, pace.factor + STEP), pace.held_until)
    if pace.held_until is not None and now < pace.held_until:
        factor = pace.factor  # asked for before the last cut could have had any effect
    else:
        factor = max(FACTOR_MIN, pace.factor * CUT)
    hold = timedelta(seconds=min(queue_ms / 1000, HOLD_MAX_S))
    return Pace(factor, max(now + hold, pace.held_until or now))
