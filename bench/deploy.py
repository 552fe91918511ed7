"""A deploy on one machine with calls in progress: `make deploy-demo`.

    blue carries the calls ─ green starts beside it ─ both serve, and more calls come ─ blue is told to stop
    it takes nothing new, drains, hands over what is left and exits ─ everybody talks on with green and hangs up

The simulated Twilio says the apology at the pace of speech. Exit code 1 when any call was dropped, that is: ended
otherwise than by its own caller, never heard the agent again, or left no complete record.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import trio

from bench.rig import ACCOUNT_SID, Rig, open_rig
from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_twilio import Caller, SimCall, TwilioSim
from bench.sim_twilio.connecting import StreamOptions

OURS = "+14155550199"
AGENT = "agent_deploy"
KNOCK_EVERY_S = 0.02
TALK_WAIT_S = 60.0
STOP_WAIT_S = 90.0
SETTLE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large a deploy."""

    calls: int = 50
    between: int = 10
    """Of these calls, so many begin while both instances serve."""
    outbound_share: int = 4
    """Every so many-th call is one that we place."""
    drain_timeout_s: float = 3.0
    say_s_per_char: float = 0.06
    calls_per_s: float = 10.0
    workers: int = 1
    stays_s: float = 3.0
    """How long callers stay on the line once everybody hears the agent of the new instance."""


@dataclass
class Outcome:
    """What came of it. Times in milliseconds."""

    calls: int = 0
    handed_over: int = 0
    passed_on: int = 0
    """Connections that came to one instance and were the other one's."""
    knocks: int = 0
    unanswered: int = 0
    """Requests to the public port during the deploy, and how many of them got no answer."""
    exit_code: int | None = None
    drain_ms: float = 0.0
    """From SIGTERM to the exit of the former instance."""
    gaps_ms: list[float] = field(default_factory=list)
    """From the end of the stream at the former instance to the first audio of the agent at the new one."""
    apology_ms: float = 0.0
    """How much of each gap the caller hears the apology."""
    late_ms: float = 0.0
    """How late the simulated callers' own 20 ms grid was at most: above some ten, the machine is too small to time gaps on."""
    dropped: list[str] = field(default_factory=list)
    """One sentence for each call that was."""

    @property
    def is_good(self) -> bool:
        return not (self.dropped or self.unanswered) and self.exit_code == 0


async def run(folder: Path, plan: Plan) -> Outcome:
    """The whole deploy. Raises RigError when an instance does not start."""
    twilio = TwilioSim(
        ACCOUNT_SID,
        "token-of-the-deploy",
        (OURS,),
        say_s_per_char=plan.say_s_per_char,
        # On a machine that is too small for so many simulated callers they are late, and no less polite for it.
        stream_options=StreamOptions(keep_audio=False, stop_deadline_s=SETTLE_S / 2),
    )
    first = Utterance("How may I help you?", Utterance.of("agent_long").pcm16[:64_000])
    agents = {AGENT: AgentScript(first_message=first, response_latency_s=0.05)}
    media = {"drain_timeout_s": plan.drain_timeout_s, "workers": plan.workers}
    async with open_rig(folder, agents=agents, media=media, twilio=twilio) as rig:
        return await _Deploy(rig, plan).run()


