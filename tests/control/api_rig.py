"""The control API over fakes: a switchboard that answers as it is told, a real store in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from control import verticals
from control.api.app import create_api
from control.config import (
    ControlSettings,
    ElevenLabsSettings,
    PublicSettings,
    Secret,
    Settings,
    TwilioSettings,
)
from control.metrics import Metrics
from control.store import Store
from control.store.records import AgentRecord, CallRecord

KEY = "k-0123456789"
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ALLOW = {"allowed": True, "outcome": "allow", "rules": []}
DENY = {
    "allowed": False,
    "outcome": "deny",
    "rules": [
        {"id": "DNC-INT", "version": 1, "outcome": "deny", "reason": "opted_out", "inputs": {}}
    ],
}
SETTINGS = Settings(
    public=PublicSettings(url="https://voice.example.com"),
    control=ControlSettings(admin_key=Secret(KEY)),
    twilio=TwilioSettings(account_sid="AC" + "0" * 32, auth_token=Secret("token")),
    elevenlabs=ElevenLabsSettings(api_key=Secret("xi")),
)


@dataclass
class FakeClock:
    time: datetime = NOW

    def now(self) -> datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class FakeSwitchboard:
    """Returns what it is given to return, or raises it; remembers what it was asked."""

    result: Any = None
    draining: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)

    def live_counts(self) -> dict[str, int]:
        return {"inbound": 2, "outbound": 1}

    async def initiate(self, **asked: Any) -> CallRecord:
        return await self._say(asked)

    async def check_policy(self, **asked: Any) -> dict[str, Any]:
        return await self._say(asked)

    async def hang_up(self, call_id: str) -> CallRecord:
        return await self._say({"call_id": call_id})

    async def cancel_queued(self, call_id: str) -> CallRecord | None:
        return await self._say({"call_id": call_id})

    async def _say(self, asked: dict[str, Any]) -> Any:
        self.asked.append(asked)
        result = self.result
        if callable(result) and not isinstance(result, type):
            result = await result(asked)
        if isinstance(result, Exception):
            raise result
        return result


@dataclass
class FakeWorker:
    worker_id: str = "w1"
    calls: int = 3
    counters: dict[str, int | float] = field(default_factory=lambda: {"wakes": 7})
    timings: dict[str, Any] = field(default_factory=dict)
    admits: bool = True


@dataclass
class FakePool:
    workers: list[FakeWorker] = field(default_factory=lambda: [FakeWorker()])

    @property
    def count(self) -> int:
        return 1

    def stats(self) -> list[FakeWorker]:
        return self.workers


@dataclass
class FakeProvisioning:
    started: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    verticals: Any = field(default_factory=verticals.load)

    def start(self, agent_id: str) -> None:
        self.started.append(agent_id)

    async def check(self, agent_id: str) -> None:
        self.checked.append(agent_id)

    async def account(self, tenant_id: str) -> dict[str, Any]:
        return {"sid": SETTINGS.twilio.account_sid, "status": "active"}


class FakeAfter:
    """What comes after a call."""

    def __init__(self) -> None:
        self.sealed: dict[str, str] = {}
        self.woken = 0

    def seal(self, webhook_id: str, secret: str) -> str:
        self.sealed[webhook_id] = secret
        return f"sealed {webhook_id}"

    def wake(self) -> None:
        self.woken += 1


@dataclass
class Answered:
    """An answer, read."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    def problem(self) -> dict[str, Any]:
        """The body, after checking that this is a proper problem document."""
        assert self.headers["Content-Type"] == "application/problem+json"
        body: dict[str, Any] = self.json
        assert body["status"] == self.status
        assert body["type"].startswith("/docs#problem-")
        assert body["title"]
        assert body["detail"]
        return body

    def fields(self) -> list[str]:
        """The fields that a problem names."""
        return [error["field"] for error in self.problem()["errors"]]


class Rig:
    """One application and its surroundings."""

    def __init__(
        self, store: Store, numbers: Any = None, *, settings: Settings = SETTINGS, **more: Any
    ) -> None:
        self.store = store
        self.clock = FakeClock()
        self.switchboard = FakeSwitchboard()
        self.pool = FakePool()
        self.provisioning = FakeProvisioning()
        self.metrics = Metrics()
        self.after = FakeAfter()
        self.app = create_api(
            switchboard=self.switchboard,
            store=store,
            settings=settings,
            clock=self.clock,
            metrics=self.metrics,
            provisioning=self.provisioning,
            pool=self.pool,
            own_numbers=numbers,
            after=self.after,
            **more,
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
    ) -> Answered:
        """One request. `body` goes as JSON, `raw` as it is."""
        given = dict(headers or {})
        if key is not None:
            given["Authorization"] = f"Bearer {key}"
        data = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
        client = self.app.test_client()
        response = await client.open(path, method=method, data=data, headers=given)
        return Answered(response.status_code, response.headers, await response.get_data())


@contextmanager
def open_rig(path: Path | None = None, deadline_s: float = 5.0) -> Iterator[Rig]:
    """An application over a store in memory, or in a file."""
    store = Store.open(f"sqlite:///{path}" if path else "sqlite://", deadline_s=deadline_s)
    yield Rig(store)
    store.close()


def agent(number: int = 1, **columns: Any) -> AgentRecord:
    base: dict[str, Any] = {
        "id": f"agt_{number:04}",
        "name": "Front desk",
        "created_at": NOW,
        "updated_at": NOW,
        "status": "live",
        "number_e164": f"+1555010{number:04}",
        "elevenlabs_agent_id": "agent_1",
    }
    return AgentRecord(**base | columns)


def call(number: int = 1, **columns: Any) -> CallRecord:
    base: dict[str, Any] = {
        "id": f"call_{number:04}",
        "direction": "outbound",
        "created_at": NOW,
        "from_number": "+15550100001",
        "to_number": "+15550100456",
        "decision": ALLOW,
    }
    return CallRecord(**base | columns)
