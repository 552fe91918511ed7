"""How an event of a provider is shown, in lists and in the record of its call."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from control.api.answers import Answer
from control.store.provider_events import ProviderEventRecord


class ProviderEvent(Answer):
    """An error or a warning that a provider told of."""

    provider: str
    sid: str
    level: str
    code: int | None
    message: str | None
    tenant_id: str
    call_id: str | None
    call_sid: str | None
    agent_id: str | None
    resource_sid: str | None
    at: datetime
    detail: dict[str, Any]


def event_shown(record: ProviderEventRecord) -> ProviderEvent:
    """An event as it is answered."""
    return ProviderEvent(**{name: getattr(record, name) for name in ProviderEvent.model_fields})
