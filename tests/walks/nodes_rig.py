"""Two daemons on one PostgreSQL, behind a balancer: what the walks about several nodes share."""

from __future__ import annotations

import contextlib

import psycopg
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
async def two_nodes(folder, store_url, agents, *, patience_s=400.0, **options):
    """The first node's rig, with the other one as its peer."""
    with trio.fail_after(patience_s):
        async with open_rig(
            folder, agents=agents, store_url=store_url, nodes=2, **options
        ) as first:
            yield first, first.peers[0]


async def nothing_is_wrong(rig, patience_s=90.0):
    """The checker finds nothing, once what is under way has settled. Raises AssertionError with what it finds."""
    problems = ["not looked yet"]
    with trio.move_on_after(patience_s):
        while problems:
            problems = check(read_history(rig.twilio, rig.elevenlabs, rig.store_url))
            await trio.sleep(0.2)
    if problems:
        raise AssertionError("\n".join(problems))


def _rows_of(rig):
    """The rows of the dial queue that this node holds: its name ends with the address of its API."""
    return f"lease_owner LIKE '%|{rig.api.base_url.netloc.decode()}#%'"


def sent_by(rig):
    """Whom this node was about to have called, or had asked Twilio for, without an answer so far."""
    with psycopg.connect(rig.store_url) as store:
        found = store.execute(
            "SELECT c.to_number FROM dial_queue q JOIN calls c ON c.id = q.call_id"
            f" WHERE q.state = 'sent' AND q.{_rows_of(rig)}"
        )
        return {number for (number,) in found}


def time_passes(dead):
    """As if two minutes had gone by: the leases of a node that was killed have run out, and what ElevenLabs was asked for once
    and did not know by now, it will not know.
    """
    with psycopg.connect(dead.store_url) as store:
        store.execute(f"UPDATE dial_queue SET lease_until = now() WHERE {_rows_of(dead)}")
        store.execute(
            "UPDATE outbox SET created_at = created_at - interval '2 minutes', due_at = now()"
            " WHERE kind = 'analysis' AND status = 'pending' AND attempts > 0"
            " AND lease_owner IS NULL AND due_at > now() + interval '1 second'"
        )
