"""Import and export of the lists as CSV. Larger files than a request may hold: `tandem lists import`."""

from __future__ import annotations

from quart import Blueprint, Response, request
from sqlalchemy import Connection

from control.api.answers import Answer, answer
from control.api.auth import own_tenant, principal, tenant_for_new
from control.api.dependencies import dependencies
from control.api.openapi import CsvFile, operation
from control.api.problem import Problem, invalid
from control.api.reading import Query, read_query
from control.compliance import imports

blueprint = Blueprint("list_files", __name__)


class WhoseList(Query):
    """Whose list; without it the key's own tenant, for the admin key the default one."""

    tenant_id: str | None = None


class Imported(Answer):
    """What became of a file."""

    lines: int
    added: int


@blueprint.post("/v2/opt-outs/import")
@operation(
    name="importOptOuts",
    about="Opt-outs",
    query=WhoseList,
    answers={200: Imported},
    problems=["not-found", "conflict", "too-large"],
)
async def import_opt_outs() -> Response:
    """Import opt-outs from CSV: all of the file, or nothing

    The body is the file: `e164` and if wanted `reason`, `source`, `created_at`. Every wrong line is named.
    """
    return await _import("opt-outs")


@blueprint.get("/v2/opt-outs/export")
@operation(
    name="exportOptOuts",
    about="Opt-outs",
    query=WhoseList,
    answers={200: CsvFile},
    problems=["not-found"],
)
async def export_opt_outs() -> Response:
    """The opt-out list as CSV"""
    return await _export("opt-outs")


@blueprint.post("/v2/consents/import")
@operation(
    name="importConsents",
    about="Consents",
    query=WhoseList,
    answers={200: Imported},
    problems=["not-found", "conflict", "too-large"],
)
async def import_consents() -> Response:
    """Import consents from CSV: all of the file, or nothing

    The body is the file; several channels or purposes are separated by `|`. A `written_signed` line without
    its disclosure becomes `express`.
    """
    return await _import("consents")


@blueprint.get("/v2/consents/export")
@operation(
    name="exportConsents",
    about="Consents",
    query=WhoseList,
    answers={200: CsvFile},
    problems=["not-found"],
)
async def export_consents() -> Response:
    """The consents as CSV"""
    return await _export("consents")


async def _import(kind: str) -> Response:
    tenant_id = await tenant_for_new(read_query(WhoseList).tenant_id)
    raw = await request.get_data(cache=True)
    assert isinstance(raw, bytes)
    known = dependencies()
    now = known.clock.now()
    try:
        found = imports.read(kind, raw.decode("utf-8-sig").splitlines(keepends=True), now)
    except UnicodeDecodeError as error:
        raise invalid("body", f"is not UTF-8: byte {error.start}") from error
    except imports.ImportRefused as refused:
        errors = [(f"line {one.line}: {one.field}", one.reason) for one in refused.errors]
        raise Problem("invalid", str(refused), errors=errors) from refused
    actor = principal().key_id or "admin"
    added = await known.store.write(imports.write, kind, found, tenant_id, now, actor)
    return answer(Imported(lines=len(found), added=added))


async def _export(kind: str) -> Response:
    tenant_id = own_tenant(read_query(WhoseList).tenant_id)

    def whole(conn: Connection) -> str:
        return "".join(imports.export(conn, kind, tenant_id))

    text = await dependencies().store.read(whole)
    headers = {"Content-Disposition": f'attachment; filename="{kind}.csv"'}
    return Response(text, content_type="text/csv; charset=utf-8", headers=headers)
