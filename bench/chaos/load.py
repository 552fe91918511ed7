"""Calls each way, and people who opt out, while everything is being killed."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace

import httpx
import trio

from bench.rig import Rig
from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_twilio import Caller

LISTENER, ENDER = "agent_listens", "agent_ends"
NUMBERS = {LISTENER: "+14155550199", ENDER: "+14155550198"}
SMS = {
    "template": "Thank you for calling {business_name}. Reply STOP to end.",
    "sender": "a2p_10dlc",
}
CALL_EVERY_S = 0.1
OPT_OUT_EVERY_S = 0.5
_HELLO = Utterance("Hello.", Utterance.of("agent_hold").pcm16[:32_000])
_AGENT = AgentScript(first_message=_HELLO, pong_deadline_s=10.0)
"""On a machine that starts processes all the time, a pong may be late; what is judged here is not time."""
SCRIPTS = {LISTENER: _AGENT, ENDER: replace(_AGENT, end_call_after_reply=0)}
"""One lets the caller hang up, the other one ends the call itself: Twilio is told by REST then."""


class Load:
    """As many calls as wanted at any time, a third of them outbound."""

    def __init__(self, rig: Rig, calls: int) -> None:
        self.opted_out: set[str] = set()
        """Whose opt-out was confirmed."""
        self._rig = rig
        self._calls = calls
        self._numbers = itertools.count(1)

    @property
    def going(self) -> int:
        """Calls that are up or ringing at Twilio."""
        return sum(not call.is_over for call in self._rig.twilio.calls.values())

    async def keep_calling(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                if self.going < self._calls:
                    await self._one_more(nursery, next(self._numbers))
                await trio.sleep(CALL_EVERY_S)

    async def _one_more(self, nursery: trio.Nursery, index: int) -> None:
        twilio = self._rig.twilio
        agent = ENDER if index % 4 == 0 else LISTENER
        caller = Caller(hangs_up_after_answer_s=3.0 + index % 7, answer_after_s=0.3)
        if index % 3:
            await twilio.call_in(f"+1415556{index % 10_000:04d}", NUMBERS[agent], caller)
            return
        number = f"+1415557{index % 10_000:04d}"
        twilio.destinations[number] = caller
        body = {"agent_id": self._rig.agents[agent], "to": number}
        nursery.start_soon(self._tell, "/v2/calls/initiate", body)

    async def keep_opting_out(self) -> None:
        """Somebody opts out twice a second; what was confirmed is remembered."""
        for index in itertools.count():
            number = f"+1415558{index % 10_000:04d}"
            if await self._tell("/v2/opt-outs", {"e164": number, "reason": "asked"}):
                self.opted_out.add(number)
            await trio.sleep(OPT_OUT_EVERY_S)

    async def _tell(self, path: str, body: dict[str, str]) -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = await self._rig.api.post(path, json=body, timeout=5.0)
            return answer.status_code < 300
        return False
