"""Looks at live agents, in the background and on request, and puts back what was changed by hand.

Looked at: the number and its webhooks at Twilio, the subaccount, the agent at ElevenLabs with its audio formats
and client events. What was put back is kept in the agent's `drift`, and logged. An agent of which something is
missing becomes `degraded`, and `live` again when it is back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import trio
from sqlalchemy import Connection

from control import log
from control.elevenlabs import profile
from control.elevenlabs.rest import ElevenLabsError, ElevenLabsRefused
from control.numbers.values import NumberProblem
from control.provisioning.values import DRIFT_KEPT, Services
from control.store import StoreUnavailable, agents
from control.store.records import AgentRecord
from control.twilio.errors import TwilioError

CHECK_TIMEOUT_S = 30.0
AT_ONCE_MAX = 4
"""Checks at a time, so that a thousand agents do not take the providers' rates from the calls."""
SERVING = ("live", "degraded")


@dataclass(slots=True)
class Look:
    """What one check has found."""

    number: dict[str, Any] = field(default_factory=dict)
    subaccount: dict[str, Any] = field(default_factory=dict)
    elevenlabs: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """What could not be asked now: says nothing about the agent."""
    drift: list[dict[str, Any]] = field(default_factory=list)
    learnt: dict[str, Any] = field(default_factory=dict)
    """For the agent's record: its first message, and whether a conversation may bring another."""


