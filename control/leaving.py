"""How this daemon goes: its calls end by themselves, and what remains is ended in order or handed over.

Without a successor on this machine the workers end what remains: the agent's sentence, then REST, then the stream.
With one (`control.siblings`) no telephone call is ended: the agent's sentence, everything written down, then the stream
is closed. Twilio says the apology that it holds and asks `/twilio/continue`, which the successor answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from control import log
from control.calls import LiveCall, Outcome
from control.cluster import forget
from control.ending import Ending
from control.office import Office
from control.store import StoreUnavailable, nodes

DRAIN_MARGIN_S = 5.0
"""After the workers' deadline: for the last callbacks, requests to Twilio and records."""
SENTENCE_S = 10.0
"""How long an agent may go on with its sentence before its call is handed over; then it is cut short."""
REPORT_S = 5.0
"""For a worker's last word about a call that is handed over."""
HAND_OVER_EVERY_S = 0.02
"""Fifty calls a second: the successor opens an agent leg for each, and carries calls meanwhile."""
DRAINED = Outcome("drained", "gateway", "the gateway was shut down")

FindSuccessor = Callable[[], Awaitable["str | None"]]


def hand_over_max_s(calls: int) -> float:
    """How long it takes at most, after the drain, until so many calls are somebody else's."""
    return SENTENCE_S + REPORT_S + 2 * DRAIN_MARGIN_S + calls * HAND_OVER_EVERY_S


class Leaving:
    """One per process."""

    def __init__(
        self, office: Office, ending: Ending, write_down: Callable[[], Awaitable[None]]
    ) -> None:
        self._office = office
        self._ending = ending
        self._write_down = write_down

    async def drain(self, successor: FindSuccessor) -> None:
        """Take no more calls, let those in progress end in time, then none is live here."""
        office = self._office
        heir = await successor()
        office.is_draining, office.has_successor = True, heir is not None
        office.metrics.draining.set(1)
        timeout_s = office.settings.media.drain_timeout_s
        log.event("draining", calls=len(office.book), timeout_s=timeout_s, successor=heir)
        if heir is not None:
            with trio.move_on_after(timeout_s):
                await self._all_closed()
            heir = await successor()  # it may have gone meanwhile
            timeout_s = 0.0
        office.is_leaving = True
        if heir is None:
            await self._end_all(timeout_s)
        else:
            await self._hand_over_all(heir)
        await self._write_down()

    async def _all_closed(self) -> None:
        while left := [call for call in self._office.book if not call.closed.is_set()]:
            await left[0].closed.wait()

    # ---- without a successor -------------------------------------------------------------------

    async def _end_all(self, timeout_s: float) -> None:
        office = self._office
        with trio.move_on_after(timeout_s + DRAIN_MARGIN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(office.pool.drain, timeout_s)
                for call in office.book:
                    if call.direction == "outbound" and not call.answered:
                        nursery.start_soon(self._call_off, call)
                for call in office.book:
                    await call.closed.wait()
        with trio.move_on_after(DRAIN_MARGIN_S):
            async with trio.open_nursery() as nursery:
                for call in office.book:
                    nursery.start_soon(self._call_off, call)
        for call in office.book:
            if not _is_being_dialled(call):
                self._ending.close(call, DRAINED)

    async def _call_off(self, call: LiveCall) -> None:
        if _is_being_dialled(call):
            return
        call.hang_up_wanted = True
        if not call.closing and (
            call.twilio_call_sid is None or await self._ending.end_by_rest(call)
        ):
            self._ending.close(call, DRAINED)

    # ---- with one ------------------------------------------------------------------------------

    async def _hand_over_all(self, heir: str) -> None:
        office = self._office
        with trio.move_on_after(hand_over_max_s(len(office.book))):
            async with trio.open_nursery() as nursery:
                for call in office.book:
                    nursery.start_soon(self._hand_over, call, heir)
                    await trio.sleep(HAND_OVER_EVERY_S)
        with trio.move_on_after(DRAIN_MARGIN_S):
            await office.pool.drain(0.0)

    async def _hand_over(self, call: LiveCall, heir: str) -> None:
        if call.twilio_call_sid is None:
            return  # in the dial queue, or its dial request is under way: whoever takes over the row finds out
        if (
            call.handover is not None
        ):  # being put through to somebody: not our end of the talk, but one
            with trio.move_on_after(SENTENCE_S):
                await call.handed.wait()
        elif call.attached and self._office.pool.holds(call.id) and call.ending is None:
            await self._end_talk(call)
        elif call.ending is not None and call.report is None:
            with trio.move_on_after(REPORT_S):
                await call.closed.wait()
        await self._give(call, heir)

    async def _end_talk(self, call: LiveCall) -> None:
        """The agent's sentence, everything written down, the stream closed, the worker's last word."""
        reason = "handed over to another daemon"
        call.handed = trio.Event()
        call.handover = self._note_talk
        pool = self._office.pool
        pool.hang_up(call.id, reason, drain=True, hand_over=True)
        with trio.move_on_after(SENTENCE_S):
            await call.handed.wait()
        if not call.handed.is_set():
            pool.hang_up(call.id, reason, hand_over=True)
        with trio.move_on_after(REPORT_S):
            await call.reported.wait()

    async def _note_talk(self, call: LiveCall) -> None:
        """Before the stream is closed: the successor reads what was said as soon as Twilio asks it."""
        office = self._office
        times = int((call.legs.get("handed_over") or {}).get("times", 0)) + 1
        call.leg("handed_over", {"times": times, "at_ms": office.now_ms()})
        office.note(call, "handed_over")
        try:
            await office.ledger.save([call])
        except StoreUnavailable as error:
            log.event("hand_over_unwritten", level="error", call_id=call.id, error=str(error))
        finally:
            call.handover = None
            call.handed.set()

    async def _give(self, call: LiveCall, heir: str) -> None:
        """The call is the successor's, in one transaction with the last that is known of it here."""
        office = self._office
        if call.closing:
            return
        call.closing = True  # nothing more is decided about it here
        office.pool.cancel(call.id, "another daemon carries the call")
        if call.ticket:
            office.tickets.revoke(call.ticket)
        give = partial(nodes.give, call_id=call.id, node=office.node, heir=heir)
        try:
            if not await office.store.read(nodes.is_mine, call.id, office.node):
                call.columns = {}  # Twilio was quicker, and what the successor knows is newer
            await office.ledger.save([call], partial(give, now=office.clock.now()))
        except StoreUnavailable as error:
            # It stays in our name, and comes to the successor when our lease is over.
            log.event("hand_over_unwritten", level="error", call_id=call.id, error=str(error))
        log.event("call_handed_over", call_id=call.id, successor=heir)
        forget(office, call)


def _is_being_dialled(call: LiveCall) -> bool:
    """Its row is in the queue. The dialer puts it back, or ends the call that Twilio has made of it; what is still
    in doubt when this process ends is for the next one, which finds the row.
    """
    return call.direction == "outbound" and call.twilio_call_sid is None
