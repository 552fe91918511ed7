"""For machines that watch: liveness, readiness, metrics. No key needed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from quart import Blueprint, Response

from control import metrics
from control.api.answers import Answer, answer
from control.api.dependencies import Dependencies, dependencies
from control.api.openapi import PlainText, operation
from control.store import StoreUnavailable

blueprint = Blueprint("ops", __name__)


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Answer):
    """Whether calls are taken, and why not."""

    ready: bool
    reasons: list[str] = Field(description="Empty when ready.")
    workers: int = Field(description="Media workers that take calls.")
    calls: int = Field(description="Calls in progress.")


@blueprint.get("/healthz")
@operation(name="health", about="Operation", answers={200: Health}, is_open=True)
async def health() -> Response:
    """Liveness: the event loop runs"""
    return answer(Health())


@blueprint.get("/readyz")
@operation(
    name="readiness", about="Operation", answers={200: Readiness, 503: Readiness}, is_open=True
)
async def readiness() -> Response:
    """Readiness: the store answers, media workers are there, the daemon is not draining"""
    known = dependencies()
    reasons = await _reasons(known)
    state = Readiness(
        ready=not reasons,
        reasons=reasons,
        workers=len(known.pool.stats()),
        calls=live_calls(known),
    )
    return answer(state, 503 if reasons else 200)


@blueprint.get("/metrics")
@operation(name="metrics", about="Operation", answers={200: PlainText}, is_open=True)
async def scrape() -> Response:
    """Metrics for Prometheus"""
    known = dependencies()
    known.metrics.calls_live.set(live_calls(known))
    known.metrics.draining.set(1 if known.switchboard.draining else 0)
    text = known.metrics.render(known.pool.stats())
    return Response(text, content_type=metrics.CONTENT_TYPE)


def live_calls(known: Dependencies) -> int:
    """Calls in progress, of all directions."""
    return sum(known.switchboard.live_counts().values())


async def _reasons(known: Dependencies) -> list[str]:
    reasons = []
    try:
        await known.store.ping()
    except StoreUnavailable as error:
        reasons.append(f"store: {error}")
    if not known.pool.stats():
        reasons.append("workers: none is ready")
    if known.switchboard.draining:
        reasons.append("draining: no new calls are taken")
    return reasons
