"""`/v2/policy`."""

from __future__ import annotations

import orjson
from pydantic import RootModel
from quart import Blueprint, Response

from control.api.auth import visible_tenant
from control.api.call_models import Decision, PolicyCheck
from control.api.dependencies import dependencies
from control.api.openapi import operation
from control.api.reading import read_body
from control.api.refusals import as_problems

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
