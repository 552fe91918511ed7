"""`/v2/webhooks`: where results are pushed, and what became of each push; `/v2/messages`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator
from quart import Blueprint, Response, g
from sqlalchemy import Connection

from control import ids
from control.api.answers import Answer, PageQuery, answer, page
from control.api.auth import require_visible, tenant_for_new, visible_tenant
from control.api.dependencies import AfterCall, dependencies
from control.api.idempotency import KEPT_BODY, idempotent
from control.api.openapi import NoContent, listing, operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import Body, read_body, read_query
from control.store import messages, webhooks
from control.store.messages import MessageRecord
from control.store.webhooks import DeliveryRecord, WebhookRecord
from control.webhooks_out import events, targets
from control.webhooks_out.signing import new_secret

WEBHOOKS_MAX = 20
"""Targets of one tenant."""

blueprint = Blueprint("webhooks", __name__)

_ALL = ["*"]


def _known(names: list[str]) -> list[str]:
    for name in names:
        if name != "*" and name not in events.EVENTS:
            raise ValueError(f"unknown event {name!r:.40}: there are {', '.join(events.EVENTS)}")
    return list(dict.fromkeys(names))


class WebhookCreate(Body):
    """A target."""

    url: str = Field(
        max_length=targets.URL_MAX_CHARS,
        description="https. Private and loopback addresses are refused unless "
        "`control.webhook_allow_private` is set.",
    )
    events: list[str] = Field(
        default_factory=lambda: list(_ALL),
        min_length=1,
        max_length=20,
        description=f"Some of {', '.join(events.EVENTS)}, or `*` for all.",
    )
    description: str | None = Field(None, max_length=500)
    tenant_id: str | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://crm.example.com/hooks", "events": ["call.result"]}]
        }
    )

    @field_validator("events")
    @classmethod
    def _events_known(cls, names: list[str]) -> list[str]:
        return _known(names)


class WebhookPatch(Body):
    """Changes; what is not given stays."""

    url: str | None = Field(None, max_length=targets.URL_MAX_CHARS)
    events: list[str] | None = Field(None, min_length=1, max_length=20)
    description: str | None = Field(None, max_length=500)
    enabled: bool | None = None

    @field_validator("events")
    @classmethod
    def _events_known(cls, names: list[str] | None) -> list[str] | None:
        return None if names is None else _known(names)


class WebhooksQuery(PageQuery):
    """Filters of the list."""

    tenant_id: str | None = None


class DeliveriesQuery(PageQuery):
    """Filters of the list."""

    status: Literal["pending", "delivered", "dead"] | None = Field(
        None, description="`dead`: given up after a day; they wait for a replay."
    )


class MessagesQuery(PageQuery):
    """Filters of the list; together they all hold."""

    tenant_id: str | None = None
    direction: Literal["inbound", "outbound"] | None = None
    call_id: str | None = None
    number: str | None = Field(None, max_length=100, description="On either side.")


class Webhook(Answer):
    """A target, without its secret."""

    id: str
    tenant_id: str
    url: str
    events: list[str]
    description: str | None
    enabled: bool
    created_at: datetime
    updated_at: datetime


class WebhookMade(Webhook):
    """A new target. The secret is shown this once."""

    secret: str | None = Field(
        description="`whsec_…`: verify pushes with any Standard Webhooks library. Null in the repeated answer "
        "to a repeated request: it is shown once."
    )


class Delivery(Answer):
    """One event for one target."""

    id: str
    webhook_id: str
    event_id: str = Field(
        description="The `webhook-id` header: the same at every attempt and replay."
    )
    event: str
    call_id: str | None
    status: str = Field(description="pending, delivered or dead.")
    attempts: int
    http_status: int | None
    last_error: str | None
    next_at: datetime | None
    created_at: datetime
    delivered_at: datetime | None


class Message(Answer):
    """A text message."""

    id: str
    tenant_id: str
    agent_id: str | None
    call_id: str | None
    direction: str
    from_: str = Field(serialization_alias="from")
    to: str
    body: str
    segments: int
    status: str = Field(description="Twilio's words, `blocked` by policy, or `received`.")
    send_state: str | None = Field(
        description="Outbound: intent, sent, created, uncertain or refused."
    )
    twilio_sid: str | None
    error_code: int | None = Field(description="Twilio's error code.")
    error: str | None
    decision: dict[str, Any] | None
    created_at: datetime
    sent_at: datetime | None
    updated_at: datetime


@blueprint.get("/v2/webhooks")
@operation(
    name="listWebhooks",
    about="Webhooks",
    query=WebhooksQuery,
    answers={200: listing(Webhook)},
    problems=["not-found"],
)
async def list_webhooks() -> Response:
    """List where results are pushed, the newest first"""
    query = read_query(WebhooksQuery)
    records, cursor = await dependencies().store.read(
        webhooks.list_webhooks,
        tenant_id=visible_tenant(query.tenant_id),
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([_shown(record) for record in records], cursor)


@blueprint.post("/v2/webhooks")
@operation(
    name="createWebhook",
    about="Webhooks",
    body=WebhookCreate,
    answers={201: WebhookMade},
    problems=["not-found", "conflict"],
    creates=True,
)
@idempotent
async def create_webhook() -> Response:
    """Have results pushed to a URL

    Signed as Standard Webhooks describes; the secret is in this answer and nowhere else. Each event comes at
    least once, with the same `webhook-id` each time. What is not answered with 2xx within 15 seconds is tried
    again for a day, then it is a dead letter.
    """
    given = await read_body(WebhookCreate)
    known = dependencies()
    _check_url(given.url)
    tenant_id = await tenant_for_new(given.tenant_id)
    now = known.clock.now()
    secret = new_secret()
    webhook_id = ids.new_id(webhooks.PREFIX, now)
    record = WebhookRecord(
        id=webhook_id,
        tenant_id=tenant_id,
        url=given.url,
        events=given.events,
        secret=_after().seal(webhook_id, secret),
        created_at=now,
        updated_at=now,
        description=given.description,
    )
    await known.store.write(_insert, record)
    made = WebhookMade(**_shown(record).model_dump(), secret=secret)
    setattr(g, KEPT_BODY, made.model_copy(update={"secret": None}).model_dump_json())
    return answer(made, 201, {"Location": f"/v2/webhooks/{webhook_id}"})


@blueprint.get("/v2/webhooks/<webhook_id>")
@operation(name="getWebhook", about="Webhooks", answers={200: Webhook}, problems=["not-found"])
async def get_webhook(webhook_id: str) -> Response:
    """Show a target"""
    return answer(_shown(await dependencies().store.read(_seen, webhook_id)))


@blueprint.patch("/v2/webhooks/<webhook_id>")
@operation(
    name="changeWebhook",
    about="Webhooks",
    body=WebhookPatch,
    answers={200: Webhook},
    problems=["not-found"],
)
async def change_webhook(webhook_id: str) -> Response:
    """Change a target, or switch it on and off"""
    given = await read_body(WebhookPatch)
    known = dependencies()
    await known.store.read(_seen, webhook_id)
    changes = {name: getattr(given, name) for name in given.model_fields_set}
    for name in ("url", "events", "enabled"):
        if name in changes and changes[name] is None:
            raise invalid(name, "may not be null")
    if "url" in changes:
        _check_url(changes["url"])
    record = await known.store.write(_change, webhook_id, changes, known.clock.now())
    return answer(_shown(record))


@blueprint.delete("/v2/webhooks/<webhook_id>")
@operation(name="deleteWebhook", about="Webhooks", answers={204: NoContent}, problems=["not-found"])
async def delete_webhook(webhook_id: str) -> Response:
    """Remove a target with what waits for it"""
    await dependencies().store.write(_delete, webhook_id)
    return Response(b"", status=204)


@blueprint.get("/v2/webhooks/<webhook_id>/deliveries")
@operation(
    name="listDeliveries",
    about="Webhooks",
    query=DeliveriesQuery,
    answers={200: listing(Delivery)},
    problems=["not-found"],
)
async def list_deliveries(webhook_id: str) -> Response:
    """List the pushes to a target, the newest first"""
    query = read_query(DeliveriesQuery)
    store = dependencies().store
    await store.read(_seen, webhook_id)
    records, cursor = await store.read(
        webhooks.list_deliveries,
        webhook_id,
        status=query.status,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([_delivery(record) for record in records], cursor)


@blueprint.post("/v2/webhooks/<webhook_id>/deliveries/<delivery_id>/replay")
@operation(
    name="replayDelivery",
    about="Webhooks",
    answers={202: Delivery},
    problems=["not-found", "conflict"],
)
async def replay_delivery(webhook_id: str, delivery_id: str) -> Response:
    """Push an event again, with the id it had

    For dead letters, and for what was delivered and lost there. 409 while it is still being tried.
    """
    known = dependencies()
    record = await known.store.write(_replay, webhook_id, delivery_id, known.clock.now())
    _after().wake()
    return answer(_delivery(record), 202)


@blueprint.get("/v2/messages")
@operation(
    name="listMessages",
    about="Messages",
    query=MessagesQuery,
    answers={200: listing(Message)},
    problems=["not-found"],
)
async def list_messages() -> Response:
    """List text messages, the newest first"""
    query = read_query(MessagesQuery)
    records, cursor = await dependencies().store.read(
        messages.list_messages,
        tenant_id=visible_tenant(query.tenant_id),
        direction=query.direction,
        call_id=query.call_id,
        number=query.number,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([message(record) for record in records], cursor)


def message(record: MessageRecord) -> Message:
    """A message as it is shown."""
    names = set(Message.model_fields) - {"from_", "to"}
    return Message(
        from_=record.from_number,
        to=record.to_number,
        **{name: getattr(record, name) for name in names},
    )


def _check_url(text: str) -> None:
    try:
        targets.check_url(text, allow_private=dependencies().settings.control.webhook_allow_private)
    except targets.BadTarget as problem:
        raise invalid("url", str(problem)) from problem


def _after() -> AfterCall:
    found = dependencies().after
    if found is None:
        raise Problem("unavailable", "this process pushes nothing")
    return found


def _insert(conn: Connection, record: WebhookRecord) -> None:
    if webhooks.count(conn, record.tenant_id) >= WEBHOOKS_MAX:
        raise Problem("conflict", f"a tenant has at most {WEBHOOKS_MAX} webhooks")
    webhooks.insert(conn, record)


def _change(
    conn: Connection, webhook_id: str, changes: dict[str, Any], now: datetime
) -> WebhookRecord:
    webhooks.update(conn, webhook_id, **changes, updated_at=now)
    return _seen(conn, webhook_id)


def _delete(conn: Connection, webhook_id: str) -> None:
    _seen(conn, webhook_id)
    webhooks.delete(conn, webhook_id)


def _replay(conn: Connection, webhook_id: str, delivery_id: str, now: datetime) -> DeliveryRecord:
    _seen(conn, webhook_id)
    record = webhooks.delivery(conn, delivery_id)
    if record is None or record.webhook_id != webhook_id:
        raise not_found(f"there is no delivery {delivery_id}")
    if record.status == webhooks.PENDING:
        raise Problem("conflict", f"delivery {delivery_id} is still being tried")
    webhooks.update_delivery(
        conn, delivery_id, status=webhooks.PENDING, next_at=now, updated_at=now
    )
    events.queue(conn, record, now)
    replayed = webhooks.delivery(conn, delivery_id)
    assert replayed is not None
    return replayed


def _seen(conn: Connection, webhook_id: str) -> WebhookRecord:
    record = webhooks.get(conn, webhook_id)
    if record is None:
        raise _no_webhook(webhook_id)
    require_visible(record.tenant_id, lambda: _no_webhook(webhook_id))
    return record


def _no_webhook(webhook_id: str) -> Problem:
    return not_found(f"there is no webhook {webhook_id}")


def _shown(record: WebhookRecord) -> Webhook:
    return Webhook(**{name: getattr(record, name) for name in Webhook.model_fields})


def _delivery(record: DeliveryRecord) -> Delivery:
    return Delivery(**{name: getattr(record, name) for name in Delivery.model_fields})
