"""Where rows of the fault table are played: a daemon, a number and an agent for each row, bystanders beside them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bench.rig import Rig, open_rig
from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_elevenlabs.post_call import PostCall
from bench.sim_elevenlabs.record import ConversationRecord
from bench.sim_twilio import Caller, SimCall
from tests.faults.rows import Row

THEM = "+14155550100"
CALLEE = "+14155550123"
PATIENCE_S = 300.0
BYSTANDERS = ("bystander_1", "bystander_2")
BYSTANDER_S = 100
"""So long the bystanders' agents speak without a pause; a group has to be through before."""
_HOLD = Utterance.of("agent_hold").pcm16
_LONG = (_HOLD * (2 * 8_000 * BYSTANDER_S // len(_HOLD) + 1))[: 2 * 8_000 * BYSTANDER_S]
BYSTANDER = AgentScript(first_message=Utterance("A long story.", _LONG))
MEDIA = {
    "agent_first_message_timeout_s": 1.5,
    "agent_handshake_timeout_s": 2.0,
    "stream_start_timeout_s": 2.0,
    "workers": 1,
}
POST_CALL = "/elevenlabs/post-call"
HOOK_SECRET = "of-the-fault-table"
WIRES = ("public", "twilio", "elevenlabs", "agent", "post_call")


@dataclass
class Bed:
    """A running rig, and who lies in it."""

    rig: Rig
    numbers: dict[str, str]
    bystanders: list[SimCall] = field(default_factory=list)
    gaps_s: dict[str, float] = field(default_factory=dict)
    """By row: from the fault until the caller was answered."""

    def about(self, row: Row) -> bytes:
        """How the agent's conversation sockets of a row are known on the wire."""
        return f"agent_id={row.name}&".encode()

    def media(self, call: SimCall) -> bytes:
        """How the media stream of a call is known on the wire."""
        assert call.stream is not None
        return call.stream.url.partition("/media/")[2].encode()

    def conversations(self, row: Row) -> list[ConversationRecord]:
        """The conversations of a row's agent, in their order."""
        return [
            talk
            for talk in self.rig.elevenlabs.conversations.values()
            if talk.agent_id == row.name and talk.initiation is not None
        ]

    async def call(self, row: Row) -> SimCall:
        """Somebody calls the row's number; who is to talk stays until told otherwise."""
        caller = Caller(
            hangs_up_after_answer_s=None if row.talks else row.stays_s, answer_after_s=0.3
        )
        if row.outbound:
            return await self._call_out(row, caller)
        return await self.rig.twilio.call_in(THEM, self.numbers[row.name], caller)

    def dialled(self) -> int:
        """How many calls Twilio has made at our order."""
        return sum(call.direction != "inbound" for call in self.rig.twilio.calls.values())

    async def order(self, row: Row) -> None:
        """An outbound call is asked for; what is answered does not matter."""
        body = {"agent_id": self.rig.agents[row.name], "to": CALLEE}
        await self.rig.api.post("/v2/calls/initiate", json=body, timeout=60.0)

    async def _call_out(self, row: Row, caller: Caller) -> SimCall:
        twilio = self.rig.twilio
        twilio.destinations[CALLEE] = caller
        await self.order(row)
        while True:
            for call in twilio.calls.values():
                if call.to_number == CALLEE:
                    return call
            await trio.sleep(0.05)

    async def listen(self, count: int = len(BYSTANDERS)) -> None:
        """Begin the calls that have nothing to do with any fault."""
        for name in BYSTANDERS[:count]:
            call = await self.rig.twilio.call_in(THEM, self.numbers[name], Caller())
            self.bystanders.append(call)
        for call in self.bystanders:
            await until_heard(call)


async def until_heard(call: SimCall) -> None:
    """Until the first agent audio of a call is there, or the call is over."""
    while not call.media_messages and not call.is_over:
        await trio.sleep(0.02)


@contextlib.asynccontextmanager
async def open_bed(
    folder: Path, rows: Sequence[Row], media: dict[str, Any] | None = None
) -> AsyncIterator[Bed]:
    """A rig with an agent for each row and for the bystanders."""
    scripts = {row.name: row.script for row in rows} | dict.fromkeys(BYSTANDERS, BYSTANDER)
    numbers = {name: f"+1415555{2000 + index}" for index, name in enumerate(scripts)}
    with trio.fail_after(PATIENCE_S):
        async with open_rig(
            folder,
            agents=scripts,
            numbers=tuple(numbers.values()),
            media=MEDIA | (media or {}),
            wires=WIRES,
            environment={"TANDEM_ELEVENLABS_WEBHOOK_SECRET": HOOK_SECRET},
        ) as rig:
            async with trio.open_nursery() as nursery:
                for name, number in numbers.items():
                    fields = next((row.agent for row in rows if row.name == name), {})
                    nursery.start_soon(partial(rig.create_agent, number, name, **fields))
            if copies := max(row.webhooks for row in rows):
                url = rig.wires["post_call"].base_url + POST_CALL
                hook = PostCall(rig.elevenlabs, url, HOOK_SECRET, copies=copies)
                async with trio.open_nursery() as hooks:
                    await hooks.start(hook.run)
                    yield Bed(rig, numbers)
                    hooks.cancel_scope.cancel()
            else:
                yield Bed(rig, numbers)
