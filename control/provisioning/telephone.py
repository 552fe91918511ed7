"""Steps at Twilio: the tenant's subaccount, its key, the agent's numbers, and who answers them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection

from control import failpoints
from control.numbers.values import NumberProblem, NumberWish
from control.provisioning.elevenlabs_steps import require_adopted
from control.provisioning.values import Run, Services, Skipped, StepFailed
from control.store import NumberTaken, agents
from control.store.numbers import NumberRecord
from control.store.records import AgentRecord
from control.tenants.service import TenantBusy, TenantState
from control.twilio.errors import TwilioError, TwilioRefused

_WISH = frozenset(item.name for item in fields(NumberWish))


@asynccontextmanager
async def _at_twilio(what: str) -> AsyncIterator[None]:
    """What Twilio or the tenant's own affairs are in the way of, as a reason of the step."""
    try:
        yield
    except TwilioRefused as refusal:
        raise StepFailed(f"{what}: {refusal}") from refusal
    except (TwilioError, TenantBusy) as doubt:
        raise StepFailed(f"{what}: {doubt}", transient=True) from doubt
    except TenantState as state:
        raise StepFailed(f"{what}: {state}") from state


async def subaccount(run: Run, services: Services) -> str | None:
    """The tenant has its own Twilio account, or the one that all share."""
    async with _at_twilio("the tenant's subaccount"):
        await services.accounts.ensure_subaccount(run.agent.tenant_id)
    return None


async def key(run: Run, services: Services) -> str | None:
    """There is an API key in that account."""
    async with _at_twilio("the API key of the tenant's subaccount"):
        await services.accounts.ensure_key(run.agent.tenant_id)
    return None


async def number(run: Run, services: Services) -> str | None:
    """Buy or adopt the agent's number; it is wired to us either way. Then its further numbers."""
    agent = run.agent
    wish = dict(agent.settings.get("number") or {})
    if agent.number_e164 and agent.number_sid is None and "e164" not in wish:
        wish["e164"] = agent.number_e164
    if not wish and not agent.number_e164:
        raise StepFailed("the agent has no number: give number.e164, or number.type and country")
    if "e164" not in wish and not agent.number_sid:
        await require_adopted(run, services)
    if texts(agent):
        wish.setdefault("sms", True)
    try:
        owned = await _get(services, agent.tenant_id, agent.id, f"{agent.id}/number", wish)
    except StepFailed as failure:
        run.learn(number_status="unreachable" if failure.transient else "failed")
        raise
    failpoints.reach("number.asked")
    run.learn(
        number_e164=owned.e164,
        number_sid=owned.sid,
        number_type=owned.type,
        number_status="in-use",
    )
    remarks = [await further_numbers(run, services)]
    if texts(agent) and owned.capabilities and not owned.capabilities.get("sms"):
        remarks.append(f"{owned.e164} cannot send text messages: those of `sms` will not arrive")
    return "; ".join(filter(None, remarks)) or None


def texts(agent: AgentRecord) -> bool:
    """Whether it is to send messages after its calls."""
    settings = agent.sms or {}
    return bool(settings.get("template")) and settings.get("enabled", True) is not False


async def further_numbers(run: Run, services: Services) -> str | None:
    """Those of the agent's further numbers that are not there yet. Returns what went wrong with some."""
    troubles: list[str] = []
    again: list[str] = []
    for record in await services.store.read(agents.numbers_of, run.agent.id):
        if record.status == "live":
            continue
        now = services.clock.now()
        columns: dict[str, Any]
        try:
            wish = {"sms": texts(run.agent)} | record.wish
            owned = await _get(
                services, record.tenant_id, record.agent_id, f"{record.id}/number", wish
            )
            columns = {"e164": owned.e164, "sid": owned.sid, "type": owned.type}
            columns |= {"status": "live", "error": None}
        except StepFailed as failure:
            (again if failure.transient else troubles).append(str(failure))
            columns = {"status": "pending" if failure.transient else "failed"}
            columns["error"] = str(failure)
        await services.store.write(_number_changed, record.id, columns | {"updated_at": now})
    if again:
        raise StepFailed("; ".join(again + troubles), transient=True)
    return "; ".join(troubles) or None


def _number_changed(conn: Connection, number_id: str, columns: dict[str, Any]) -> None:
    agents.update_number(conn, number_id, **columns)


async def routing(run: Run, services: Services) -> str | None:
    """Whoever calls the number reaches this agent: in our book, and at Twilio."""
    e164 = run.known("number_e164")
    if not e164:
        raise Skipped
    holder = await services.store.read(agents.by_number, e164)
    if holder is None or holder.id != run.agent.id:
        who = f"agent {holder.id}" if holder else "nobody"
        raise StepFailed(f"{e164} leads to {who}: close that agent, or give another number")
    try:
        checked = await services.numbers.check(run.agent.tenant_id, e164)
    except NumberProblem as problem:
        raise StepFailed(str(problem), transient=problem.transient) from problem
    except TwilioError as error:
        raise StepFailed(str(error), transient=not isinstance(error, TwilioRefused)) from error
    run.learn(number_status=checked.status)
    return None


async def _get(
    services: Services, tenant_id: str, agent_id: str, intent_key: str, wish: dict[str, Any]
) -> NumberRecord:
    try:
        if wish.get("e164") and not wish.get("buy"):
            return await services.numbers.adopt(
                tenant_id, wish["e164"], agent_id=agent_id, may_move=bool(wish.get("may_move"))
            )
        asked = {name: value for name, value in wish.items() if name in _WISH and value is not None}
        return await services.numbers.buy(
            tenant_id,
            NumberWish(**asked),
            intent_key=intent_key,
            agent_id=agent_id,
            label=agent_id,
        )
    except NumberProblem as problem:
        raise StepFailed(_words(problem), transient=problem.transient) from problem
    except NumberTaken as taken:
        raise StepFailed(str(taken)) from taken
    except TwilioError as error:
        raise StepFailed(str(error), transient=not isinstance(error, TwilioRefused)) from error


def _words(problem: NumberProblem) -> str:
    words = str(problem)
    if problem.nearby:
        words += f"; area codes that have some: {', '.join(problem.nearby[:10])}"
    for item in problem.missing:
        field = f" (give number.{item.field})" if item.field else ""
        words += f"; missing: {item.name}{field}: {item.detail}"
    return words
