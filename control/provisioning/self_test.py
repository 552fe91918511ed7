"""The self-test: a media worker opens the agent's conversation, as for a call, and nobody is on the line.

The very way that a call takes: signed URL, TLS, upgrade, verified formats, first audio held by the worker.
Then the conversation is dropped. It costs some seconds of agent time.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import trio

from control import ids
from control.clock import Clock
from control.config import Settings
from control.provisioning.values import Run, Services, Skipped, StepFailed
from control.store.records import AgentRecord
from control.workers import PoolEvent, PoolFull, WorkerLost
from gateway.link import CallEvent, CallPlan, CallReport

FIRST_AUDIO_TIMEOUT_S = 10.0
"""From the moment the worker is told to the first audio of an agent that speaks first."""
CLOSE_TIMEOUT_S = 5.0
PROBES_MAX = 64
EVENTS_MAX = 200
"""Of one probe; a held conversation says little, what is beyond is dropped."""
HEARD = "agent_first_audio"
READY = "agent_ready"


class Pool(Protocol):
    """What is used of `control.workers.WorkerPool`."""

    def prepare(self, plan: CallPlan) -> str: ...
    def cancel(self, call_id: str, reason: str) -> None: ...


async def self_test(run: Run, services: Services) -> str | None:
    """Hear the agent's first words. Returns what could not be tested."""
    agent_id = run.known("elevenlabs_agent_id")
    if not agent_id or run.agent.settings.get("self_test") is False:
        raise Skipped
    first_message = run.elevenlabs.get("first_message")
    speaks_first = first_message is None or bool(first_message)
    agent = replace(run.agent, elevenlabs_agent_id=agent_id)
    return await services.probe.first_audio(agent, speaks_first=speaks_first)


class _Over(StepFailed):
    """The worker has said its last word about the probe."""


class Probes:
    """Conversations without a caller. `offer` is given every message of the workers."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        clock: Clock,
        variables: Callable[[AgentRecord], dict[str, object]],
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._variables = variables
        self._numbers = itertools.count(1)
        self._open: dict[str, trio.MemorySendChannel[PoolEvent]] = {}

    def offer(self, event: PoolEvent) -> bool:
        """Whether the message was about a probe of ours."""
        if isinstance(event, WorkerLost):
            for call_id in event.call_ids:
                self._tell(call_id, event)
            return False
        return self._tell(getattr(event, "call_id", ""), event)

    def _tell(self, call_id: str, event: PoolEvent) -> bool:
        channel = self._open.get(call_id)
        if channel is None:
            return False
        with contextlib.suppress(trio.WouldBlock):
            channel.send_nowait(event)
        return True

    async def first_audio(self, agent: AgentRecord, *, speaks_first: bool) -> str | None:
        """Open a conversation and wait for its first audio, or for its start when the agent waits for the
        caller. Returns a remark. Raises StepFailed."""
        if len(self._open) >= PROBES_MAX:
            raise StepFailed("too many self-tests at once", transient=True)
        probe_id = ids.new_id("probe", self._clock.now())
        send, receive = trio.open_memory_channel[PoolEvent](EVENTS_MAX)
        self._open[probe_id] = send
        try:
            try:
                self._pool.prepare(self._plan(probe_id, agent))
            except PoolFull as error:
                raise StepFailed(
                    "no media worker has room for a self-test", transient=True
                ) from error
            try:
                remark = await self._listen(receive, speaks_first)
            except _Over:
                raise
            except BaseException:
                await self._drop(probe_id, receive)
                raise
            await self._drop(probe_id, receive)
            return remark
        finally:
            del self._open[probe_id]

    async def _drop(self, probe_id: str, receive: trio.MemoryReceiveChannel[PoolEvent]) -> None:
        """Close the conversation, and see it closed: it costs money while it is open."""
        self._pool.cancel(probe_id, "the self-test is over")
        with trio.move_on_after(CLOSE_TIMEOUT_S) as patience:
            patience.shield = True
            async for event in receive:
                if isinstance(event, CallReport | WorkerLost):
                    return

    async def _listen(
        self, receive: trio.MemoryReceiveChannel[PoolEvent], speaks_first: bool
    ) -> str | None:
        is_ready = False
        with trio.move_on_after(FIRST_AUDIO_TIMEOUT_S):
            async for event in receive:
                if isinstance(event, WorkerLost):
                    raise _Over("the media worker died in the self-test", transient=True)
                if isinstance(event, CallReport):
                    raise _Over(
                        f"the conversation failed before the first audio: {event.reason}",
                        transient=event.result == "agent_fault",
                    )
                if isinstance(event, CallEvent) and event.name == HEARD:
                    return None
                if isinstance(event, CallEvent) and event.name == READY:
                    is_ready = True
                    if not speaks_first:
                        return None
        if is_ready:
            raise StepFailed(
                f"the agent said nothing within {FIRST_AUDIO_TIMEOUT_S:g} s: check its first message, "
                "voice and quota at ElevenLabs",
                later=True,
            )
        raise StepFailed(
            f"no conversation within {FIRST_AUDIO_TIMEOUT_S:g} s: ElevenLabs did not answer in time",
            later=True,
        )

    def _plan(self, probe_id: str, agent: AgentRecord) -> CallPlan:
        settings = self._settings
        assert agent.elevenlabs_agent_id is not None
        return CallPlan(
            call_id=probe_id,
            direction="inbound",
            elevenlabs_base_url=settings.elevenlabs.base_url,
            elevenlabs_api_key=settings.elevenlabs.api_key.reveal(),
            elevenlabs_agent_id=agent.elevenlabs_agent_id,
            twilio_account_sid=settings.twilio.account_sid,
            dynamic_variables=self._variables(agent) | {"gw_call_id": probe_id},
            attach_timeout_s=FIRST_AUDIO_TIMEOUT_S + CLOSE_TIMEOUT_S,
            max_call_s=FIRST_AUDIO_TIMEOUT_S + CLOSE_TIMEOUT_S,
        )
