"""What an outbound call has to say first, and whether it will: the lines that duties become, per language.

The gateway puts the lines before the agent's own first message, so they are said whatever the model does. That
needs a first message that we know, and an agent at ElevenLabs that lets a conversation bring another one: those
that the gateway made or manages do. One that was only adopted may not; then it says its own, and its operator may
declare with the agent's `script` which lines that has.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from control.compliance.profile import Profile
from control.store.records import AgentRecord
from policy.facts import Script

_FLAGS = (
    "identification",
    "ai_disclosure",
    "opt_out_line",
    "recording_notice",
    "callback_number",
    "toll_free_opt_out",
)
KINDS = ("identify", "disclose_ai", "offer_opt_out", "recording_notice")
"""Obligations that are lines, in the order in which they are said."""


@lru_cache(maxsize=1)
def _lines() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = tomllib.loads(
        files("control.compliance").joinpath("lines.toml").read_text("utf-8")
    )
    return found


def language_of(agent: AgentRecord) -> str:
    """`en`, `es`, …: of the agent's setting; English where there are no lines in its language."""
    asked = str(agent.settings.get("language") or "en").lower()[:2]
    return asked if asked in _lines() else "en"


def first_message_of(agent: AgentRecord) -> str | None:
    """The agent's own first message, as far as it is known here."""
    own = agent.settings.get("first_message")
    if isinstance(own, str) and own.strip():
        return own
    made = (agent.elevenlabs or {}).get("first_message")
    return made if isinstance(made, str) and made.strip() else None


def takes_first_message(agent: AgentRecord) -> bool:
    """Whether a conversation may bring another first message; ElevenLabs refuses the conversation if not."""
    kept = agent.elevenlabs or {}
    is_ours = bool(kept.get("created") or kept.get("managed"))
    return bool(kept.get("takes_first_message", is_ours))


def takes_lines(agent: AgentRecord) -> bool:
    """Whether the lines can be put before its first message."""
    return takes_first_message(agent) and first_message_of(agent) is not None


def script_of(agent: AgentRecord, own: Profile) -> Script:
    """Which lines a call of this agent will have."""
    declared = agent.settings.get("script")
    flags = (
        {name: bool(declared.get(name)) for name in _FLAGS} if isinstance(declared, dict) else {}
    )
    if takes_lines(agent):
        flags |= dict.fromkeys(
            ("identification", "ai_disclosure", "opt_out_line", "recording_notice"), True
        )
    if own.callback_number:
        flags["callback_number"] = True
        flags["toll_free_opt_out"] = flags.get("toll_free_opt_out", False) or own.toll_free_opt_out
    return Script(**flags)


def lines_for(
    agent: AgentRecord, obligations: Sequence[Mapping[str, Any]], *, digit: str
) -> list[tuple[str, str]]:
    """`(kind, sentence)` for each duty that is a line, in the order in which they are said."""
    texts = _lines()[language_of(agent)]
    wanted = {str(one.get("kind")) for one in obligations}
    named = [str(one["seller"]) for one in obligations if one.get("seller")]
    values = {"seller": named[0] if named else agent.name, "agent": agent.name, "digit": digit}
    return [(kind, texts[kind].format_map(values)) for kind in KINDS if kind in wanted]


def opening(agent: AgentRecord, *, is_back: bool = False) -> str | None:
    """What an agent says first to a caller who has heard it already: after an interruption, or `is_back` from somebody
    else. None: it will greet anew, for it takes no other first message."""
    texts = _lines()[language_of(agent)]
    return texts["back" if is_back else "resume"] if takes_first_message(agent) else None


def with_lines(
    agent: AgentRecord, lines: Sequence[tuple[str, str]], opening: str | None = None
) -> str | None:
    """The first message, or `opening` in its place, with the lines before it; None when nothing has to be changed, or
    cannot be."""
    own = opening or first_message_of(agent)
    if own is None or not takes_first_message(agent):
        return None
    missing = [text for _, text in lines if text not in own]
    return " ".join([*missing, own]) if missing or opening else None
