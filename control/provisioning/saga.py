"""From `POST /v2/agents` to a number that is answered: the steps of an agent, in the background.

    number              the account owns it; its webhooks lead to us
    elevenlabs_agent    it exists and suits the telephone
    live                what came of it: live, degraded or failed

Every step may be done again, so an interrupted agent simply goes on: what is `provisioning` in the store at
start, and at each sweep, is taken up. All steps are tried even after one has failed: the operator sees
everything that is wrong at once. The reason is in the step's `error`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from sqlalchemy import Connection

from control import log
from control.clock import Clock
from control.config import Settings
from control.elevenlabs import profile
from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsRest, ElevenLabsUnavailable
from control.store import RecordNotFound, Store, StoreUnavailable, agents
from control.store.records import AgentRecord
from control.twilio.rest import TwilioRefused, TwilioRest, TwilioUncertain, TwilioUnreachable

STEP_TIMEOUT_S = 30.0
"""Two steps that ask a provider: an agent's fate is known within a minute and a little."""
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 5.0
SWEEP_INTERVAL_S = 30.0
AT_ONCE_MAX = 8
WAITING_MAX = 1_000
"""Agents taken up at a time; more of them wait in the store for the next sweep."""
STEPS = ("number", "elevenlabs_agent", "live")


class StepFailed(Exception):
    """The step cannot be done; the text tells a person what to do. `transient`: later it might be."""

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


@dataclass(slots=True)
class _Run:
    """One agent on its way. `columns` is what the steps have learnt and the store does not have yet."""

    agent: AgentRecord
    steps: list[dict[str, Any]]
    columns: dict[str, Any] = field(default_factory=dict)

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.steps if step["name"] == name)