class Health:
    """`run` checks each agent once an interval; `check` does it now."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._interval_s = services.settings.control.health_interval_s
        self._slots = trio.CapacityLimiter(AT_ONCE_MAX)

    async def run(self) -> None:
        """Until cancelled. The agents are spread over the interval."""
        while True:
            begin_s = trio.current_time()
            try:
                waiting = await self._services.store.read(agents.serving_ids)
            except StoreUnavailable as error:
                log.event("health_check_postponed", level="warning", error=error)
                waiting = []
            pause_s = self._interval_s / (len(waiting) + 1)
            async with trio.open_nursery() as nursery:
                for number, agent_id in enumerate(waiting, 1):
                    await trio.sleep_until(begin_s + number * pause_s)
                    await self._slots.acquire_on_behalf_of(agent_id)
                    nursery.start_soon(self._in_background, agent_id)
            await trio.sleep_until(begin_s + self._interval_s)

    async def _in_background(self, agent_id: str) -> None:
        """Documented boundary: a mistake about one agent must not reach the calls of all."""
        try:
            await self.check(agent_id)
        except Exception as error:  # noqa: BLE001
            log.event("health_check_crashed", level="error", agent_id=agent_id, error=error)
        finally:
            self._slots.release_on_behalf_of(agent_id)

    async def check(self, agent_id: str) -> None:
        """Look, mend, and keep what was seen. Does not raise for what the providers or the store do."""
        try:
            agent = await self._services.store.read(agents.get, agent_id)
            if agent is None or agent.status not in SERVING:
                return
            with trio.move_on_after(CHECK_TIMEOUT_S) as patience:
                look = await self._look(agent)
            if patience.cancelled_caught:
                log.event("health_check_late", level="warning", agent_id=agent_id)
                return
            for entry in look.drift:
                log.event("drift_mended", level="warning", agent_id=agent_id, **entry)
            await self._services.store.write(_keep, agent, look, self._services.clock.now())
        except StoreUnavailable as error:
            log.event("health_check_postponed", level="warning", agent_id=agent_id, error=error)

    async def _look(self, agent: AgentRecord) -> Look:
        look = Look()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._numbers, agent, look)
            nursery.start_soon(self._elevenlabs, agent, look)
        return look

    # ---- Twilio --------------------------------------------------------------------------------

    async def _numbers(self, agent: AgentRecord, look: Look) -> None:
        try:
            account = await self._services.accounts.status(agent.tenant_id, refresh=True)
        except TwilioError as doubt:
            account = {"status": "unreachable", "reason": str(doubt)}
        look.subaccount = account
        if account.get("status") in ("suspended", "closed"):
            look.problems.append(f"the Twilio account is {account['status']}")
            return
        if account.get("status") == "unreachable":
            look.doubts.append("Twilio could not be asked")
            return
        further = await self._services.store.read(agents.numbers_of, agent.id)
        for e164 in [agent.number_e164, *(n.e164 for n in further if n.status == "live")]:
            if e164:
                await self._number(agent, e164, look)

    async def _number(self, agent: AgentRecord, e164: str, look: Look) -> None:
        try:
            checked = await self._services.numbers.check(agent.tenant_id, e164)
        except NumberProblem as problem:
            status = "unreachable" if problem.transient else problem.code
            (look.doubts if problem.transient else look.problems).append(f"{e164}: {problem}")
        except TwilioError as doubt:
            status = "unreachable"
            look.doubts.append(f"{e164}: {doubt}")
        else:
            status = checked.status
            if status in ("gone", "released"):
                look.problems.append(f"{e164}: the Twilio account does not own it any more")
            at = self._services.clock.now().isoformat()
            look.drift += [
                {
                    "what": f"number.{name}",
                    "was": checked.was.get(name),
                    "now": checked.now.get(name),
                    "mended_at": at,
                    "e164": e164,
                }
                for name in checked.mended
            ]
        if e164 == agent.number_e164:
            look.number = {"e164": e164, "status": status}

    # ---- ElevenLabs ----------------------------------------------------------------------------

    async def _elevenlabs(self, agent: AgentRecord, look: Look) -> None:
        agent_id = agent.elevenlabs_agent_id
        if not agent_id:
            return
        try:
            found = await self._services.workspace.get_agent(agent_id)
            await self._mend(agent, agent_id, found, look)
        except ElevenLabsRefused as refusal:
            if refusal.status == 404 and not refusal.code:
                look.elevenlabs = {"agent_id": agent_id, "status": "unchecked"}
                return
            status = "missing" if refusal.status == 404 else "refused"
            look.elevenlabs = {"agent_id": agent_id, "status": status}
            look.problems.append(f"ElevenLabs agent {agent_id}: {refusal}")
        except ElevenLabsError as doubt:
            look.elevenlabs = {"agent_id": agent_id, "status": "unreachable"}
            look.doubts.append(str(doubt))

    async def _mend(
        self, agent: AgentRecord, agent_id: str, found: dict[str, Any], look: Look
    ) -> None:
        """Formats and events go back to what they were when the agent went live."""
        seen, wanted = profile.telephone(found), _baseline(agent)
        if seen is not None and wanted is not None:
            for difference in profile.differences(seen, wanted):
                found = await self._services.workspace.update_agent(agent_id, difference.patch)
                look.drift.append(
                    {
                        "what": difference.what,
                        "was": difference.was,
                        "now": difference.now,
                        "mended_at": self._services.clock.now().isoformat(),
                    }
                )
        look.learnt = {
            "first_message": profile.first_message(found),
            "takes_first_message": profile.takes_first_message(found),
        }
        findings = profile.check(found)
        bad = findings.unusable + findings.problems
        look.problems += [f"ElevenLabs agent: {problem}" for problem in bad]
        status = "unusable" if findings.unusable else "degraded" if findings.problems else "live"
        look.elevenlabs = {"agent_id": agent_id, "status": status}


def _baseline(agent: AgentRecord) -> profile.Telephone | None:
    kept = (agent.elevenlabs or {}).get("baseline")
    if not kept:
        return None
    events = kept.get("client_events")
    return profile.Telephone(
        kept["input_format"], kept["output_format"], None if events is None else tuple(events)
    )


def _keep(conn: Connection, seen: AgentRecord, look: Look, at: datetime) -> None:
    """Statuses, drift, and whether the agent is live; nothing when it has changed meanwhile."""
    agent = agents.get(conn, seen.id, to_change=True)
    if agent is None or agent.status not in SERVING:
        return
    columns: dict[str, Any] = {
        "health": {
            "checked_at": at.isoformat(),
            "number": look.number,
            "subaccount": look.subaccount,
            "elevenlabs": look.elevenlabs,
            "problems": look.problems,
            "doubts": look.doubts,
        }
    }
    if look.learnt:
        columns["elevenlabs"] = (agent.elevenlabs or {}) | look.learnt
    if look.drift:
        columns["drift"] = [*(agent.drift or []), *look.drift][-DRIFT_KEPT:]
    for column, part in (("number_status", look.number), ("elevenlabs_status", look.elevenlabs)):
        # What could not be asked is no news.
        if part.get("status") not in (None, "unreachable"):
            columns[column] = str(part["status"])[:16]
    if not look.doubts:
        columns["status"] = "degraded" if look.problems or remarks(agent) else "live"
    agents.update(conn, agent.id, **columns)


def remarks(agent: AgentRecord) -> list[str]:
    """What provisioning could not do, for as long as it is not done."""
    return [
        f"{step['name']}: {step['error']}"
        for step in agent.steps
        if step.get("error") and step.get("name") != "elevenlabs_agent"
    ]
