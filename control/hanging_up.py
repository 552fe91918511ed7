"""The end of a call that somebody asked for: where it stands decides who ends it."""

from __future__ import annotations

import trio

from control.calls import LiveCall
from control.dialer import HUNG_UP
from control.ending import Ending
from control.office import Office
from control.refusals import CallOver

WAIT_S = 5.0
"""How long whoever asks waits for the end. It comes nevertheless."""


async def hang_up(office: Office, ending: Ending, call: LiveCall) -> None:
    """End a live call and write that down. Raises CallOver, StoreUnavailable."""
    if call.closing or call.ended_status:
        raise CallOver("the call is over")
    call.hang_up_wanted = True
    office.note(call, "hang_up_requested")
    with trio.move_on_after(WAIT_S):
        await end_now(office, ending, call)
    await office.ledger.save([call])


async def end_now(office: Office, ending: Ending, call: LiveCall) -> None:
    """By its worker, by the dialer that does not know its name yet, or at Twilio. Returns when it is closed."""
    pool = office.pool
    if call.attached and pool.holds(call.id):
        pool.hang_up(call.id, "hung up by request")
        await call.closed.wait()
        return
    pool.cancel(call.id, "hung up by request")
    if call.dial_state in ("sent", "uncertain"):
        await call.bound.wait()  # then the dialer ends it
        await call.closed.wait()
    elif call.twilio_call_sid is None or await ending.end_by_rest(call):
        ending.close(call, HUNG_UP)
