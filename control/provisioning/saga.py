"""Runs the steps of agents, in the background.

Every step may be done again, so an interrupted agent simply goes on: what is unfinished in the store at
start, and at each sweep, is taken up. An agent is leased while it is worked on, so several daemons may share
a store. What a step has learnt is committed with its end; what it makes at a provider is written down before
it is made (`control.store.intents`, `control.numbers`).
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

import trio
from sqlalchemy import Connection

from control import failpoints, log
from control.provisioning import again, elevenlabs_steps, knowledge, release, self_test, telephone
from control.provisioning.health import Health
from control.provisioning.values import (
    DEADLINES_S,
    NEEDS,
    SOFT,
    STEPS,
    Run,
    Services,
    Skipped,
    StepFailed,
)
from control.store import RecordNotFound, StoreUnavailable, agents
from control.store.records import AgentRecord

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 8.0
SWEEP_INTERVAL_S = 20.0
AT_ONCE_MAX = 8
WAITING_MAX = 1_000
"""Agents taken up at a time; more of them wait in the store for the next sweep."""
LEASE_S = 15.0
"""After a crash another daemon may take the agent up so much later; the same one at once."""
LEASE_RENEWED_S = 4.0

Step: TypeAlias = Callable[[Run, Services], Awaitable[str | None]]

WORK: dict[str, Step] = {
    "subaccount": telephone.subaccount,
    "key": telephone.key,
    "number": telephone.number,
    "numbers": telephone.further_numbers,
    "knowledge_base": knowledge.knowledge_base,
    "elevenlabs_agent": elevenlabs_steps.elevenlabs_agent,
    "elevenlabs_update": elevenlabs_steps.elevenlabs_update,
    "routing": telephone.routing,
    "self_test": self_test.self_test,
    "release": release.release,
}
AFTERWARDS = {"update": ("numbers", "elevenlabs_update", "self_test"), "release": ("release",)}
"""Work on an agent that has been provisioned, by `AgentRecord.pending`, in this order."""


class Provisioning:
    """`start()` may be called from any task once the record is in the store."""

    def __init__(self, services: Services) -> None:
        self.health = Health(services)
        self.verticals = services.verticals
        self._services = services
        self._store = services.store
        self._clock = services.clock
        self._nursery: trio.Nursery | None = None
        self._taken: set[str] = set()
        self._again: set[str] = set()
        self._slots = trio.CapacityLimiter(AT_ONCE_MAX)
        self._owner = _owner(str(services.settings.control.listen))

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
        """Work on this agent soon; at the latest at the next sweep. Twice is as good as once."""
        if agent_id in self._taken:
            self._again.add(agent_id)  # what was asked for meanwhile is looked at afterwards
        elif self._nursery is not None and len(self._taken) < WAITING_MAX:
            self._taken.add(agent_id)
            self._nursery.start_soon(self._provision, agent_id)

    async def check(self, agent_id: str) -> None:
        """Look at the agent at both providers now, and mend what was changed by hand."""
        await self.health.check(agent_id)

    async def account(self, tenant_id: str) -> dict[str, Any]:
        """`{sid, status}` of the Twilio account that the tenant's calls are made in."""
        return await self._services.accounts.status(tenant_id)

    async def _sweep(self) -> None:
        try:
            now = self._clock.now()
            for agent_id in await self._store.read(again.due_ids, now):
                log.event("provisioning_again", agent_id=agent_id)
                await self._store.write(again.take_up, agent_id, now)
            for agent_id in await self._store.read(agents.waiting_ids):
                if agent_id not in self._taken:
                    self.start(agent_id)
        except StoreUnavailable as error:
            log.event("provisioning_sweep_failed", level="warning", error=error)

    async def _provision(self, agent_id: str) -> None:
        """Documented boundary: what goes wrong with one agent must not reach the others."""
        try:
            async with self._slots:
                while True:
                    self._again.discard(agent_id)
                    is_more = await self._leased(agent_id)
                    if not is_more and agent_id not in self._again:
                        break
        except* (StoreUnavailable, RecordNotFound) as group:
            for error in _leaves(group):
                log.event("provisioning_postponed", level="warning", agent_id=agent_id, error=error)
        except* Exception as group:  # noqa: BLE001
            for error in _leaves(group):
                log.event("provisioning_crashed", level="error", agent_id=agent_id, error=error)
        finally:
            self._taken.discard(agent_id)
            self._again.discard(agent_id)

    # ---- the lease -----------------------------------------------------------------------------

    async def _leased(self, agent_id: str) -> bool:
        """Work while nobody else does. Returns whether a change was asked for that has not been made yet."""
        agent = await self._take(agent_id)
        if agent is None or not _waits(agent):
            return False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_lease, agent_id, nursery.cancel_scope)
                await self._work(agent)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._store.write(agents.release_lease, agent_id, self._owner)
        after = await self._store.read(agents.get, agent_id)
        return after is not None and agent.status == "provisioning" and _waits(after)

    async def _take(self, agent_id: str) -> AgentRecord | None:
        now = self._clock.now()
        until = now + timedelta(seconds=LEASE_S)
        return await self._store.write(agents.lease, agent_id, self._owner, now, until)

    async def _keep_lease(self, agent_id: str, work: trio.CancelScope) -> None:
        """Renew it; work that cannot is stopped before somebody else may begin it."""
        held_until_s = trio.current_time() + LEASE_S
        while True:
            await trio.sleep(LEASE_RENEWED_S)
            begin_s = trio.current_time()
            try:
                if await self._take(agent_id) is None:
                    break
                held_until_s = begin_s + LEASE_S
            except StoreUnavailable:
                if begin_s + LEASE_RENEWED_S >= held_until_s:
                    break
        log.event("provisioning_lease_lost", level="warning", agent_id=agent_id)
        work.cancel()

    # ---- steps ---------------------------------------------------------------------------------

    async def _work(self, agent: AgentRecord) -> None:
        if agent.status == "provisioning":
            await self._run_steps(Run(agent, _steps_of(agent)))
        elif agent.pending in AFTERWARDS:
            await self._afterwards(agent, agent.pending)

    async def _run_steps(self, run: Run) -> None:
        if run.agent.provisioning_started_at is None:
            run.learn(provisioning_started_at=self._clock.now())
        for name in STEPS[:-1]:
            step = run.step(name)
            if step["status"] in ("done", "skipped"):
                continue
            missing = [need for need in NEEDS.get(name, ()) if not _is_over(run.step(need))]
            if missing:
                step.update(status="failed", ms=0, error=f"not tried, because of: {missing[0]}")
                continue
            await self._run_step(run, step)
            failpoints.reach(f"{name}.kept")
        await self._conclude(run)

    async def _afterwards(self, agent: AgentRecord, pending: str) -> None:
        """A change, or a release: the steps of that kind which wait, then the mark is taken away."""
        run = Run(agent, [dict(step) for step in agent.steps])
        waiting = [step for step in run.steps if step["status"] in ("pending", "running")]
        for name in AFTERWARDS[pending]:
            for step in (step for step in waiting if step["name"] == name):
                await self._run_step(run, step)
                failpoints.reach(f"{name}.kept")
        if pending == "update":
            again.after_knowledge(
                run.steps, run.elevenlabs.get("knowledge_base"), self._clock.now()
            )
            await self._keep(run)
        if agent.status == "degraded" and pending == "update":
            await self.health.check(agent.id)  # nothing may be missing any more
        await self._store.write(_finish, agent, self._clock.now())
        log.event(
            "agent_changed",
            agent_id=agent.id,
            kind=pending,
            remarks=[f"{s['name']}: {s['error']}" for s in run.steps if s.get("error")],
        )

    async def _run_step(self, run: Run, step: dict[str, Any]) -> None:
        """Do the work until it is done, cannot be done, or the time is up; keep what came of it."""
        name = step["name"]
        step.update(status="running", ms=0)
        step.pop("error", None)
        step.pop(again.LATER, None)
        await self._keep(run)
        failpoints.reach(f"{name}.begun")
        begin_s = trio.current_time()
        deadline_s = DEADLINES_S[name]
        remark: str | None = f"no answer within {deadline_s:g} s"
        status, is_away = "failed", False
        with trio.move_on_after(deadline_s) as patience:
            try:
                remark = await _insisting(lambda: WORK[name](run, self._services), step)
                status = "done"
            except Skipped:
                remark, status = None, "skipped"
            except StepFailed as failure:
                remark, is_away = str(failure), failure.later
        if status == "failed" and "error" in step:
            remark = step["error"]  # the last transient failure says more than the deadline
        step.pop("error", None)
        step.update(status=status, ms=round((trio.current_time() - begin_s) * 1000))
        if remark:
            step["error"] = remark
        if is_away or patience.cancelled_caught:
            step[again.LATER] = True
            if name in SOFT:
                step["error"] = f"{remark}; {again.schedule(step, self._clock.now())}"
        elif name in SOFT:
            again.forget(step)
        failpoints.reach(f"{name}.done")
        await self._keep(run)

    # ---- the end -------------------------------------------------------------------------------

    async def _conclude(self, run: Run) -> None:
        failed = [s["name"] for s in run.steps if s["status"] == "failed" and s["name"] not in SOFT]
        failed = [name for name in failed if name in STEPS[:-1]]
        remarks = [f"{s['name']}: {s['error']}" for s in run.steps if s.get("error")]
        remarks = [remark for remark in remarks if not remark.startswith("live: ")]
        status = "failed" if failed else "degraded" if remarks else "live"
        live = run.step("live")
        live.update(status="failed" if failed else "done", ms=0)
        live.pop("error", None)
        if failed:
            how = again.after_failure(run.steps, failed, self._clock.now())
            live["error"] = f"not live, because of: {', '.join(failed)}; {how}"
        failpoints.reach("live.begun")
        run.learn(status=status, provisioning_ended_at=self._clock.now())
        await self._keep(run)
        log.event(
            "agent_provisioned",
            level="info" if status == "live" else "warning",
            agent_id=run.agent.id,
            status=status,
            remarks=remarks,
        )

    async def _keep(self, run: Run) -> None:
        """Commit steps and columns, unless somebody has closed the agent meanwhile."""
        columns = {**run.columns, "updated_at": self._clock.now()}
        await self._store.write(_update, run.agent, columns, run.steps)


