"""The service's memory: agents, signed URLs, conversations; shared by REST and the sockets."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from bench.sim_elevenlabs import speech
from bench.sim_elevenlabs.record import ConversationRecord, Violation
from bench.sim_elevenlabs.scenario import AgentScript, Utterance, leaves

SIGNATURE_TTL_S = 15 * 60.0


@dataclass(slots=True)
class Agent:
    """A script, and the configuration that REST shows and changes."""

    agent_id: str
    script: AgentScript
    config: dict[str, Any]
    created_unix_s: int
    is_made_by_rest: bool = False

    def document_ids(self) -> list[str]:
        """Documents that the prompt refers to."""
        listed = self._prompt().get("knowledge_base") or []
        return [str(item.get("id")) for item in listed if isinstance(item, dict)]

    def forget_document(self, document_id: str) -> None:
        prompt = self._prompt()
        prompt["knowledge_base"] = [
            item for item in prompt["knowledge_base"] if item.get("id") != document_id
        ]

    def tool_ids(self) -> list[str]:
        """Tools that the prompt refers to."""
        return [str(item) for item in self._prompt().get("tool_ids") or []]

    def _prompt(self) -> dict[str, Any]:
        agent = self.config["conversation_config"].get("agent") or {}
        prompt = agent.get("prompt")
        return prompt if isinstance(prompt, dict) else {}

    def effective(self) -> AgentScript:
        """The script with what REST may have changed since: formats, events, authorisation."""
        conversation = self.config["conversation_config"]
        events = conversation["conversation"].get("client_events")
        changed = (
            events != self.script.config()["conversation_config"]["conversation"]["client_events"]
        )
        return dataclasses.replace(
            self.script,
            input_format=conversation["asr"]["user_input_audio_format"],
            output_format=conversation["tts"]["agent_output_audio_format"],
            client_events=tuple(events) if changed else self.script.client_events,
            requires_signature=bool(self.config["platform_settings"]["auth"]["enable_auth"]),
            overrides=tuple(path for path, is_on in leaves(self._allowed()) if is_on is True),
            **self._words(),
        )

    def _allowed(self) -> Mapping[str, Any]:
        """What of the configuration a conversation may set for itself."""
        overrides = self.config["platform_settings"].get("overrides") or {}
        return overrides.get("conversation_config_override") or {}

    def _words(self) -> dict[str, Any]:
        """First message, prompt and placeholders as REST has set them."""
        agent = self.config["conversation_config"]["agent"]
        text = agent.get("first_message") or ""
        was = self.script.first_message
        variables = agent.get("dynamic_variables") or {}
        words: dict[str, Any] = {
            "prompt": str(self._prompt().get("prompt") or ""),
            "placeholders": variables.get("dynamic_variable_placeholders") or {},
        }
        if text != (was.text if was else ""):
            spoken = was.pcm16 if was else speech.prompt("agent_greeting").pcm16
            words["first_message"] = Utterance(text, spoken) if text else None
        return words

    def merge(self, patch: Mapping[str, Any]) -> None:
        """Change only what is supplied; arrays are replaced whole. ValueError on a bad format."""
        merged = _merged(self.config, patch)
        dataclasses.replace(self, config=merged).effective()
        self.config = merged


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    result = json.loads(json.dumps(dict(old)))
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return dict(result)


@dataclass(slots=True)
class Document:
    """A page in the knowledge base. Indexing begins when it is asked for."""

    id: str
    url: str
    name: str
    created_unix_s: int
    indexed_since_s: float | None = None
    model: str = ""


@dataclass(slots=True)
class Signature:
    agent_id: str
    issued_at_s: float
    conversation_id: str | None  # with one, the signature works once
    used: bool = False


class Book:
    """Grows with use; a simulator lives as long as one test or one bench run."""

    def __init__(self, api_key: str, scripts: Mapping[str, AgentScript]) -> None:
        self.api_key = api_key
        self.default_script = AgentScript()
        self.agents: dict[str, Agent] = {}
        self.documents: dict[str, Document] = {}
        self.tools: dict[str, dict[str, Any]] = {}
        self.made: Counter[str] = Counter()
        """How many agents, documents and tools REST has ever made, also those that were deleted."""
        self.indexing_s = 0.0
        self.indexing_ends = "succeeded"
        """How indexing ends: `succeeded`, `failed`, `document_too_small`, `rag_limit_exceeded`."""
        self.unreachable_hosts: set[str] = set()
        self.lost_answers: Counter[str] = Counter()
        """Paths (with method, `POST /v1/…`) whose next answers are not sent, though the work is done."""
        self.conversations: dict[str, ConversationRecord] = {}
        self.deleted_conversations: set[str] = set()
        """REST knows them no more; here they stay, for whoever looks at what happened."""
        self.signatures: dict[str, Signature] = {}
        self.other_violations: list[Violation] = []
        self._numbers = itertools.count(1)
        for agent_id, script in scripts.items():
            self.add_agent(script, agent_id)

    def add_agent(
        self, script: AgentScript, agent_id: str | None = None, *, is_made_by_rest: bool = False
    ) -> Agent:
        agent_id = agent_id or f"agent_sim{next(self._numbers):04d}"
        agent = Agent(agent_id, script, script.config(), int(time.time()), is_made_by_rest)
        if is_made_by_rest:
            self.made["agents"] += 1
        self.agents[agent_id] = agent
        return agent

    def add_document(self, url: str, name: str) -> Document:
        document_id = f"kb_sim{next(self._numbers):04d}"
        document = Document(document_id, url, name, int(time.time()))
        self.documents[document_id] = document
        self.made["documents"] += 1
        return document

    def add_tool(self, config: dict[str, Any]) -> str:
        tool_id = f"tool_sim{next(self._numbers):04d}"
        self.tools[tool_id] = config
        self.made["tools"] += 1
        return tool_id

    def new_conversation_id(self) -> str:
        return f"conv_sim{next(self._numbers):06d}"

    def still_has(self, record: ConversationRecord) -> bool:
        """Whether nobody has deleted it."""
        return record.conversation_id not in self.deleted_conversations

    def sign(self, agent_id: str, conversation_id: str | None) -> str:
        """A new conversation signature for an agent."""
        token = f"cvtkn_sim{next(self._numbers):06d}"
        self.signatures[token] = Signature(agent_id, trio.current_time(), conversation_id)
        return token

    def redeem(self, token: str, agent_id: str) -> Signature | None:
        """The signature if it is good for this agent now, else None. A used single-use one is not."""
        signature = self.signatures.get(token)
        if signature is None or signature.agent_id != agent_id:
            return None
        if trio.current_time() > signature.issued_at_s + SIGNATURE_TTL_S:
            return None
        if signature.conversation_id is not None and signature.used:
            return None
        signature.used = True
        return signature

    def live(self, agent_ids: Iterable[str]) -> int:
        """Conversations of these agents that go on now."""
        wanted = set(agent_ids)
        records = self.conversations.values()
        return sum(r.agent_id in wanted and r.ended_at_s is None for r in records)

    @property
    def violations(self) -> list[Violation]:
        """Everything any client did wrong, in conversations and outside of them."""
        inside = (v for record in self.conversations.values() for v in record.violations)
        return [*self.other_violations, *inside]
