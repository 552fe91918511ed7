"""The life of a call, inbound and outbound: ringing, answered, TwiML, over, and the status callbacks.

Source: Twilio, "Call resource" (statuses) and "TwiML voice". Every path ends in `_end`.
"""

from __future__ import annotations

import trio

from bench.sim_twilio import amd, parameters
from bench.sim_twilio.call import SimCall
from bench.sim_twilio.twiml import Document
from bench.sim_twilio.verbs import Carrier, fetch, run_documents

_EVENT_OF_STATUS = {"initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}
_SIP_CODES = {"busy": 486, "no-answer": 487, "failed": 404, "canceled": 487, "completed": 200}


def tell_status(carrier: Carrier, call: SimCall, status: str) -> None:
    """Queue the status callback for `status`, if it was asked for; it takes a sequence number anyway."""
    event = _EVENT_OF_STATUS.get(status, "completed")
    sequence = call.callback_sequence
    target = call.status_target
    if event in target.events:
        call.callback_sequence += 1
        params = parameters.status_callback(call, status, sequence, carrier.now())
        call.callbacks.put(target.url, target.method, params)


async def run_inbound(carrier: Carrier, call: SimCall) -> None:
    """Somebody calls one of the account's numbers."""
    call.note("ringing")
    if not call.source.url and call.source.twiml is None:
        # A number without a voice URL fails its calls at once, and no debugger entry tells.
        _end(carrier, call, "failed")
        return
    document = await fetch(carrier, call, call.source)
    if call.hung_up_by is not None:
        _end(carrier, call, "no-answer")
        return
    first = document.verbs[0] if document is not None and document.verbs else None
    if first is not None and first.name == "Reject":
        call.verbs.append(first)
        call.note("verb", verb="Reject")
        _end(carrier, call, "busy" if first.attributes.get("reason") == "busy" else "no-answer")
        return
    call.answer()
    await _talk(carrier, call, document)
    _end(carrier, call, "completed")


async def run_outbound(carrier: Carrier, call: SimCall, slot_at: float) -> None:
    """A call that the REST API created; `slot_at` is when its turn to be dialled comes (Trio's clock)."""
    call.note("queued")
    with call.interruptible():
        await trio.sleep_until(slot_at)
    if call.hung_up_by is None:
        call.note("initiated")
        tell_status(carrier, call, "initiated")
        await _ring(carrier, call)
    if call.hung_up_by is not None:
        _end(carrier, call, "canceled")
        return
    if call.caller.answer_after_s > call.ring_timeout_s:
        _end(carrier, call, "no-answer")
        return
    if call.caller.result != "answer":
        _end(carrier, call, call.caller.result)
        return
    call.answer()
    tell_status(carrier, call, "in-progress")
    if call.detection is not None and not call.detection.is_async:
        await amd.listen(carrier, call)  # the callee hears nothing meanwhile
        if call.answered_by is not None:
            call.extra_params["AnsweredBy"] = call.answered_by
    async with trio.open_nursery() as nursery:
        if call.detection is not None and call.detection.is_async:
            nursery.start_soon(amd.listen, carrier, call)
        await _talk(carrier, call, await fetch(carrier, call, call.source))
        nursery.cancel_scope.cancel()
    _end(carrier, call, "completed")


async def _ring(carrier: Carrier, call: SimCall) -> None:
    call.status = "ringing"
    call.note("ringing")
    tell_status(carrier, call, "ringing")
    with call.interruptible():
        await trio.sleep(min(call.caller.answer_after_s, call.ring_timeout_s))


async def _talk(carrier: Carrier, call: SimCall, document: Document | None) -> None:
    """Run TwiML on the answered call, within its time limit and the caller's patience."""
    patience_s = call.caller.hangs_up_after_answer_s
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hang_up_after, call, call.time_limit_s, "time-limit")
        if patience_s is not None:
            nursery.start_soon(_hang_up_after, call, patience_s, "caller")
        await run_documents(carrier, call, document)
        nursery.cancel_scope.cancel()


async def _hang_up_after(call: SimCall, delay_s: float, by: str) -> None:
    await trio.sleep(delay_s)
    call.hang_up(by)


def _end(carrier: Carrier, call: SimCall, status: str) -> None:
    if call.direction != "inbound":
        own = call.caller.sip_code if status == call.caller.result else None
        call.sip_response_code = own or _SIP_CODES[status]
    call.finish(status)
    tell_status(carrier, call, status)
    call.release()