def _update(
    conn: Connection, agent: AgentRecord, columns: dict[str, Any], steps: list[dict[str, Any]]
) -> None:
    """Commit, unless the agent was closed, or taken up anew, meanwhile."""
    now = agents.get(conn, agent.id, to_change=True)
    for status in (agents.CLOSED, "provisioning"):
        if now is None or (now.status == status) != (agent.status == status):
            raise RecordNotFound(f"agent {agent.id} has changed: this work is over")
    assert now is not None
    agents.update(conn, agent.id, **columns, steps=_merged(steps, now.steps))


def _merged(mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps that somebody has asked for meanwhile stay as they were asked for."""
    asked = {step.get("name"): step for step in theirs}
    merged = []
    for step in mine:
        other = asked.pop(step["name"], step)
        merged.append(step if other.get("asked_at") == step.get("asked_at") else other)
    return merged + list(asked.values())


def _finish(conn: Connection, agent: AgentRecord, at: Any) -> None:
    """The work is done, unless more of it was asked for while it went on."""
    now = agents.get(conn, agent.id, to_change=True)
    if now is None or now.pending is None or now.pending != agent.pending:
        return
    names = AFTERWARDS[now.pending]
    if not any(s.get("name") in names and s.get("status") == "pending" for s in now.steps):
        agents.update(conn, agent.id, pending=None, updated_at=at)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _waits(agent: AgentRecord) -> bool:
    return agent.status == "provisioning" or agent.pending in AFTERWARDS


def _is_over(step: dict[str, Any]) -> bool:
    return step["status"] in ("done", "skipped")


def _steps_of(agent: AgentRecord) -> list[dict[str, Any]]:
    """The steps as far as they had come; a step that was interrupted begins again."""
    over = {
        step.get("name"): step for step in agent.steps if step.get("status") in ("done", "skipped")
    }
    retried = {
        step.get("name"): {"retries": step["retries"]} for step in agent.steps if "retries" in step
    }
    return [
        dict(over[name])
        if name in over
        else {"name": name, "status": "pending", "ms": 0, **retried.get(name, {})}
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
            step["tries"] = step.get("tries", 1) + 1
        await trio.sleep(delay_s)
        delay_s = min(delay_s * 2, RETRY_MAX_S)


def _owner(listen: str) -> str:
    """This daemon: only one process can have the port, so after a crash the name is the same again."""
    return f"{socket.gethostname()}/{listen}"[:120]
