"""Templates of text messages: `{field}` stands for a value of the call. Pure.

The control API refuses an agent whose template names a field that no call of the agent will have; `fields`
says which are named, `BUILT_IN` which every call has beside the agent's extractions and variables. Whoever
renders the message keeps `fields(template) -> set[str]` and `BUILT_IN`, and may add what it fills in.
"""

from __future__ import annotations

import re

BUILT_IN = frozenset(
    (
        "agent_name",
        "business_name",
        "location",
        "caller_number",
        "called_number",
        "call_id",
        "summary",
    )
)
_FIELD = re.compile(r"(?<!\{)\{([^{}]*)\}(?!\})")


def fields(template: str) -> set[str]:
    """The names in single braces; doubled braces are braces."""
    return {name.strip() for name in _FIELD.findall(template)}
