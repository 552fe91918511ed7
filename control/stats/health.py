"""Is this traffic healthy? The figures carriers look at, over a tenant's newest outbound calls.

Source: Twilio, "Best practices for healthy traffic" for ISVs: mean duration above 30 s, at most a tenth of the
calls of 12 s or less, more than 70 % answered. What they are measured against here is in THRESHOLDS; the
policy's breaker has its own, configured.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from control.store import stats
from policy.facts import Traffic

CALLS_MIN = 50
"""With fewer attempts a figure says nothing."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """From where on a figure is a warning, and from where on it is bad."""

    figure: str
    warn: float
    stop: float
    is_floor: bool
    """Bad when below (else when above)."""


THRESHOLDS = (
    Threshold("mean_connected_s", 40.0, 30.0, True),
    Threshold("short_share", 0.08, 0.10, False),
    Threshold("answer_share", 0.75, 0.70, True),
    Threshold("opt_out_share", 0.02, 0.04, False),
    Threshold("abandoned_share", 0.02, 0.03, False),
    Threshold("caller_id_calls_hour", 50.0, 100.0, False),
)


def traffic(
    conn: Connection,
    tenant_id: str,
    now: datetime,
    from_number: str | None = None,
    campaign: str | None = None,
) -> Traffic:
    """The figures as the rules know them; `from_number` narrows them to one caller id.

    Abandoned calls are those of `campaign`; without it those of the campaign that has the worst share.
    """
    seen = stats.recent(conn, tenant_id, now, from_number)
    left = _worst(stats.abandoned(conn, tenant_id, now, campaign))
    return Traffic(
        calls=seen.attempts,
        mean_connected_s=_part(seen.talk_s, seen.finished),
        short_share=_part(seen.short, seen.finished),
        answer_share=_part(seen.answered, seen.attempts),
        opt_out_share=_part(seen.opt_outs, seen.answered),
        caller_id_calls_hour=(
            None if from_number is None else stats.calls_of_hour(conn, tenant_id, now, from_number)
        ),
        campaign_calls=0 if left is None else left.answered,
        abandoned_share=None if left is None else _part(left.abandoned, left.answered),
    )


def _worst(campaigns: list[stats.Abandoned]) -> stats.Abandoned | None:
    """Of those with enough calls, else of the small ones."""
    campaigns = [one for one in campaigns if one.answered]
    enough = [one for one in campaigns if one.answered >= CALLS_MIN] or campaigns
    return max(enough, key=lambda one: one.abandoned / one.answered, default=None)


def campaign_of(subject: str | None, agent_id: str | None) -> str | None:
    """By what the share of abandoned calls is counted: what the call is about, else its agent."""
    return subject or agent_id


def judge(figures: Traffic) -> dict[str, str]:
    """`ok`, `warn`, `stop` or `unknown` for each figure; `unknown` below CALLS_MIN attempts."""
    return {one.figure: _judged(one, figures) for one in THRESHOLDS}


def _judged(threshold: Threshold, figures: Traffic) -> str:
    value = getattr(figures, threshold.figure)
    of = figures.campaign_calls if threshold.figure == "abandoned_share" else figures.calls
    counted = of >= CALLS_MIN or threshold.figure == "caller_id_calls_hour"
    if value is None or not counted:
        return "unknown"
    if threshold.is_floor:
        return "stop" if value < threshold.stop else "warn" if value < threshold.warn else "ok"
    return "stop" if value > threshold.stop else "warn" if value > threshold.warn else "ok"


def _part(part: float, whole: int) -> float | None:
    return None if whole == 0 else part / whole
