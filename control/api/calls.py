"""`/v2/calls`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import trio
from quart import Blueprint, Response
from quart_trio.wrappers import TrioResponse
from quart_trio.wrappers.response import TrioFileBody
from sqlalchemy import Connection

from control.api import call_models
from control.api.answers import answer, page, plain_page
from control.api.auth import principal, require_visible, visible_tenant
from control.api.call_models import (
    Call,
    CallBrief,
    CallInitiate,
    CallMade,
    CallsQuery,
    Decided,
    HangUpRequest,
    Line,
    Turn,
    Waits,
)
from control.api.dependencies import dependencies
from control.api.idempotency import idempotent
from control.api.openapi import WavFile, listing, operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import read_body, read_query
from control.api.refusals import as_problems
from control.dialing.intake import LATE_S
from control.refusals import DialUncertain
from control.retention import proof
from control.store import calls, dialing, provider_events
from control.store.provider_events import ProviderEventRecord
from control.store.records import CallLine, CallRecord, EventRecord, TurnRecord

blueprint = Blueprint("calls", __name__)

READ_BYTES = 256 * 1024
"""Of a recording at a time; the framework's 8 KiB would be two thread hops for half a second of audio."""


@blueprint.post("/v2/calls/initiate")
@operation(
    name="initiateCall",
    about="Calls",
    body=CallInitiate,
    answers={201: CallMade, 202: CallMade},
    problems=["policy-refused", "not-found", "conflict", "dial-refused"],
    creates=True,
)
@idempotent
async def initiate_call() -> Response:
    """Call somebody

    Policy is asked first, and a refusal is 403 with the decision. 201 says that the call is made: Twilio has it,
    or it waits in the queue (`status` is `queued`, `queue` says for what). 202 says that Twilio's answer was
    lost: the call may or may not ring, the record will say, and it is never dialled twice. Send an
    `Idempotency-Key` to be able to repeat the request.
    """
    given = await read_body(CallInitiate)
    _check_future(given)
    try:
        with as_problems():
            record = await dependencies().switchboard.initiate(
                agent_id=given.agent_id,
                to=given.to,
                variables=dict(given.variables),
                metadata=given.metadata | given.meaning(dependencies().clock.now()),
                tenant_id=visible_tenant(),
                not_before=given.not_before,
                may_be_put_off=given.on_blocked == "schedule",
                machine_detection=(
                    given.machine_detection.model_dump(exclude_none=True)
                    if given.machine_detection
                    else None
                ),
            )
    except DialUncertain as uncertain:
        return await _made(uncertain.record, 202)
    return await _made(record, 201)


@blueprint.get("/v2/calls")
@operation(
    name="listCalls",
    about="Calls",
    query=CallsQuery,
    answers={200: listing(CallBrief)},
    problems=["not-found"],
)
async def list_calls() -> Response:
    """List calls, the newest first"""
    query = read_query(CallsQuery)
    filters = {
        "agent_id": query.agent_id,
        "direction": query.direction,
        "status": query.status,
        "from": query.from_,
        "to": query.to,
        "since": query.since,
        "until": query.until,
    }
    lines, waits, cursor = await dependencies().store.read(
        _listed,
        tenant_id=visible_tenant(query.tenant_id),
        filters=filters,
        limit=query.limit,
        cursor=query.cursor,
    )
    return plain_page([call_models.listed(line, waits.get(line.id)) for line in lines], cursor)


@blueprint.get("/v2/calls/<call_id>")
@operation(name="getCall", about="Calls", answers={200: Call}, problems=["not-found"])
async def get_call(call_id: str) -> Response:
    """Show the record of a call

    Complete once the call has ended; while it lasts, what is known so far (the timeline is written at
    least twice a second).
    """
    found = await dependencies().store.read(_whole, call_id)
    record = found[0]
    complaints, decided = await dependencies().store.read(_beside, record)
    return answer(call_models.full(*found, complaints, decided))


@blueprint.get("/v2/calls/<call_id>/transcript")
@operation(
    name="getTranscript", about="Calls", answers={200: listing(Turn)}, problems=["not-found"]
)
async def get_transcript(call_id: str) -> Response:
    """What was said, turn by turn, and what of it was heard"""
    record, _, transcript, _ = await dependencies().store.read(_whole, call_id)
    return page(call_models.turns(record, transcript))


@blueprint.get("/v2/calls/<call_id>/timeline")
@operation(name="getTimeline", about="Calls", answers={200: listing(Line)}, problems=["not-found"])
async def get_timeline(call_id: str) -> Response:
    """What happened, with milliseconds since the call was created"""
    record, timeline, _, _ = await dependencies().store.read(_whole, call_id)
    return page(call_models.lines(record, timeline))


