"""The built-in rules, one family a file. Their names in the configuration are in `policy.registry`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def refuse_settings(table: Mapping[str, Any]) -> None:
    """For rules without settings. Raises ValueError naming the first key."""
    for key in table:
        raise ValueError(f"unknown key {key!r}: this rule takes no settings")
