"""Facts as JSON, and back: what a decision was made from, so that it can be made again.

The store holds them in clear, as it holds the call itself; they are outside of the chain of hashes and can be
erased. Exports and logs never show them.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from policy import Facts

_FACTS = TypeAdapter(Facts)


def dump(facts: Facts) -> dict[str, Any]:
    """JSON values only; what has its default is left out, so that old facts stay readable."""
    dumped: dict[str, Any] = _FACTS.dump_python(facts, mode="json", exclude_defaults=True)
    return dumped


def load(kept: dict[str, Any]) -> Facts:
    """Raises ValueError for what is no facts."""
    try:
        return _FACTS.validate_python(kept)
    except ValidationError as error:
        raise ValueError(f"stored facts cannot be read: {error.error_count()} errors") from error
