"""`/v2/policy`."""

from __future__ import annotations

from datetime import datetime

import orjson
from pydantic import Field, RootModel
from quart import Blueprint, Response
from sqlalchemy import Connection

from control import log
from control.api.answers import Answer, answer
from control.api.auth import principal, visible_tenant
from control.api.call_models import Decision, PolicyCheck
from control.api.dependencies import dependencies
from control.api.openapi import operation
from control.api.reading import Body, read_body
from control.api.refusals import as_problems
from control.compliance import platform_stop

blueprint = Blueprint("policy", __name__)


class DecisionShown(RootModel[Decision]):
    """The decision that a call would get."""


@blueprint.post("/v2/policy/check")
@operation(
    name="checkPolicy",
    about="Policy",
    body=PolicyCheck,
    answers={200: DecisionShown},
    problems=["not-found"],
    scope="calls:read",
)
async def check_policy() -> Response:
    """Ask what policy would say; nothing is dialled"""
    given = await read_body(PolicyCheck)
    with as_problems():
        decision = await dependencies().switchboard.check_policy(
            agent_id=given.agent_id,
            to=given.to,
            direction=given.direction,
            at=given.at,
            tenant_id=visible_tenant(),
            channel=given.channel,
            from_number=given.from_,
            meaning=given.meaning(dependencies().clock.now()),
        )
    return Response(orjson.dumps(decision), content_type="application/json")


class StopChange(Body):
    """The kill switch of the whole platform."""

    stopped: bool = Field(
        description="True: nothing is dialled or texted for any tenant, from now on."
    )
    reason: str = Field(min_length=1, max_length=500, description="Kept in the ledger.")


class Stop(Answer):
    """How the switch stands."""

    stopped: bool
    reason: str | None
    by: str | None = Field(description="The key that turned it.")
    at: datetime | None


@blueprint.get("/v2/policy/stop")
@operation(
    name="getPolicyStop", about="Policy", answers={200: Stop}, problems=["not-found"], scope="admin"
)
async def get_policy_stop() -> Response:
    """Whether all outbound is stopped"""
    return answer(_shown(await dependencies().store.read(platform_stop.read)))


@blueprint.put("/v2/policy/stop")
@operation(
    name="putPolicyStop",
    about="Policy",
    body=StopChange,
    answers={200: Stop},
    problems=["not-found"],
    scope="admin",
)
async def put_policy_stop() -> Response:
    """Stop all outbound of every tenant at once, or let it go on"""
    given, known = await read_body(StopChange), dependencies()
    by = principal().key_id or "admin"

    def turn(conn: Connection) -> platform_stop.PlatformStop:
        now = known.clock.now()
        platform_stop.turn(conn, is_stopped=given.stopped, reason=given.reason, by=by, now=now)
        return platform_stop.read(conn)

    stands = await known.store.write(turn)
    log.event("outbound_stopped" if given.stopped else "outbound_resumed", level="warning", by=by)
    return answer(_shown(stands))


def _shown(stands: platform_stop.PlatformStop) -> Stop:
    return Stop(stopped=stands.is_stopped, reason=stands.reason, by=stands.by, at=stands.at)
