"""What the steps share: the agent on its way, what they may use, and how a step says that it cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from control.clock import Clock
from control.config import Settings
from control.elevenlabs.agent_body import Defaults
from control.elevenlabs.workspace import Workspace
from control.numbers.values import Checked, NumberWish
from control.store import Store
from control.store.numbers import NumberRecord
from control.store.records import AgentRecord
from control.verticals import DEFAULT, Vertical

STEPS = (
    "subaccount",
    "key",
    "number",
    "knowledge_base",
    "elevenlabs_agent",
    "routing",
    "self_test",
    "live",
)
NEEDS: Mapping[str, tuple[str, ...]] = {
    "key": ("subaccount",),
    "number": ("key",),
    "routing": ("number",),
    "self_test": ("elevenlabs_agent",),
}
"""Steps that make no sense unless these were done. All others are tried whatever failed before them, so that
the operator sees everything that is wrong at once."""
SOFT = frozenset(("knowledge_base", "self_test"))
"""Without these calls can still be answered: the agent is `degraded`, not `failed`."""
DEADLINES_S: Mapping[str, float] = {
    "subaccount": 40.0,
    "key": 40.0,
    "number": 60.0,
    "numbers": 60.0,
    "knowledge_base": 60.0,
    "elevenlabs_agent": 45.0,
    "elevenlabs_update": 45.0,
    "routing": 20.0,
    "self_test": 25.0,
    "release": 60.0,
}
DRIFT_KEPT = 50
"""Entries of `drift` that an agent's record holds; the oldest go."""


class StepFailed(Exception):
    """The step cannot be done; the text tells a person what to do.

    `transient`: it might be done in a moment. `later`: not in this run any more, but perhaps in a minute.
    """

    def __init__(self, reason: str, *, transient: bool = False, later: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient
        self.later = later


class Skipped(Exception):
    """There is nothing to do for this agent."""


class Accounts(Protocol):
    """Twilio subaccounts of tenants: see `control.tenants.service`. Raises TwilioError, TenantBusy."""

    async def ensure_subaccount(self, tenant_id: str) -> None: ...
    async def ensure_key(self, tenant_id: str) -> None: ...
    async def status(self, tenant_id: str, *, refresh: bool = False) -> dict[str, Any]:
        """`{sid, status}`."""
        ...


class Numbers(Protocol):
    """What is used of `control.numbers.Numbers`. Every method raises NumberProblem."""

    async def buy(
        self,
        tenant_id: str,
        wish: NumberWish,
        *,
        intent_key: str,
        agent_id: str | None = None,
        label: str | None = None,
    ) -> NumberRecord: ...
    async def adopt(
        self, tenant_id: str, e164: str, *, agent_id: str | None = None, may_move: bool = False
    ) -> NumberRecord: ...
    async def check(self, tenant_id: str, number: str) -> Checked: ...
    async def release(
        self, tenant_id: str, number: str, *, force: bool = False
    ) -> NumberRecord: ...


class Probe(Protocol):
    """A test conversation: see `control.provisioning.self_test`."""

    async def first_audio(self, agent: AgentRecord, *, speaks_first: bool) -> str | None: ...


@dataclass(slots=True)
class Services:
    """What the steps may use."""

    settings: Settings
    store: Store
    accounts: Accounts
    numbers: Numbers
    workspace: Workspace
    probe: Probe
    clock: Clock
    verticals: Mapping[str, Vertical]
    tools: Callable[[], list[dict[str, Any]]]
    """Configurations of the client tools that the gateway answers."""

    @property
    def defaults(self) -> Defaults:
        own = self.settings.elevenlabs
        return Defaults(own.llm, own.tts_model, own.voice_id)

    def vertical_of(self, agent: AgentRecord) -> Vertical:
        """Of a vertical that is not there any more, the generic one."""
        return self.verticals.get(agent.vertical or DEFAULT) or self.verticals[DEFAULT]


@dataclass(slots=True)
class Run:
    """One agent on its way. `columns` is what the steps have learnt and the store does not have yet."""

    agent: AgentRecord
    steps: list[dict[str, Any]]
    columns: dict[str, Any] = field(default_factory=dict)

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.steps if step["name"] == name)

    def learn(self, **columns: Any) -> None:
        """Known now, and kept with the step's end."""
        self.columns.update(columns)

    def known(self, name: str) -> Any:
        """A column as this run has it."""
        return self.columns.get(name, getattr(self.agent, name))

    @property
    def elevenlabs(self) -> dict[str, Any]:
        """What is known of the ElevenLabs agent; a copy."""
        return dict(self.known("elevenlabs") or {})

    def learn_elevenlabs(self, **facts: Any) -> None:
        self.columns["elevenlabs"] = self.elevenlabs | facts

    @property
    def is_managed(self) -> bool:
        """Whether the agent's whole configuration is ours: we made it, or were told to take it over."""
        if self.agent.settings.get("manage") is not None:
            return bool(self.agent.settings["manage"])
        return bool(self.elevenlabs.get("created")) or not self.agent.elevenlabs_agent_id
