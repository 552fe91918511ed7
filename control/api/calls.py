"""`/v2/calls`."""

from __future__ import annotations

import trio
from quart import Blueprint, Response
from quart_trio.wrappers import TrioResponse
from quart_trio.wrappers.response import TrioFileBody
from sqlalchemy import Connection

from control.api import call_models
from control.api.answers import answer, page
from control.api.auth import principal, require_visible, visible_tenant
from control.api.call_models import (
    Call,
    CallBrief,
    CallInitiate,
    CallMade,
    CallsQuery,
    HangUpRequest,
    Line,
    Turn,
)
from control.api.dependencies import dependencies
from control.api.idempotency import idempotent
from control.api.openapi import WavFile, listing, operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import read_body, read_query
from control.api.refusals import as_problems
from control.refusals import DialUncertain
from control.store import calls
from control.store.records import CallRecord, EventRecord, TurnRecord

blueprint = Blueprint("calls", __name__)

READ_BYTES = 256 * 1024
"""Of a recording at a time; the framework's 8 KiB would be two thread hops for half a second of audio."""


@blueprint.post("/v2/calls/initiate")
@operation(
    name="initiateCall",
    about="Calls",
    body=CallInitiate,
    answers={201: CallMade, 202: CallMade},
    problems=["policy-refused", "not-found", "conflict", "not-supported", "dial-refused"],
    creates=True,
)
@idempotent
async def initiate_call() -> Response:
    """Call somebody

    Policy is asked first, and a refusal is 403 with the decision. 201 says that Twilio has the call; 202
    that its answer was lost: the call may or may not ring, the record will say, and it is never dialled
    twice. Send an `Idempotency-Key` to be able to repeat the request.
    """
    given = await read_body(CallInitiate)
    _check_supported(given)
    try:
        with as_problems():
            record = await dependencies().switchboard.initiate(
                agent_id=given.agent_id,
                to=given.to,
                variables=dict(given.variables),
                metadata=given.metadata,
                tenant_id=visible_tenant(),
            )
    except DialUncertain as uncertain:
        return _made(uncertain.record, 202)
    return _made(record, 201)


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
    records, cursor = await dependencies().store.read(
        calls.list_calls,
        tenant_id=visible_tenant(query.tenant_id),
        filters=filters,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([call_models.brief(record) for record in records], cursor)


@blueprint.get("/v2/calls/<call_id>")
@operation(name="getCall", about="Calls", answers={200: Call}, problems=["not-found"])
async def get_call(call_id: str) -> Response:
    """Show the record of a call

    Complete once the call has ended; while it lasts, what is known so far (the timeline is written at
    least twice a second).
    """
    found = await dependencies().store.read(_whole, call_id)
    return answer(call_models.full(*found))


@blueprint.get("/v2/calls/<call_id>/transcript")
@operation(
    name="getTranscript", about="Calls", answers={200: listing(Turn)}, problems=["not-found"]
)
async def get_transcript(call_id: str) -> Response:
    """What was said, turn by turn, and what of it was heard"""
    record, _, transcript = await dependencies().store.read(_whole, call_id)
    return page(call_models.turns(record, transcript))


@blueprint.get("/v2/calls/<call_id>/timeline")
@operation(name="getTimeline", about="Calls", answers={200: listing(Line)}, problems=["not-found"])
async def get_timeline(call_id: str) -> Response:
    """What happened, with milliseconds since the call was created"""
    record, timeline, _ = await dependencies().store.read(_whole, call_id)
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

    In order: the agent stops, Twilio is told, the record is closed. 200 when that is done already, 202
    while it is under way, 409 when the call was over before.
    """
    await read_body(HangUpRequest)
    if not principal().is_admin:
        await dependencies().store.read(_seen, call_id)
    with as_problems():
        record = await dependencies().switchboard.hang_up(call_id)
    return answer(call_models.brief(record), 202 if record.ended_at is None else 200)


def _seen(conn: Connection, call_id: str) -> CallRecord:
    record = calls.get(conn, call_id)
    if record is None:
        raise _no_call(call_id)
    require_visible(record.tenant_id, lambda: _no_call(call_id))
    return record


def _whole(
    conn: Connection, call_id: str
) -> tuple[CallRecord, list[EventRecord], list[TurnRecord]]:
    record = _seen(conn, call_id)
    return record, calls.events(conn, call_id), calls.turns(conn, call_id)


def _made(record: CallRecord, status: int) -> Response:
    return answer(call_models.made(record), status, {"Location": f"/v2/calls/{record.id}"})


def _check_supported(given: CallInitiate) -> None:
    for name, asked in (
        ("not_before", given.not_before is not None),
        ("on_blocked", given.on_blocked == "schedule"),
    ):
        if asked:
            raise invalid(
                name,
                "calls at a later time are not supported yet: nothing was dialled",
                kind="not-supported",
            )


def _no_call(call_id: str) -> Problem:
    return not_found(f"there is no call {call_id}")
