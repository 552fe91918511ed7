"""Kill workers and control while calls go on; afterwards nothing may be lost, doubled or left open.

The same seed draws the same kinds and times of kills; what they meet is as random as the machine is.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import trio

from bench.checker import check, read_history
from bench.rig import Rig, RigError, open_rig
from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_twilio import Caller

OURS = "+14155550199"
AGENT = "agent_chaos"
SETTLE_S = 90.0
POINT_WAIT_S = 12.0
"""How long a named point may take to be reached before the daemon is killed without it."""
POINTS = ("dial.before_create", "dial.after_create", "after_call.begun", "analysis.applied")
WORKER_SHARE = 0.7


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


@dataclass
class Outcome:
    """What was done, and what the checker says."""

    worker_kills: int = 0
    control_kills: int = 0
    named_kills: list[str] = field(default_factory=list)
    points_missed: list[str] = field(default_factory=list)
    calls: int = 0
    conversations: int = 0
    problems: list[str] = field(default_factory=list)


async def run(folder: Path, plan: Plan) -> Outcome:
    """The whole run. Raises RigError when the daemon does not come back."""
    hold = Utterance.of("agent_hold")
    script = AgentScript(first_message=Utterance("Hello.", hold.pcm16[:32_000]))
    media = {"workers": plan.workers, "agent_first_message_timeout_s": 3.0}
    async with open_rig(folder, agents={AGENT: script}, media=media) as rig:
        chaos = _Chaos(rig, plan)
        agent = await rig.create_agent(OURS, AGENT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chaos.keep_calling, agent["id"])
            nursery.start_soon(chaos.opt_out)
            await chaos.kill_at_random()
            await chaos.kill_at_points()
            nursery.cancel_scope.cancel()
        await chaos.settle()
        history = read_history(
            rig.twilio,
            rig.elevenlabs,
            folder / "tandem.db",
            opt_outs_acknowledged=chaos.opted_out,
        )
        outcome = chaos.outcome
        outcome.problems += check(history)
        outcome.calls = len(history.calls)
        outcome.conversations = len(history.conversations)
        return outcome


class _Chaos:
    def __init__(self, rig: Rig, plan: Plan) -> None:
        self.outcome = Outcome()
        self.opted_out: set[str] = set()
        self._rig = rig
        self._plan = plan
        self._dice = random.Random(plan.seed)
        self._numbers = itertools.count(1)

    # ---- load --------------------------------------------------------------------------------

    async def keep_calling(self, agent_id: str) -> None:
        """As many calls as planned at any time, a third of them outbound."""
        twilio = self._rig.twilio
        while True:
            going = sum(not call.is_over for call in twilio.calls.values())
            for _ in range(self._plan.calls - going):
                index = next(self._numbers)
                stays = Caller(hangs_up_after_answer_s=3.0 + index % 7, answer_after_s=0.3)
                if index % 3:
                    await twilio.call_in(f"+1415556{index % 10_000:04d}", OURS, stays)
                else:
                    number = f"+1415557{index % 10_000:04d}"
                    twilio.destinations[number] = stays
                    await self._tell("/v2/calls/initiate", {"agent_id": agent_id, "to": number})
            await trio.sleep(0.1)

    async def opt_out(self) -> None:
        """Somebody opts out twice a second; what was confirmed is remembered."""
        for index in itertools.count():
            number = f"+1415558{index % 10_000:04d}"
            if await self._tell("/v2/opt-outs", {"e164": number, "reason": "asked"}):
                self.opted_out.add(number)
            await trio.sleep(0.5)

    async def _tell(self, path: str, body: dict[str, str]) -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = await self._rig.api.post(path, json=body, timeout=3.0)
            return answer.status_code < 300
        return False

    # ---- kills -------------------------------------------------------------------------------

    async def kill_at_random(self) -> None:
        """The planned number of kills, of a worker or of control."""
        for _ in range(self._plan.kills):
            await trio.sleep(self._dice.uniform(*self._plan.pause_s))
            workers = self._workers()
            if workers and self._dice.random() < WORKER_SHARE:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._dice.choice(workers), signal.SIGKILL)
                    self.outcome.worker_kills += 1
            else:
                await self._rig.daemon.stop(signal.SIGKILL)
                self.outcome.control_kills += 1
                await self._rig.restart_daemon()

    async def kill_at_points(self) -> None:
        """The daemon is started with a point at which it dies, over and over."""
        rig = self._rig
        for index in range(self._plan.named):
            point = POINTS[index % len(POINTS)]
            await rig.daemon.stop(signal.SIGKILL)
            rig.environment["TANDEM_FAIL_POINT"] = point
            with contextlib.suppress(RigError):  # it may die before it is ready
                await rig.restart_daemon()
            with trio.move_on_after(POINT_WAIT_S):
                while rig.daemon.process.poll() is None:
                    await trio.sleep(0.05)
            reached = rig.daemon.process.poll() == -signal.SIGKILL
            (self.outcome.named_kills if reached else self.outcome.points_missed).append(point)
            del rig.environment["TANDEM_FAIL_POINT"]
            await rig.daemon.stop(signal.SIGKILL)
            await rig.restart_daemon()

    def _workers(self) -> list[int]:
        """Pids of workers that live, children of the daemon."""
        lines = self._rig.daemon.log_lines()
        pids = {line["pid"] for line in lines if line.get("event") == "worker_ready"}
        return sorted(pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists())

    # ---- the end -----------------------------------------------------------------------------

    async def settle(self) -> None:
        """Until every call is over and every record is closed, or patience ends: the checker tells."""
        twilio = self._rig.twilio
        with trio.move_on_after(SETTLE_S):
            for call in list(twilio.calls.values()):
                await call.settled()
            database = self._rig.folder / "tandem.db"
            while check(read_history(twilio, self._rig.elevenlabs, database)):
                await trio.sleep(0.5)
