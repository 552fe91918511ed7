"""The generator's process: all callers and all agents of a step in one loop, on a core of their own.

    python -m bench.load.generator PLAN_JSON

Speaks JSON lines: first `listening` with its ports; then it reads one line, the target's door; then
`progress`, `window_begin`, `window_end` and at last `done` with everything measured. It stops by itself when
its input ends.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import socket
import ssl
import sys
from collections import Counter
from typing import Any

import numpy as np

from bench.load import wire
from bench.load.agents import Agent, AgentManners
from bench.load.callers import Caller, Callers, Door
from bench.load.hot import speak
from bench.load.loop import Loop, now
from bench.load.plan import StepPlan
from bench.load.providers import Providers
from bench.load.tally import Tally, spread

SLOT_S = 0.001
"""Callers speak at 20 different instants of the 20 ms, as they do in life."""
PROGRESS_S = 0.5
QUIESCE_S = 1.5
"""Beyond a turn's length: until everything that was said has been played."""
SETUP_TIMEOUT_S = 30.0
HANG_UP_PER_S = 200
HANG_UP_TIMEOUT_S = 20.0


class Generator:
    """One step, from listening to the account."""

    def __init__(self, plan: StepPlan) -> None:
        self._plan = plan
        self._loop = Loop()
        self._tally = Tally()
        self._heads = wire.Heads()
        voice = wire.AgentVoice(
            plan.audio_format,
            plan.agent_chunk_ms,
            plan.agent_chunks_per_turn,
            alignment=plan.alignment,
        )
        self._manners = AgentManners(
            voice=voice,
            chunk_gap_s=plan.agent_chunk_gap_ms / 1000,
            period_s=plan.agent_period_ms / 1000,
            caller_format=plan.audio_format,
            barge_share=plan.barge_share,
            frames_relayed=plan.is_relay,
        )
        tls = None
        if plan.tls:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(plan.certificate, plan.key)
        self.providers = Providers(
            self._loop, audio_format=plan.audio_format, tls=tls, adopt=self._adopt_agent
        )
        self._callers: list[Caller] = []
        self._short: list[Caller] = []
        self._by_name: dict[str, Caller] = {}
        self._shared: Callers | None = None
        self._origin_s = 0.0
        self._slot = 0
        self._state = "fill" if plan.fill_calls else "ramp"
        self._short_account: Counter[str] = Counter()
        self._cpu_begin_s = 0.0
        self._window: dict[str, Any] = {}

    # ---- the story -----------------------------------------------------------------------------

    def run(self) -> None:
        """Listen, wait for the door, then call. Runs until the account is told."""
        _tell("listening", url=self.providers.url, agent_url=self.providers.agent_url)
        self._loop.watch(sys.stdin.fileno(), self._told)
        self._loop.run()

    def _told(self, mask: int) -> None:
        """The door, once; then only the end of input, for a driver that has died leaves no load behind."""
        line = os.read(sys.stdin.fileno(), 65536)
        if not line:
            sys.exit(1)
        door = json.loads(line)
        self._shared = Callers(
            loop=self._loop,
            door=Door(address=(door["host"], door["port"]), **door["named"]),
            tally=self._tally,
            heads=self._heads,
            turn_bytes=self._manners.voice.turn_ms * 8,
            ended=self._ended,
            audio_is_relayed=self._plan.is_relay,
        )
        gc.collect()
        gc.freeze()
        gc.disable()
        self._origin_s = now()
        self._loop.at(self._origin_s, self._tick)
        begin = self._fill if self._plan.fill_calls else self._dial_next
        self._loop.at(self._origin_s, begin, self._origin_s)
        self._loop.at(self._origin_s + PROGRESS_S, self._progress)

    def _fill(self, due_s: float) -> None:
        """Short calls, before the others; a wait of their length, then the ramp."""
        if len(self._short) < self._plan.fill_calls:
            self._dial_short()
            due_s += 1 / self._plan.fill_per_s
            self._loop.at(due_s, self._fill, due_s)
        else:
            self._state = "ramp"
            due_s = now() + self._plan.churn_call_s
            self._loop.at(due_s, self._dial_next, due_s)

    def _dial_next(self, due_s: float) -> None:
        if self._state != "ramp":
            return
        if len(self._callers) < self._plan.calls:
            self._new_caller(self._callers, len(self._callers)).dial()
            due_s += 1 / self._plan.ramp_per_s
            self._loop.at(due_s, self._dial_next, due_s)
        elif self._counts()["dialling"] and now() < due_s + SETUP_TIMEOUT_S:
            self._loop.at(now() + 0.1, self._dial_next, due_s)
        else:
            self._state = "warm-up"
            self._loop.at(now() + self._plan.warmup_s, self._open_window)
            if self._plan.churn_per_s:
                self._loop.at(now(), self._churn, now())

    def _new_caller(self, where: list[Caller], index: int) -> Caller:
        assert self._shared is not None
        caller = Caller(index, self._shared)
        where.append(caller)
        self._by_name[caller.call_sid] = self._by_name[str(index)] = caller
        return caller

    def _churn(self, due_s: float) -> None:
        """A short call beside the others; their figures are not kept, but they are counted."""
        if self._state not in ("warm-up", "window"):
            return
        self._dial_short()
        due_s += 1 / self._plan.churn_per_s
        self._loop.at(due_s, self._churn, due_s)

    def _dial_short(self) -> None:
        caller = self._new_caller(self._short, 1_000_000 + len(self._short))
        caller.dial()
        self._loop.at(now() + self._plan.churn_call_s, lambda _: caller.hang_up())

    def _open_window(self, _: object) -> None:
        self._state = "window"
        self._tally.lateness_ms = type(self._tally.lateness_ms)("f")
        self._loop.busy_max_s = 0.0
        self._cpu_begin_s = _cpu_s()
        _tell("window_begin", **self._counts())
        self._tally.open(now())
        self._window = {"frames": self._frames(), "callers": self._counts()["talking"]}
        self._loop.at(now() + self._plan.seconds, self._close_window)

    def _close_window(self, _: object) -> None:
        at_s = now()
        self._tally.close(at_s)
        seconds = at_s - self._tally.begin_s
        frames = self._frames() - self._window["frames"]
        due = self._window["callers"] * seconds * 1000 / wire.FRAME_MS
        self._window |= {
            "seconds": round(seconds, 3),
            "frames": frames,
            "frames_due": round(due),
            "cpu_share": round((_cpu_s() - self._cpu_begin_s) / seconds, 4),
            "lateness_ms": spread(np.frombuffer(self._tally.lateness_ms, np.float32)),
            "busy_max_ms": round(self._loop.busy_max_s * 1000, 3),
        }
        self._state = "after"
        _tell("window_end", **self._counts())
        # The driver looks at memory now; then the agents finish their sentences.
        self._manners.is_quiet = True
        silent_s = now() + self._manners.voice.turn_ms / 1000 + QUIESCE_S
        self._loop.at(silent_s, self._hang_up)
        self._loop.at(
            silent_s + len(self._callers) / HANG_UP_PER_S + HANG_UP_TIMEOUT_S, self._give_up
        )

    def _hang_up(self, _: object) -> None:
        self._state = "hang-up"
        for position, caller in enumerate(self._callers + self._short):
            # The account is closed when Twilio says `stop`: whatever comes after was not asked for.
            self._loop.at(now() + position / HANG_UP_PER_S, lambda _, c=caller: c.hang_up())
        self._ended(None)

    def _ended(self, caller: Caller | None) -> None:
        if self._state == "hang-up" and not any(
            c.state not in ("ended", "failed") for c in self._callers + self._short
        ):
            self._loop.at(now() + 0.2, self._give_up)

    def _give_up(self, _: object) -> None:
        if self._state == "done":
            return
        self._state = "done"
        _tell("done", result=self._result())
        self._loop.stop()

    # ---- while it runs -------------------------------------------------------------------------

    def _tick(self, _: object) -> None:
        """The callers of one slot send their frames."""
        assert self._shared is not None
        due_s = self._origin_s + self._slot * SLOT_S
        self._tally.lateness_ms.append((now() - due_s) * 1000)
        slots = self._shared.slots
        if not self._slot % len(slots):
            self._heads.grow(int((now() - self._origin_s) * 50) + 100)
        heads = self._heads.made
        speak(slots[self._slot % len(slots)][:], heads)
        self._slot += 1
        self._loop.at(due_s + SLOT_S, self._tick)

    def _adopt_agent(self, sock: socket.socket, rest: bytes, path: str) -> None:
        Agent(self._loop, sock, rest, path, self._manners, self._tally, self._by_name.get)

    def _progress(self, _: object) -> None:
        _tell("progress", state=self._state, errors=self._tally.errors.total(), **self._counts())
        self._loop.at(now() + PROGRESS_S, self._progress)

    def _counts(self) -> dict[str, int]:
        found = Counter(caller.state for caller in self._callers)
        return {name: found[name] for name in ("dialling", "talking", "failed", "ended")}

    def _frames(self) -> int:
        return sum(len(caller.sent_at) for caller in self._callers)

    # ---- the account ---------------------------------------------------------------------------

    def _result(self) -> dict[str, Any]:
        for caller in self._callers:
            if caller.agent is not None:
                self._tally.uplink(caller.sent_at, caller.agent.arrived_at)
        accounts = [caller.account() for caller in self._callers]
        accounts += [caller.account() | {"is_short": True} for caller in self._short]
        return {
            **self._tally.summary(),
            "calls": len(self._callers),
            "short_calls": len(self._short),
            "states": dict(Counter(a["state"] for a in accounts)),
            "generator": self._window,
            "account": self._balance(accounts),
        }

    def _balance(self, accounts: list[dict[str, Any]]) -> dict[str, Any]:
        """Every frame that was sent is accounted for; so is every byte that agents said.

        Transcoding may hold back or round a few samples: then a frame a call and turn is the tolerance.
        """
        whole = [a for a in accounts if a["state"] == "ended"]
        said_factor = 8 / self._manners.voice.bytes_per_ms
        frame_bytes = wire.FRAME_MS * self._manners.voice.bytes_per_ms
        if self._plan.is_relay:
            frame_bytes = wire.FRAME_BYTES
        sent = sum(a["frames_sent"] for a in whole)
        heard = sum(a["agent_heard_bytes"] for a in whole) / frame_bytes
        exact = self._plan.audio_format == "ulaw_8000"
        slack = 0.0 if exact else 2.0
        off = sum(
            abs(a["frames_sent"] - a["agent_heard_bytes"] / frame_bytes) > slack for a in whole
        )
        # Short calls are hung up while their agent speaks.
        lost = [a for a in whole if not a["interrupted"] and not a.get("is_short")]
        unheard = sum(a["agent_said_bytes"] * said_factor - a["caller_heard_bytes"] for a in lost)
        off_down = sum(
            abs(a["agent_said_bytes"] * said_factor - a["caller_heard_bytes"])
            > (0 if exact else wire.FRAME_BYTES * 8)
            for a in lost
        )
        return {
            "calls_ended": len(whole),
            "calls_failed": len(accounts) - len(whole),
            "frames_sent": sent,
            "frames_heard_by_agents": round(heard, 2),
            "calls_with_uplink_off": off,
            "agent_bytes_unheard": round(unheard),
            "calls_with_downlink_off": off_down,
            "calls_interrupted": sum(a["interrupted"] > 0 for a in whole),
            "balances": off == 0 and off_down == 0 and len(whole) == len(accounts),
        }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _tell(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Entry of the process."""
    random.seed(1)
    Generator(StepPlan.from_json(sys.argv[1])).run()


if __name__ == "__main__":
    main()
