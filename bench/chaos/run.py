"""Kill workers and control while calls go on; afterwards nothing may be lost, doubled or left open.

The same seed draws the same kinds and times of kills; what they meet is as random as the machine is.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from bench.chaos import processes
from bench.chaos.load import NUMBERS, SCRIPTS, SMS, Load
from bench.chaos.points import POINTS, Point, Trigger
from bench.checker import check, read_history
from bench.rig import Rig, open_rig

SETTLE_S = 240.0
"""Longer than any of the daemon's own deadlines for a call of which nothing is heard."""
POINT_WAIT_S = 120.0
"""How long a named point may take to be reached."""
WORKER_SHARE = 0.7
CONTROL_RETURN_S = 40.0
"""`media.control_return_timeout_s`: a busy machine takes twenty seconds to start a daemon."""
BURY_EVERY_S = 0.2
LOSE_EVERY_S = 6.0
"""Between workers that are killed to bring calls to `/twilio/continue`: new ones have joined by then."""
WORKER_WAIT_S = 15.0
SAY_EVERY_LOOKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much chaos."""

    kills: int = 4
    named: int = 0
    calls: int = 20
    workers: int = 2
    seed: int = 1
    pause_s: tuple[float, float] = (0.8, 2.5)
    """Between kills."""
    points: Sequence[Point] = POINTS
    """Where to kill, one after another, and again from the first one."""


@dataclass
class Outcome:
    """What was done, and what the checker says."""

    worker_kills: int = 0
    control_kills: int = 0
    named_kills: list[str] = field(default_factory=list)
    points_missed: list[str] = field(default_factory=list)
    going: list[int] = field(default_factory=list)
    """Calls that were going on at each kill."""
    seconds: float = 0.0
    calls: int = 0
    records: int = 0
    conversations: int = 0
    messages: int = 0
    opt_outs: int = 0
    results: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


async def run(folder: Path, plan: Plan, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """The whole run. Raises RigError when the daemon does not come back, OSError where there is no subreaper."""
    media = {
        "workers": plan.workers,
        "agent_first_message_timeout_s": 3.0,
        "control_return_timeout_s": CONTROL_RETURN_S,
    }
    folder.mkdir(parents=True, exist_ok=True)
    trigger = Trigger(folder / "point")
    environment = {"TANDEM_FAIL_POINT": str(trigger.path)}
    with processes.subreaper():
        async with open_rig(
            folder,
            agents=SCRIPTS,
            numbers=tuple(NUMBERS.values()),
            media=media,
            environment=environment,
        ) as rig:
            chaos = _Chaos(rig, plan, trigger, say)
            for name, number in NUMBERS.items():
                await rig.create_agent(number, name, sms=SMS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chaos.keep_burying)
                await chaos.kill_everything()
                await chaos.settle()
                nursery.cancel_scope.cancel()
            chaos.judge()
        processes.bury()
    return chaos.outcome


class _Chaos:
    def __init__(self, rig: Rig, plan: Plan, trigger: Trigger, say: Callable[[str], None]) -> None:
        self.outcome = Outcome()
        self._rig = rig
        self._plan = plan
        self._trigger = trigger
        self._say = say
        self._load = Load(rig, plan.calls)
        self._dice = random.Random(plan.seed)
        self._began_s = trio.current_time()

    async def keep_burying(self) -> None:
        """What has ended and is nobody's child any more."""
        while True:
            processes.bury(self._rig.daemon.process.pid)
            await trio.sleep(BURY_EVERY_S)

    # ---- kills -------------------------------------------------------------------------------

    async def kill_everything(self) -> None:
        """Random kills, then named ones, under load."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load.keep_calling)
            nursery.start_soon(self._load.keep_opting_out)
            await self._until_load_is_up()
            for index in range(self._plan.kills):
                await trio.sleep(self._dice.uniform(*self._plan.pause_s))
                await self._kill_at_random()
                self._say(f"kill {index + 1}: {self._counts()}")
            for index in range(self._plan.named):
                await self._kill_at(self._plan.points[index % len(self._plan.points)])
            nursery.cancel_scope.cancel()

    async def _until_load_is_up(self) -> None:
        with trio.move_on_after(30.0):
            while self._load.going < self._plan.calls:
                await trio.sleep(0.05)

    async def _kill_at_random(self) -> None:
        wants_worker = self._dice.random() < WORKER_SHARE
        choice = self._dice.random()
        self.outcome.going.append(self._load.going)
        if wants_worker and (workers := await self._some_workers()):
            if await processes.kill(workers[int(choice * len(workers))]):
                self.outcome.worker_kills += 1
            else:
                self.outcome.problems.append("a worker ended by itself, just before it was killed")
        else:
            await self._kill_control()
            self.outcome.control_kills += 1
            await self._rig.restart_daemon()

    async def _some_workers(self) -> list[int]:
        """The workers that live; a pool whose workers die all the time takes its time to start others."""
        with trio.move_on_after(WORKER_WAIT_S):
            while not (found := processes.living_workers(self._rig.daemon.process.pid)):
                await trio.sleep(0.05)
            return found
        self.outcome.problems.append(f"no worker was there for {WORKER_WAIT_S:g} s")
        return []

    async def _until_workers_are_ready(self) -> None:
        """Those that were killed just now are replaced first: one that dies with control comes to no point."""
        with trio.move_on_after(POINT_WAIT_S):
            while (await self._rig.api.get("/readyz")).json()["workers"] < self._plan.workers:
                await trio.sleep(0.05)
            return
        self.outcome.problems.append(f"the workers were not ready within {POINT_WAIT_S:g} s")

    async def _kill_control(self) -> None:
        daemon = self._rig.daemon
        if (code := daemon.process.poll()) is not None:
            self.outcome.problems.append(f"control ended by itself, with code {code}")
        elif await daemon.stop(signal.SIGKILL) != -signal.SIGKILL:
            self.outcome.problems.append("control was gone before it could be killed")

    async def _kill_at(self, point: Point) -> None:
        rig = self._rig
        self.outcome.going.append(self._load.going)
        is_for_workers = point.when in ("control_returns", "control_away")
        if is_for_workers:
            await self._until_workers_are_ready()
        self._trigger.arm(point)
        if is_for_workers:
            await self._kill_control()
        if point.when == "control_returns":
            await rig.restart_daemon()
        async with trio.open_nursery() as nursery:
            if point.when == "worker_lost":
                nursery.start_soon(self._keep_losing_workers)
            pid = await self._reached()
            nursery.cancel_scope.cancel()
        if pid is None:
            self._trigger.disarm()
            self.outcome.points_missed.append(point.name)
            self.outcome.problems.append(f"{point.name} was not reached")
        elif await self._has_died(pid):
            self.outcome.named_kills.append(point.name)
            if (pid == rig.daemon.process.pid) == point.of_worker:
                self.outcome.problems.append(f"{point.name} was reached by the other process")
        else:
            self.outcome.problems.append(f"{point.name} was reached and survived")
        self._say(f"{point.name}: {'missed' if pid is None else 'killed'}; {self._counts()}")
        if rig.daemon.process.poll() is not None:
            await rig.restart_daemon()

    async def _keep_losing_workers(self) -> None:
        """One after another: the calls of the first may all have gone on once, and do so once only."""
        while True:
            await trio.sleep(LOSE_EVERY_S)
            for worker in (await self._some_workers())[:1]:
                await processes.kill(worker)

    async def _reached(self) -> int | None:
        with trio.move_on_after(POINT_WAIT_S):
            while (pid := self._trigger.reached_by()) is None:
                if self._rig.daemon.process.poll() is not None and not self._trigger.path.exists():
                    await trio.sleep(0.05)
                await trio.sleep(0.02)
            return pid
        return self._trigger.reached_by()

    async def _has_died(self, pid: int) -> bool:
        with trio.move_on_after(processes.END_TIMEOUT_S):
            while (found := processes.stat(pid)) is not None and found.is_alive:
                await trio.sleep(0.01)
            with trio.CancelScope(shield=True):
                if pid == self._rig.daemon.process.pid:
                    return await trio.to_thread.run_sync(self._rig.daemon.process.wait) == -9
            return True
        return False

    def _counts(self) -> str:
        return f"{self._load.going} calls going, {len(self._rig.twilio.calls)} so far"

    # ---- the end -----------------------------------------------------------------------------

    async def settle(self) -> None:
        """Until every call is over and every record is closed, or patience ends: the checker tells."""
        with trio.move_on_after(SETTLE_S):
            for call in list(self._rig.twilio.calls.values()):
                await call.settled()
            looks = 0
            while problems := check(self._history()):
                if looks % SAY_EVERY_LOOKS == 0:
                    self._say(f"settling: {len(problems)} things are open, such as: {problems[0]}")
                looks += 1
                await trio.sleep(1.0)

    def judge(self) -> None:
        """What the checker finds, and the figures."""
        outcome, history = self.outcome, self._history()
        outcome.problems += check(history)
        outcome.seconds = round(trio.current_time() - self._began_s, 1)
        outcome.calls = len(history.calls)
        outcome.records = len(history.records)
        outcome.conversations = len(history.conversations)
        outcome.messages = len(history.messages)
        outcome.opt_outs = len(history.opt_outs_acknowledged)
        for record in history.records:
            outcome.results[str(record.result)] = outcome.results.get(str(record.result), 0) + 1
        left = processes.living_workers(self._rig.daemon.process.pid)
        if len(left) > self._plan.workers:
            outcome.problems.append(f"{len(left)} workers are there, not {self._plan.workers}")
        zombies = [c.pid for c in processes.children(os.getpid()) if not c.is_alive]
        if self._rig.daemon.process.pid in zombies:
            outcome.problems.append("control is a zombie")

    def _history(self):  # type: ignore[no-untyped-def]
        return read_history(
            self._rig.twilio,
            self._rig.elevenlabs,
            self._rig.folder / "tandem.db",
            opt_outs_acknowledged=self._load.opted_out,
        )
