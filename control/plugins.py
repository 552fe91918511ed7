"""Plug-ins of the policy, `module:object` imported by name; and the rules that the configuration names.

A rule of ours answers at once. A plug-in's may not: it runs in a thread of its own, and when it has not answered
in ANSWER_TIMEOUT_S it denies with its name and is out of service until that thread comes back. So a plug-in
that blocks costs one thread and its own denials, and nothing else.
"""

from __future__ import annotations

import importlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from control.config import PolicySettings
from control.config_sources import ConfigError
from policy import PackError, PolicyConfigError, Rule, RuleResult, load_rules, packaged_and
from policy.facts import Direction, Facts
from policy.law import Law

if TYPE_CHECKING:
    from control.compliance.reassigned import Reassigned

ANSWER_TIMEOUT_S = 0.5
"""Of one plug-in for one decision, however often the look ahead asks it."""
_spent_s: ContextVar[dict[str, float] | None] = ContextVar("spent_s", default=None)
"""Seconds that each plug-in has used of the decision that is being made."""
DIRECTIONS = frozenset(get_args(Direction))
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


def begin_decision() -> None:
    """From now on every plug-in has its whole time again; in this task, and in threads that it starts."""
    _spent_s.set({})


class Watched:
    """A foreign rule behind a deadline. Looks like the rule; asked from one thread at a time."""

    def __init__(self, rule: Rule, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._rule = rule
        self._directions = _named(rule, "directions", DIRECTIONS)
        self._tenants = _named(rule, "tenants", None)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._questions: queue.SimpleQueue[tuple[Facts, queue.SimpleQueue[Any]]] | None = None
        self._is_stuck = False

    @property
    def id(self) -> str:
        return self._rule.id

    @property
    def version(self) -> int:
        return self._rule.version

    def __call__(self, facts: Facts, /) -> RuleResult | tuple[RuleResult, ...]:
        """The rule's answer, or a deny. Raises what the rule raises."""
        if not self._concerns(facts):
            return RuleResult(self.id, self.version, "allow", "not_applicable")
        spent_s = _spent_s.get()
        used_s = 0.0 if spent_s is None else spent_s.get(self.id, 0.0)
        if used_s >= self._timeout_s:
            return self._denied("time_used_up")
        if self._is_stuck:
            return self._denied("out_of_service")
        began_s = time.perf_counter()
        if not self._lock.acquire(timeout=self._timeout_s - used_s):
            return self._denied("too_busy")
        try:
            left_s = self._timeout_s - used_s - (time.perf_counter() - began_s)
            return self._ask(facts, max(left_s, 0.0))
        finally:
            self._lock.release()
            if spent_s is not None:
                spent_s[self.id] = used_s + time.perf_counter() - began_s

    def _concerns(self, facts: Facts) -> bool:
        """Of what the rule said that it does not concern, it is not asked, whatever it is doing."""
        return (self._directions is None or facts.direction in self._directions) and (
            self._tenants is None or facts.tenant_id in self._tenants
        )

    def _ask(self, facts: Facts, timeout_s: float) -> RuleResult | tuple[RuleResult, ...]:
        if self._is_stuck:  # it was stuck while we waited for our turn
            return self._denied("out_of_service")
        if self._questions is None:
            self._questions = queue.SimpleQueue()
            # A daemon: a rule that never answers must not keep the process from ending.
            threading.Thread(target=self._work, args=(self._questions,), daemon=True).start()
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._is_stuck = True
        self._questions.put((facts, answers))
        try:
            answer = answers.get(timeout=timeout_s)
        except queue.Empty:
            return self._denied("no_answer_in_time")
        if isinstance(answer, BaseException):
            raise answer
        return cast("RuleResult", answer)

    def _work(self, questions: queue.SimpleQueue[tuple[Facts, queue.SimpleQueue[Any]]]) -> None:
        while True:
            self._answer(*questions.get())

    def _answer(self, facts: Facts, answers: queue.SimpleQueue[Any]) -> None:
        left: Any = RuntimeError("the rule left its thread")
        answer = left
        try:
            answer = self._rule(facts)
        except Exception as error:  # noqa: BLE001  # boundary: foreign code; the engine makes it a deny
            answer = error
        finally:
            if answer is left:
                self._questions = None  # this thread ends now; the next question gets another one
            self._is_stuck = False
            answers.put(answer)

    def _denied(self, reason: str) -> RuleResult:
        inputs = {"limit_ms": int(self._timeout_s * 1000)}
        return RuleResult(self.id, self.version, "deny", f"rule_blocked: {reason}", inputs)


def _named(rule: Rule, attribute: str, known: frozenset[str] | None) -> frozenset[str] | None:
    """The rule's `directions` or `tenants`; None: it has none, and is asked about all. Raises ValueError."""
    found = getattr(rule, attribute, None)
    if found is None:
        return None
    is_list = isinstance(found, list | tuple | set | frozenset)
    if not is_list or not found or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{attribute} of the rule: expected a set of names")
    unknown = sorted(set(found) - known) if known is not None else []
    if unknown:
        raise ValueError(f"{attribute} of the rule: {unknown[0]!r} is none")
    return frozenset(found)


def _resolve_watched(name: str) -> object:
    """The plug-in, so wrapped that whatever rule comes out of it is watched."""
    found = resolve(name)
    if _is_rule(found):
        return Watched(cast("Rule", found))
    if not callable(found):
        return found
    factory = cast("Callable[[Mapping[str, Any]], object]", found)

    def build(table: Mapping[str, Any]) -> object:
        made = factory(table)
        return Watched(cast("Rule", made)) if _is_rule(made) else made

    return build


def _is_rule(found: object) -> bool:
    return (
        not isinstance(found, type)
        and callable(found)
        and isinstance(getattr(found, "id", None), str)
        and isinstance(getattr(found, "version", None), int)
    )


def installed() -> dict[str, str]:
    """Rules that installed packages offer: entry points of the group `tandem.policy_rules`."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def build_rules(settings: PolicySettings, law: Law | None = None) -> tuple[Rule, ...]:
    """The rules in their order, under the configured law or another. Raises ConfigError naming rule or pack."""
    if law is None and settings.packs:
        law = _law_with(settings.packs)
    try:
        return load_rules(
            settings.rules, settings.tables, _resolve_watched, installed=installed(), law=law
        )
    except PolicyConfigError as error:
        raise ConfigError(str(error)) from error


def build_reassigned(settings: PolicySettings) -> Reassigned | None:
    """What asks the reassigned-numbers database, if anything does. Raises ConfigError naming the key."""
    if not settings.reassigned:
        return None
    try:
        found = resolve(settings.reassigned)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"policy.reassigned: cannot load {settings.reassigned!r}: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(f"policy.reassigned: {settings.reassigned!r} cannot be called")
    # Here, not above: the command line answers at once and needs none of it.
    from control.compliance.reassigned import Reassigned

    days = settings.tables.get("rnd_stale", {}).get("max_age_days", 30)
    return Reassigned(found, timedelta(days=days))


def _law_with(paths: Sequence[str]) -> Law:
    """The packaged law with those packs beside it. Raises ConfigError naming the file, and the row that is wrong."""
    documents: list[bytes] = []
    for path in paths:
        try:
            documents.append(Path(path).read_bytes())
            packaged_and(documents)
        except OSError as error:
            raise ConfigError(f"policy.packs: {path}: {error.strerror}") from error
        except (PackError, ValueError) as error:
            raise ConfigError(f"policy.packs: {path}: {error}") from error
    return packaged_and(documents)