class _Deploy:
    def __init__(self, rig: Rig, plan: Plan) -> None:
        self._rig = rig
        self._plan = plan
        self._began = 0
        self._agent_id = ""
        self._outcome = Outcome()

    async def run(self) -> Outcome:
        rig, plan, outcome = self._rig, self._plan, self._outcome
        self._agent_id = (await rig.create_agent(OURS, AGENT))["id"]
        await self._begin(plan.calls - plan.between)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._knock)
            blue = await rig.start_beside("green")
            await self._begin(plan.between)
            calls = list(rig.twilio.calls.values())
            began_s = trio.current_time()
            outcome.exit_code = await blue.stop(within_s=STOP_WAIT_S)
            outcome.drain_ms = (trio.current_time() - began_s) * 1000
            nursery.cancel_scope.cancel()
        with trio.move_on_after(TALK_WAIT_S):
            while not all(call.is_over or _hears(call) for call in calls):
                await trio.sleep(0.05)
        await trio.sleep(self._plan.stays_s)
        for call in calls:
            if not call.is_over:
                call.note("hears" if _hears(call) else "hears-nothing")
                call.hang_up()
                await trio.sleep(1 / plan.calls_per_s)
        with trio.move_on_after(SETTLE_S):
            for call in calls:
                await call.settled()
        outcome.calls = len(calls)
        records = await self._records(calls)
        for call in calls:
            self._judge(call, records.get(call.sid))
        logs = [*blue.log_lines(), *rig.daemon.log_lines()]
        outcome.handed_over = sum(line["event"] == "call_handed_over" for line in logs)
        outcome.passed_on = sum(line["event"] == "connection_passed_on" for line in logs)
        return outcome

    async def _knock(self) -> None:
        """Somebody asks the public port all the time, and has to be answered."""
        async with httpx.AsyncClient(base_url=self._rig.public_url, trust_env=False) as client:
            while True:
                self._outcome.knocks += 1
                try:
                    answered = (await client.post("/twilio/voice")).status_code == 403
                except httpx.TransportError:
                    answered = False
                self._outcome.unanswered += not answered
                await trio.sleep(KNOCK_EVERY_S)

    async def _begin(self, count: int) -> None:
        """So many calls, and each hears the agent."""
        rig, plan = self._rig, self._plan
        known = set(rig.twilio.calls)
        for _ in range(count):
            self._began += 1
            number = f"+1415557{self._began:04d}"
            if self._began % plan.outbound_share:
                await rig.twilio.call_in(number, OURS, Caller())
            else:
                rig.twilio.destinations[number] = Caller(answer_after_s=0.3)
                await rig.post("/v2/calls/initiate", {"agent_id": self._agent_id, "to": number})
            await trio.sleep(1 / plan.calls_per_s)
        with trio.move_on_after(TALK_WAIT_S):
            while True:
                new = [call for sid, call in rig.twilio.calls.items() if sid not in known]
                if len(new) == count and all(call.media_messages for call in new):
                    return
                await trio.sleep(0.05)

    async def _records(self, calls: Sequence[SimCall]) -> dict[str, Any]:
        """The complete records, by Twilio's names; those that never became complete are left out."""
        found: dict[str, Any] = {}
        with trio.move_on_after(SETTLE_S):
            while len(found) < len(calls):
                items = (await self._rig.get("/v2/calls", limit=100))["items"]
                for item in items:
                    sid = item["metadata"].get("twilio_call_sid")
                    if item["ended_at"] and sid not in found:
                        found[sid] = await self._rig.get(f"/v2/calls/{item['id']}")
                await trio.sleep(0.1)
        return found

    def _judge(self, call: SimCall, record: Any) -> None:
        outcome = self._outcome
        streams = [stream for stream in call.streams if stream.times.t_start_sent is not None]
        heard_again = [
            stream for stream in streams if stream.times.t_first_media_received_s is not None
        ]
        for stream in streams:
            outcome.late_ms = max(outcome.late_ms, stream.times.late_max_ms)
        for before, after in pairwise(heard_again):
            outcome.gaps_ms.append(_gap_s(before, after) * 1000)
            outcome.apology_ms = max(
                outcome.apology_ms, len(call.heard_texts[0]) * self._plan.say_s_per_char * 1000
            )
        why = ""
        if not (call.events("hears") or call.events("hears-nothing")):
            why = f"ended early: {call.status}, hung up by {call.hung_up_by}, heard {call.heard_texts}"
        elif not call.events("hears"):
            why = f"has no agent any more: heard {call.heard_texts}"
        elif record is None:
            why = "has no complete record"
        elif record["result"] != "completed":
            why = f"is recorded as {record['result']}: {record['reason']}"
        if why:
            outcome.dropped.append(f"{call.direction} call {call.sid} {why}")


def _hears(call: SimCall) -> bool:
    """Whether the agent was heard on the call's newest stream, and that goes on."""
    newest = call.stream
    return (
        newest is not None
        and newest.end is None
        and newest.times.t_first_media_received_s is not None
    )


def _gap_s(before: Any, after: Any) -> float:
    ended_s = before.times.t_start_sent + before.times.ended_s
    return float(after.times.t_start_sent + after.times.t_first_media_received_s - ended_s)


def report(outcome: Outcome) -> str:
    """For people."""
    lines = [
        f"calls in progress         {outcome.calls}",
        f"dropped                   {len(outcome.dropped)}",
        f"handed over               {outcome.handed_over}, the others never noticed",
        f"connections passed on     {outcome.passed_on}",
        f"unanswered requests       {outcome.unanswered} of {outcome.knocks} during the deploy",
        f"former instance           exit code {outcome.exit_code} after {outcome.drain_ms / 1000:.1f} s",
    ]
    if outcome.gaps_ms:
        middle, longest = statistics.median(outcome.gaps_ms), max(outcome.gaps_ms)
        silent = outcome.apology_ms
        lines += [
            f"gap in the agent's audio  p50 {middle:.0f} ms, max {longest:.0f} ms",
            f"of it silence             p50 {middle - silent:.0f} ms, max {longest - silent:.0f} ms"
            f" (Twilio speaks the apology for {silent:.0f} ms)",
            f"simulated callers         late by {outcome.late_ms:.0f} ms at most",
        ]
    return "\n".join([*lines, *outcome.dropped])


def main() -> int:
    """The command line; the exit code is 1 when a call was dropped."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="bench.deploy", description=__doc__)
    parser.add_argument("--calls", type=int, default=usual.calls)
    parser.add_argument("--drain", type=float, default=usual.drain_timeout_s, help="seconds")
    parser.add_argument("--out", type=Path, help="where logs and the database are left")
    given = parser.parse_args()
    between = max(1, given.calls // 5)
    plan = Plan(calls=given.calls, between=between, drain_timeout_s=given.drain)
    with tempfile.TemporaryDirectory(prefix="tandem-deploy-") as scratch:
        outcome = trio.run(partial(run, given.out or Path(scratch), plan))
    print(report(outcome))
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
