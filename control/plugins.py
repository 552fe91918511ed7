"""Plug-ins of the policy, `module:object` imported by name; and the rules that the configuration names."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from control.config import PolicySettings
from control.config_sources import ConfigError
from policy import PolicyConfigError, Rule, load_rules

ENTRY_POINTS = "tandem.policy_rules"


def resolve(name: str) -> object:
    """The object that `package.module:object.attribute` names.

    Raises ImportError, AttributeError, ValueError. Whatever else the module raises while it is imported
    becomes an ImportError: the operator named it, and has to be told which one it was.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise ValueError('expected "module:object"')
    try:
        found: object = importlib.import_module(module_name)
    except ImportError:
        raise
    except Exception as error:  # documented boundary: foreign code
        raise ImportError(f"{module_name}: {type(error).__name__}: {error}") from error
    for attribute in path.split("."):
        found = getattr(found, attribute)
    return found


def installed() -> dict[str, str]:
    """Rules that installed packages bring, name to `module:object`; nothing is imported."""
    return {found.name: found.value for found in entry_points(group=ENTRY_POINTS)}


def build_rules(settings: PolicySettings) -> tuple[Rule, ...]:
    """The rules in their order. Raises ConfigError naming the rule."""
    try:
        return load_rules(settings.rules, settings.tables, resolve, installed=installed())
    except PolicyConfigError as error:
        raise ConfigError(str(error)) from error