@blueprint.get("/v2/calls/<call_id>/recording")
@operation(name="getRecording", about="Calls", answers={200: WavFile}, problems=["not-found"])
async def get_recording(call_id: str) -> Response:
    """The recording: caller left, agent as heard right"""
    record = await dependencies().store.read(_seen, call_id)
    path = (record.recording or {}).get("path")
    if not path:
        raise not_found(f"call {call_id} has no recording")
    file = await trio.Path(path).absolute()
    if not await file.is_file():
        raise not_found(f"the recording of call {call_id} is not there any more")
    body = TrioFileBody(file, buffer_size=READ_BYTES)
    return TrioResponse(
        body,
        content_type="audio/wav",
        headers={
            "Content-Length": str(body.size),
            "Content-Disposition": f'attachment; filename="{record.id}.wav"',
        },
    )


@blueprint.post("/v2/calls/<call_id>/hangup")
@operation(
    name="hangUpCall",
    about="Calls",
    body=HangUpRequest,
    answers={200: CallBrief, 202: CallBrief},
    problems=["not-found", "conflict"],
)
async def hang_up_call(call_id: str) -> Response:
    """End a call

    In order: the agent stops, Twilio is told, the record is closed. A call that waits in the queue is never
    dialled. 200 when that is done already, 202 while it is under way, 409 when the call was over before.
    """
    await read_body(HangUpRequest)
    if not principal().is_admin:
        await dependencies().store.read(_seen, call_id)
    with as_problems():
        record = await dependencies().switchboard.hang_up(call_id)
    return answer(call_models.brief(record), 202 if record.ended_at is None else 200)


@blueprint.delete("/v2/calls/<call_id>")
@operation(
    name="cancelCall", about="Calls", answers={200: CallBrief}, problems=["not-found", "conflict"]
)
async def cancel_call(call_id: str) -> Response:
    """Cancel a call that waits in the queue

    It is never dialled. 409 when it is not waiting any more: then it can be hung up.
    """
    await dependencies().store.read(_seen, call_id)
    record = await dependencies().switchboard.cancel_queued(call_id)
    if record is None:
        raise Problem("conflict", "the call does not wait in the queue (any more)")
    return answer(call_models.brief(record))


def _listed(
    conn: Connection, /, **asked: Any
) -> tuple[list[CallLine], dict[str, Waits], str | None]:
    lines, cursor = calls.list_lines(conn, **asked)
    queued = [line.id for line in lines if line.status == "queued"]
    entries = dialing.of_calls(conn, queued)
    return lines, {call_id: Waits(entry) for call_id, entry in entries.items()}, cursor


def _waits(conn: Connection, call_id: str) -> Waits | None:
    entry = dialing.get(conn, call_id)
    if entry is None or entry.state == dialing.SENT:
        return None
    return Waits(entry, dialing.position(conn, entry))


def _seen(conn: Connection, call_id: str) -> CallRecord:
    record = calls.get(conn, call_id)
    if record is None:
        raise _no_call(call_id)
    require_visible(record.tenant_id, lambda: _no_call(call_id))
    return record


def _whole(
    conn: Connection, call_id: str
) -> tuple[CallRecord, list[EventRecord], list[TurnRecord], Waits | None]:
    record = _seen(conn, call_id)
    timeline, transcript = calls.events(conn, call_id), calls.turns(conn, call_id)
    return record, timeline, transcript, _waits(conn, call_id)


def _beside(
    conn: Connection, record: CallRecord
) -> tuple[list[ProviderEventRecord], list[Decided]]:
    """What is kept of the call elsewhere; lines of the ledger that say what was erased are no decisions."""
    decided = calls.decisions_of(conn, record.id)
    complaints = provider_events.of_call(conn, record.id, record.twilio_call_sid)
    return complaints, [one for one in decided if one[0] != proof.PHASE]


async def _made(record: CallRecord, status: int) -> Response:
    waits = None
    if record.twilio_call_sid is None and record.ended_at is None:
        waits = await dependencies().store.read(_waits, record.id)
    return answer(call_models.made(record, waits), status, {"Location": f"/v2/calls/{record.id}"})


def _check_future(given: CallInitiate) -> None:
    now = dependencies().clock.now()
    if given.not_before is not None and given.not_before < now - timedelta(seconds=LATE_S):
        raise invalid("not_before", "lies in the past")


def _no_call(call_id: str) -> Problem:
    return not_found(f"there is no call {call_id}")
