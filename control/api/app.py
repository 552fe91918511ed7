"""The control API as an ASGI application. Served by the daemon on `control.listen`."""

from __future__ import annotations

from importlib import metadata
from typing import Any, cast

import orjson
from quart import Blueprint, Quart, Response, current_app, request
from quart_schema import QuartSchema
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from control.api import (
    agent_numbers,
    agents,
    calls,
    compliance,
    consents,
    docs,
    erasure,
    geo,
    list_files,
    lists,
    numbers,
    openapi,
    ops,
    papers,
    policy,
    problem,
    routes,
    stats,
    tenants,
    transfer,
    webhooks,
)
from control.api.auth import require_key
from control.api.dependencies import (
    EXTENSION,
    AfterCall,
    Clock,
    Dependencies,
    Pool,
    Provisioning,
    Switchboard,
    dependencies,
)
from control.api.openapi import HtmlPage, JsonDocument, operation
from control.api.problem import Problem
from control.api.reading import BODY_MAX_BYTES, refuse_nul
from control.bodies import BoundedRequest
from control.config import Settings
from control.metrics import Metrics
from control.numbers import Numbers
from control.retention.service import Retention
from control.store import BadCursor, Store, StoreUnavailable
from control.tenants.service import Tenants

BODY_TIMEOUT_S = 10
RESPONSE_TIMEOUT_S = 300
"""For a client that reads a recording slowly."""

_DOCUMENTS = "tandem_documents"
_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})

blueprint = Blueprint("documents", __name__)


def create_api(
    *,
    switchboard: Switchboard,
    store: Store,
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    provisioning: Provisioning,
    pool: Pool,
    own_numbers: Numbers | None = None,
    tenants_service: Tenants | None = None,
    after: AfterCall | None = None,
    retention: Retention | None = None,
) -> QuartTrio:
    """Build the application. It starts nothing and keeps no state of its own."""
    app = QuartTrio("tandem", static_folder=None)
    app.request_class = BoundedRequest
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX_BYTES
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    app.config["RESPONSE_TIMEOUT"] = RESPONSE_TIMEOUT_S
    app.extensions[EXTENSION] = Dependencies(
        switchboard,
        store,
        settings,
        clock,
        metrics,
        provisioning,
        pool,
        own_numbers,
        tenants_service,
        after,
        retention,
    )
    app.before_request(require_key)
    app.before_request(refuse_nul)
    app.after_request(_after)
    _handle_errors(app)
    for part in (
        agents,
        agent_numbers,
        numbers,
        calls,
        erasure,
        policy,
        lists,
        list_files,
        consents,
        compliance,
        tenants,
        webhooks,
        ops,
        transfer,
        routes,
        stats,
    ):
        app.register_blueprint(part.blueprint)
    app.register_blueprint(papers.blueprint)
    app.register_blueprint(geo.blueprint)
    app.register_blueprint(blueprint)
    openapi.document(app, version=_version(), server=f"http://{settings.control.listen}")
    return app


@blueprint.get("/openapi.json")
@operation(name="openapi", about="Operation", answers={200: JsonDocument}, is_open=True)
async def openapi_document() -> Response:
    """This API as an OpenAPI 3.1 document"""
    return Response(_documents()[0], content_type="application/json")


@blueprint.get("/docs")
@operation(name="docs", about="Operation", answers={200: HtmlPage}, is_open=True)
async def docs_page() -> Response:
    """This API as a page to read"""
    headers = {"Content-Security-Policy": docs.CONTENT_SECURITY_POLICY}
    return Response(_documents()[1], content_type="text/html; charset=utf-8", headers=headers)


def _documents() -> tuple[bytes, str]:
    """Both documents, made when they are first asked for: the routes do not change afterwards."""
    if _DOCUMENTS not in current_app.extensions:
        extension = cast("QuartSchema", current_app.extensions["QUART_SCHEMA"])
        schema: dict[str, Any] = extension.openapi_provider.schema()
        current_app.extensions[_DOCUMENTS] = (orjson.dumps(schema), docs.render(schema))
    return cast("tuple[bytes, str]", current_app.extensions[_DOCUMENTS])


def _version() -> str:
    try:
        return metadata.version("tandem")
    except metadata.PackageNotFoundError:
        return "0"


def _handle_errors(app: Quart) -> None:
    app.register_error_handler(Problem, problem.on_problem)
    app.register_error_handler(BadCursor, problem.on_bad_cursor)
    app.register_error_handler(StoreUnavailable, problem.on_store_unavailable)
    app.register_error_handler(HTTPException, problem.on_http_exception)
    # The boundary of a request: what nobody expected becomes a 500 and a line in the log.
    app.register_error_handler(Exception, problem.on_exception)


async def _after(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule is not None else "other"
    method = request.method if request.method in _METHODS else "other"
    counter = dependencies().metrics.api_requests
    counter.labels(method, route, str(response.status_code)).inc()
    # Records and numbers belong into no cache on the way.
    response.headers.setdefault("Cache-Control", "no-store")
    return response
