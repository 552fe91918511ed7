"""HEALTH-*: marketing waits while the tenant's traffic looks unhealthy (Twilio's figures for ISVs)."""

from __future__ import annotations

from datetime import timedelta

from policy.decision import RuleResult
from policy.rules.base import VOICE, Answer, Ask, Define, Number

_FIGURES = {
    "ACD": ("mean_connected_s", "min_mean_connected_s"),
    "SHORT": ("short_share", "max_short_share"),
    "ASR": ("answer_share", "min_answer_share"),
    "CID": ("caller_id_calls_hour", "max_caller_id_calls_hour"),
    "OPTOUT": ("opt_out_share", "max_opt_out_share"),
    "ABANDON": ("abandoned_share", "max_abandoned_share"),
}
"""Part of the id: the field of `Traffic` and the setting; `min_…` is a floor, `max_…` a ceiling."""


def _health(ask: Ask) -> Answer:
    """Judged from `min_calls` on. Figures change with traffic, so `retry_at` is the moment to look again."""
    traffic = ask.facts.traffic
    if traffic is None:
        return ask.say.missing("traffic")
    counted = max(traffic.calls, traffic.campaign_calls)
    if counted < ask.set["min_calls"]:
        return ask.say.allow("too_few_calls", calls=counted)
    again_at = ask.facts.known_at + timedelta(seconds=ask.set["look_again_s"])
    if ask.facts.at >= again_at:
        return ask.say.allow("looked_at_again")
    bad: list[RuleResult] = []
    for part, (name, setting) in _FIGURES.items():
        value, limit = getattr(traffic, name), ask.set[setting]
        calls = traffic.campaign_calls if part == "ABANDON" else traffic.calls
        if calls < ask.set["min_calls"]:
            continue
        if value is not None and _is_bad(value, limit, setting):
            inputs = {name: value, "limit": limit, "calls": calls}
            bad.append(ask.say.of(part).defer(again_at, "unhealthy", **inputs))
    return tuple(bad) or ask.say.allow("healthy", calls=traffic.calls)


def _is_bad(value: float, limit: float, setting: str) -> bool:
    return value < limit if setting.startswith("min_") else value > limit


RULES = (
    Define(
        "HEALTH",
        2,
        _health,
        {
            "min_calls": Number(50, 1, 50),
            "min_mean_connected_s": Number(30, 30, 600, whole=False),
            "max_short_share": Number(0.10, 0, 0.10, whole=False),
            "min_answer_share": Number(0.70, 0.70, 1, whole=False),
            "max_caller_id_calls_hour": Number(100, 1, 100),
            "max_opt_out_share": Number(0.04, 0, 0.04, whole=False),
            "max_abandoned_share": Number(0.03, 0, 0.03, whole=False),
            "look_again_s": Number(3600, 60, 86_400),
        },
        channels=VOICE,
        marketing=True,
        recheck=False,
    ),
)
