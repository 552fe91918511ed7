"""Two daemons on one PostgreSQL, behind a balancer: what the walks about several nodes share."""

from __future__ import annotations

import contextlib

import trio

from bench.checker import check, read_history
from bench.rig import open_rig
from bench.sim_elevenlabs import AgentScript, Utterance

OURS = "+14155550199"
THEM = "+14155550100"
HOLD = Utterance.of("agent_hold")
SHORT = Utterance("Hello.", HOLD.pcm16[: 2 * 8_000])
GREETER = AgentScript(first_message=SHORT, response_latency_s=0.05)


@contextlib.asynccontextmanager
async def two_nodes(folder, store_url, agents, *, patience_s=150.0, **options):
    """The first node's rig, with the other one as its peer."""
    with trio.fail_after(patience_s):
        async with open_rig(
            folder, agents=agents, store_url=store_url, nodes=2, **options
        ) as first:
            yield first, first.peers[0]


async def nothing_is_wrong(rig, patience_s=20.0):
    """The checker finds nothing, once what is under way has settled. Raises AssertionError with what it finds."""
    problems = ["not looked yet"]
    with trio.move_on_after(patience_s):
        while problems:
            problems = check(read_history(rig.twilio, rig.elevenlabs, rig.store_url))
            await trio.sleep(0.2)
    if problems:
        raise AssertionError("\n".join(problems))
