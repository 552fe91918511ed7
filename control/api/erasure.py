"""`POST /v2/calls/{id}/erase`."""

from __future__ import annotations

from quart import Blueprint, Response
from sqlalchemy import Connection

from control.api.answers import answer
from control.api.auth import principal, require_visible
from control.api.dependencies import dependencies
from control.api.erasure_models import ErasureShown, erasure_of
from control.api.openapi import operation
from control.api.problem import Problem, not_found
from control.api.reading import Body, read_body
from control.store import calls
from control.tenants import keys

blueprint = Blueprint("erasure", __name__)


class EraseRequest(Body):
    """Nothing to say; the body may be empty."""


@blueprint.post("/v2/calls/<call_id>/erase")
@operation(
    name="eraseCall",
    about="Calls",
    body=EraseRequest,
    answers={200: ErasureShown, 202: ErasureShown},
    problems=["not-found", "conflict"],
    scope=keys.ERASE,
)
async def erase_call(call_id: str) -> Response:
    """Erase a call, for good

    Transcript, summary, extractions, variables, metadata, messages, recordings and the person's number; here, and
    the conversation at ElevenLabs. What stays: times, figures and cost, masked numbers in decisions, opt-outs and
    consents. The tenant's ledger gets a line for each. 202 when something is still to be done, as in the first half
    minute after the end, or for a recording on another machine: it is. 409 while the call lasts. A repeated request
    changes nothing.
    """
    await read_body(EraseRequest)
    known = dependencies()
    await known.store.read(_seen, call_id)
    if known.retention is None:
        raise RuntimeError("this application was built without retention")
    by = principal().key_id or keys.ADMIN
    record = await known.retention.erase_call(call_id, by)
    if record is None:
        raise Problem("conflict", "the call has not ended: hang up, or cancel it, first")
    if known.after is not None:
        known.after.wake()
    shown = erasure_of(record)
    return answer(shown, 200 if shown.is_done else 202)


def _seen(conn: Connection, call_id: str) -> None:
    record = calls.get(conn, call_id)
    if record is None:
        raise _no_call(call_id)
    require_visible(record.tenant_id, lambda: _no_call(call_id))


def _no_call(call_id: str) -> Problem:
    return not_found(f"there is no call {call_id}")