class Provisioning:
    """Runs the steps of agents. `start()` may be called from any task once the record is in the store."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        twilio: TwilioRest,
        elevenlabs: ElevenLabsRest,
        clock: Clock,
    ) -> None:
        self._public_url = settings.public.url
        self._store = store
        self._twilio = twilio
        self._elevenlabs = elevenlabs
        self._clock = clock
        self._nursery: trio.Nursery | None = None
        self._taken: set[str] = set()
        self._slots = trio.CapacityLimiter(AT_ONCE_MAX)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what is unfinished, now and at each sweep, and what is started. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                while True:
                    await self._sweep()
                    await trio.sleep(SWEEP_INTERVAL_S)
            finally:
                self._nursery = None

    def start(self, agent_id: str) -> None:
        """Provision this agent soon; at the latest at the next sweep. Twice is as good as once."""
        if self._nursery is None or agent_id in self._taken or len(self._taken) >= WAITING_MAX:
            return
        self._taken.add(agent_id)
        self._nursery.start_soon(self._provision, agent_id)

    async def _sweep(self) -> None:
        try:
            for agent_id in await self._store.read(agents.provisioning_ids):
                self.start(agent_id)
        except StoreUnavailable as error:
            log.event("provisioning_sweep_failed", level="warning", error=error)

    async def _provision(self, agent_id: str) -> None:
        """Documented boundary: what goes wrong with one agent must not reach the others."""
        try:
            async with self._slots:
                agent = await self._store.read(agents.get, agent_id)
                if agent is not None and agent.status == "provisioning":
                    await self._run_steps(_Run(agent, _steps_of(agent)))
        except (StoreUnavailable, RecordNotFound) as error:
            log.event("provisioning_postponed", level="warning", agent_id=agent_id, error=error)
        except Exception as error:  # noqa: BLE001
            log.event("provisioning_crashed", level="error", agent_id=agent_id, error=error)
        finally:
            self._taken.discard(agent_id)

    # ---- steps ---------------------------------------------------------------------------------

    async def _run_steps(self, run: _Run) -> None:
        if run.agent.provisioning_started_at is None:
            run.columns["provisioning_started_at"] = self._clock.now()
        for name, work in (
            ("number", self._number),
            ("elevenlabs_agent", self._elevenlabs_agent),
        ):
            if run.step(name)["status"] != "done":
                await self._run_step(run, run.step(name), work)
        await self._conclude(run)

    async def _run_step(
        self, run: _Run, step: dict[str, Any], work: Callable[[_Run], Awaitable[str | None]]
    ) -> None:
        """Do the work until it is done, cannot be done, or the time is up; keep what came of it."""
        step.update(status="running", ms=0)
        step.pop("error", None)
        await self._keep(run)
        begin_s = trio.current_time()
        remark: str | None = f"no answer within {STEP_TIMEOUT_S:g} s; create the agent again later"
        status = "failed"
        with trio.move_on_after(STEP_TIMEOUT_S):
            try:
                remark = await _insisting(lambda: work(run), step)
                status = "done"
            except StepFailed as failure:
                remark = str(failure)
        if status == "failed" and "error" in step:
            remark = step["error"]  # the last transient failure says more than the deadline
        step.pop("error", None)
        step.update(status=status, ms=round((trio.current_time() - begin_s) * 1000))
        if remark:
            step["error"] = remark
        await self._keep(run)

    async def _number(self, run: _Run) -> None:
        """Adopt the number: it has to be the account's, then its calls are led to us."""
        e164 = run.agent.number_e164
        if not e164:
            raise StepFailed("the agent has no number: give number.e164")
        try:
            owned = await self._twilio.find_number(e164)
            if owned is None:
                run.columns["number_status"] = "missing"
                raise StepFailed(
                    f"the Twilio account does not own {e164}: buy or port it, or give one it owns"
                )
            owned = await self._twilio.set_number_webhooks(
                owned.sid,
                voice_url=f"{self._public_url}/twilio/voice",
                voice_fallback_url=f"{self._public_url}/twilio/voice/fallback",
                status_callback=f"{self._public_url}/twilio/status",
            )
        except TwilioRefused as refusal:
            run.columns["number_status"] = "refused"
            raise StepFailed(f"{refusal}{_hint(refusal.status, 'twilio.auth_token')}") from refusal
        except (TwilioUnreachable, TwilioUncertain) as doubt:
            run.columns["number_status"] = "unreachable"
            raise StepFailed(str(doubt), transient=True) from doubt
        run.columns.update(number_sid=owned.sid, number_status=owned.status or "in-use")

    async def _elevenlabs_agent(self, run: _Run) -> str | None:
        """Adopt the agent: it has to exist and to suit the telephone. Returns what could be better."""
        agent_id = run.agent.elevenlabs_agent_id
        if not agent_id:
            raise StepFailed("the agent has no ElevenLabs agent: give elevenlabs_agent_id")
        try:
            found = profile.check(await self._elevenlabs.get_agent(agent_id))
        except ElevenLabsRefused as refusal:
            if refusal.status == 404 and not refusal.code:
                # Not ElevenLabs' way to say it: a proxy without this route, perhaps.
                run.columns["elevenlabs_status"] = "unchecked"
                return "the ElevenLabs agent could not be looked up (404 without a status)"
            if refusal.status == 404:
                run.columns["elevenlabs_status"] = "missing"
                raise StepFailed(
                    f"ElevenLabs knows no agent {agent_id}: check elevenlabs_agent_id, and that "
                    "elevenlabs.api_key is of the workspace that has it"
                ) from refusal
            run.columns["elevenlabs_status"] = "refused"
            hint = _hint(refusal.status, "elevenlabs.api_key")
            raise StepFailed(f"{refusal}{hint}") from refusal
        except ElevenLabsUnavailable as doubt:
            run.columns["elevenlabs_status"] = "unreachable"
            raise StepFailed(str(doubt), transient=True) from doubt
        if found.unusable:
            run.columns["elevenlabs_status"] = "unusable"
            raise StepFailed("; ".join(found.unusable + found.problems))
        for hint in found.hints:
            log.event("agent_hint", agent_id=run.agent.id, hint=hint)
        run.columns["elevenlabs_status"] = "degraded" if found.problems else "live"
        return "; ".join(found.problems) or None

    # ---- the end -------------------------------------------------------------------------------

    async def _conclude(self, run: _Run) -> None:
        failed = [step["name"] for step in run.steps if step["status"] == "failed"]
        remarks = [f"{step['name']}: {step['error']}" for step in run.steps if step.get("error")]
        status = "failed" if failed else "degraded" if remarks else "live"
        live = run.step("live")
        live.update(status="failed" if failed else "done", ms=0)
        live.pop("error", None)
        if failed:
            live["error"] = f"not live, because of: {', '.join(failed)}"
        run.columns.update(status=status, provisioning_ended_at=self._clock.now())
        await self._keep(run)
        log.event(
            "agent_provisioned",
            level="info" if status == "live" else "warning",
            agent_id=run.agent.id,
            status=status,
            remarks=remarks,
        )

    async def _keep(self, run: _Run) -> None:
        """Commit steps and columns, unless somebody has closed the agent meanwhile."""
        columns = {**run.columns, "steps": run.steps, "updated_at": self._clock.now()}
        await self._store.write(_update_provisioning, run.agent.id, columns)
        run.columns.clear()


def _update_provisioning(conn: Connection, agent_id: str, columns: dict[str, Any]) -> None:
    agent = agents.get(conn, agent_id)
    if agent is None or agent.status != "provisioning":
        raise RecordNotFound(f"agent {agent_id} is not being provisioned any more")
    agents.update(conn, agent_id, **columns)


def _steps_of(agent: AgentRecord) -> list[dict[str, Any]]:
    """The steps as far as they had come; a step that was interrupted begins again."""
    done = {step.get("name"): step for step in agent.steps if step.get("status") == "done"}
    return [
        dict(done[name]) if name in done else {"name": name, "status": "pending", "ms": 0}
        for name in STEPS
    ]


async def _insisting(work: Callable[[], Awaitable[str | None]], step: dict[str, Any]) -> str | None:
    """Do it again while it only fails for now; the caller has the deadline. The last failure is kept."""
    delay_s = RETRY_FIRST_S
    while True:
        try:
            return await work()
        except StepFailed as failure:
            if not failure.transient:
                raise
            step["error"] = str(failure)
        await trio.sleep(delay_s)
        delay_s = min(delay_s * 2, RETRY_MAX_S)


def _hint(status: int, key: str) -> str:
    return f": check {key}" if status in (401, 403) else ""
