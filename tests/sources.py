"""The modules of this repository and the keys of its configuration, as tests look at them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from control.config import SECTIONS

ROOT = Path(__file__).resolve().parents[1]
OURS = ("gateway", "policy", "control", "bench")


@cache
def sources() -> dict[str, Path]:
    """Our modules by name. Packages have their own name, without `__init__`."""
    found = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def keys_of(section: str) -> set[str]:
    """The keys of a section, `<key>_file` of secrets included."""
    keys = set()
    for name, item in SECTIONS[section].__dataclass_fields__.items():
        if item.metadata.get("key", True):
            keys.add(name)
        if item.metadata.get("file_variant"):
            keys.add(f"{name}_file")
    return keys
