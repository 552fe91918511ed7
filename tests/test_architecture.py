"""The rules that hold between files: who imports whom, in no circle, and who may catch everything.

Every failure names the file and the line that broke the rule.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.sources import ROOT, sources, tree_of

# ---- the code as it is imported ------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One name that a module imports. `target` is `module` or `module.name`."""

    module: str
    where: str
    target: str
    for_types_only: bool

    def is_of(self, *packages: str) -> bool:
        return any(
            self.target == package or self.target.startswith(package + ".") for package in packages
        )


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(
        one for module, path in sources().items() for one in imports_of(module, tree_of(path), path)
    )


def imports_of(module: str, tree: ast.Module, path: Path) -> Iterator[Import]:
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: relative import"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        where = f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for target in targets:
            yield Import(module, where, target, id(node) in typed)


def module_in(target: str) -> str | None:
    """The module of ours that `target` names or lies in; None when it is not ours."""
    known = sources()
    if target in known:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in known else None


def of_package(package: str) -> list[Import]:
    return [one for one in all_imports() if one.module.split(".")[0] == package]


def offending(imports: list[Import]) -> str:
    return "\n".join(sorted({one.where for one in imports}))


# ---- directions ----------------------------------------------------------------------------------

SHELLS = frozenset(
    f"gateway.{name}"
    for name in (
        "mediaplane",
        "planecall",
        "intake",
        "lane",
        "looks",
        "legs",
        "call",
        "redial",
        "recorder",
        "lifeline",
        "voice",
        "failpoints",
        "link_writer",
        "scheduling",
        "realtime",
        "worker",
    )
)
"""The modules of the gateway that touch sockets, clocks, threads or Trio; all others are pure."""
NOT_IN_PURE = (
    "trio",
    "asyncio",
    "time",
    "socket",
    "ssl",
    "select",
    "selectors",
    "logging",
    "random",
    "threading",
    "queue",
    "signal",
    "subprocess",
    "multiprocessing",
    "http.client",
    "http.server",
    "urllib.request",
)
PURE_MAY_USE = frozenset({"numpy", "orjson", "h11", "websockets", "audioop"})
SHELLS_MAY_USE = PURE_MAY_USE | {"trio", "httpcore"}
CONTROL_MAY_USE = {
    "gateway": (
        "gateway",  # to know where the package lies when a worker is started
        "gateway.link",
        "gateway.settings",
        "gateway.errors",
        "gateway.scheduling",  # how both share a core
        "gateway.journal",  # what the journal wants in front of a line
        "gateway.failpoints",  # where tests kill either process
        "gateway.lifeline",  # names in the runtime directory, and who is at the other end of a socket
    ),
    "policy": (
        "policy",
        "policy.facts",
        "policy.facts_parts",
        "policy.switches",
        "policy.loader",  # packs that an operator names are read by control
        "policy.law",
        "policy.pack_reading",
        "policy.sentences",
    ),
}
"""What control sees of the other two packages. The worker itself is a command line, not an import."""
BENCH_INSIDE = frozenset(
    {"bench.quality", "bench.micro", "bench.policy_speed", "bench.dnc_lookup", "bench.facts_speed"}
)
"""Benches that measure functions of the gateway or the policy, not the daemon; all others reach it over its sockets."""


def test_pure_modules_of_the_gateway_import_no_io_and_no_shell():
    """The audio path's logic takes bytes and the time as arguments; only the shells touch the world."""
    pure = [one for one in of_package("gateway") if one.module not in SHELLS]
    assert not offending([one for one in pure if one.is_of(*NOT_IN_PURE, *SHELLS)])


def test_gateway_imports_nothing_of_the_packages_above_it():
    """It knows neither HTTP APIs, stores, tenants nor law."""
    above = ("control", "policy", "bench", "quart", "quart_trio", "hypercorn", "twilio")
    assert not offending([one for one in of_package("gateway") if one.is_of(*above, "sqlalchemy")])


def test_gateway_uses_only_the_libraries_named_here():
    """A new dependency of the audio path is a decision, so it is made here."""
    foreign = []
    for one in of_package("gateway"):
        top = one.target.split(".")[0]
        allowed = SHELLS_MAY_USE if one.module in SHELLS else PURE_MAY_USE
        if top not in sys.stdlib_module_names and top != "gateway" and top not in allowed:
            foreign.append(one)
    assert not offending(foreign)


POLICY_MAY_USE = frozenset({"phonenumbers"})
"""Data in the form of modules: numbering plans."""
POLICY_READS = {"policy.loader": ("importlib.resources", "tzdata")}
"""The one module of policy that reads: what is packaged, once."""


def test_policy_imports_only_what_is_named_and_nothing_that_touches_the_world():
    """Facts in, decision out."""
    world = (*NOT_IN_PURE, "os", "io", "pathlib", "shutil", "tempfile", "sqlite3", "importlib")
    known = {*sys.stdlib_module_names, "policy", *POLICY_MAY_USE}
    outside = [
        one
        for one in of_package("policy")
        if not one.is_of(*POLICY_READS.get(one.module, ("policy",)))
        and (one.target.split(".")[0] not in known or one.is_of(*world))
    ]
    assert not offending(outside)


def test_policy_and_pure_modules_read_no_clock():
    """The instant is a fact, or an argument called `now_s`."""
    pure = [
        path
        for module, path in sources().items()
        if module.split(".")[0] == "policy"
        or (module.split(".")[0] == "gateway" and module not in SHELLS)
    ]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in pure
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("now", "utcnow", "today", "monotonic", "current_time")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", CONTROL_MAY_USE)
def test_control_uses_only_the_public_modules_of_the_other_packages(package):
    """A plan goes down, events and a report come up; policy is asked by its public names."""
    allowed = CONTROL_MAY_USE[package]
    used = [one for one in of_package("control") if one.is_of(package)]
    assert used, "the rule has nothing to look at any more"
    assert not offending([one for one in used if module_in(one.target) not in allowed])


def test_product_imports_no_bench_and_no_asyncio():
    """What is shipped does not need what is only there to measure it; and this is a Trio program."""
    shipped = [one for one in all_imports() if not one.module.startswith("bench")]
    assert not offending([one for one in shipped if one.is_of("bench", "tests", "asyncio")])


def test_bench_reaches_the_daemon_only_from_outside():
    """So that both ends of every wire are never the same code."""
    inside = [one for one in of_package("bench") if one.is_of("gateway", "control", "policy")]
    assert not offending([one for one in inside if one.module not in BENCH_INSIDE])
    shells = [
        one
        for one in inside
        if (
            one.is_of("control", *SHELLS)
            and one.module not in ("bench.dnc_lookup", "bench.facts_speed")
        )
        or (one.is_of("policy") and one.module != "bench.policy_speed")
    ]
    assert not offending(shells)


# ---- cycles --------------------------------------------------------------------------------------


def test_our_modules_import_each_other_in_no_circle():
    """Imports inside functions count, imports for types only do not."""
    edges: dict[str, set[str]] = {module: set() for module in sources()}
    for one in all_imports():
        target = module_in(one.target)
        if target is not None and target != one.module and not one.for_types_only:
            edges[one.module].add(target)
    assert not circles(edges)


def circles(edges: dict[str, set[str]]) -> list[str]:
    """What is left when everything is taken away that imports nothing of what is left."""
    left = {module: set(targets) for module, targets in edges.items()}
    while leaves := {module for module, targets in left.items() if not targets}:
        left = {module: t - leaves for module, t in left.items() if module not in leaves}
    return sorted(f"{module} -> {', '.join(sorted(targets))}" for module, targets in left.items())


def test_circles_for_two_modules_that_need_each_other_names_them():
    """The check itself can fail."""
    assert circles({"a": {"b"}, "b": {"a"}, "c": {"a"}, "d": set()}) == [
        "a -> b",
        "b -> a",
        "c -> a",
    ]


# ---- broad excepts -------------------------------------------------------------------------------

BROAD = {
    "gateway/mediaplane.py:MediaPlane._wake": "one call's bridge must not stop all sockets",
    "gateway/mediaplane.py:MediaPlane._flush_all": "one call's socket must not stop the others",
    "gateway/mediaplane.py:MediaPlane._tick": "one call's bridge must not stop the grid of all calls",
    "gateway/mediaplane.py:MediaPlane._ready": "one call's bridge must not stop all sockets",
    "gateway/mediaplane.py:MediaPlane._guarded": "the same boundary, outside of the two loops",
    "gateway/mediaplane.py:MediaPlane._look": "raised by the plane's task instead, which Trio does not let go on",
    "gateway/worker.py:Worker._supervise": "a mistake in one call's task costs that call only",
    "policy/engine.py:_ask": "a rule that raises denies; none of its exceptions becomes a call",
    "control/daemon.py:_run": "the daemon's top: one line in the log, then the exit code",
    "control/http.py:HttpServer._serve_one": "one connection ends, the port goes on",
    "control/hooks/direct.py:_status_of": "one callback's mistake is its 500, as for any other webhook",
    "control/log.py:LineHandler.emit": "no line of the log may stop what it speaks of",
    "control/redaction.py:_text_of": "no object's own text may stop a line of the log",
    "control/office.py:_guarded": "work of one call that nobody waits for",
    "control/outbox/runner.py:Outbox._attempt": "one item's mistake, all items' runner",
    "control/numbers/service.py:Numbers._swept": "one interrupted purchase, not all of them",
    "control/compliance/reassigned.py:Reassigned._answer": "foreign code; an error is an answer, too",
    "control/plugins.py:Watched._answer": "foreign code; the engine makes a deny of it",
    "control/plugins.py:resolve": "foreign code, imported by name; becomes an ImportError",
    "control/provisioning/saga.py:Provisioning._provision": "one agent's provisioning, not all agents'",
    "control/provisioning/health.py:Health._in_background": "one agent's health, not all calls",
    "control/switchboard.py:Switchboard._on_pool_event": "one call's message, all calls' reader",
}
"""Every place that may catch `Exception`, and why. Elsewhere `except` names what it expects."""


@dataclass(frozen=True)
class Broad:
    """A handler of everything. `reraises`: its last statement is a bare `raise`."""

    place: str
    where: str
    catches: str
    reraises: bool


def broad_handlers(path: Path) -> Iterator[Broad]:
    relative = path.relative_to(ROOT).as_posix()

    def walk(node: ast.AST, scope: tuple[str, ...]) -> Iterator[Broad]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            inner = (*scope, child.name) if named else scope
            if isinstance(child, ast.ExceptHandler):
                caught = "BaseException" if child.type is None else ast.unparse(child.type)
                last = child.body[-1]
                yield from _broad(caught, inner, child, isinstance(last, ast.Raise))
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith("suppress"):
                caught = ", ".join(map(ast.unparse, child.args))
                yield from _broad(caught, inner, child, False)
            yield from walk(child, inner)

    def _broad(caught: str, scope: tuple[str, ...], node: ast.AST, again: bool) -> Iterator[Broad]:
        if match := re.search(r"\b(Base)?Exception(Group)?\b", caught):
            line = getattr(node, "lineno", 0)
            place = f"{relative}:{'.'.join(scope)}"
            yield Broad(place, f"{relative}:{line}: {caught}", match[0], again)

    yield from walk(tree_of(path), ())


def all_broad() -> list[Broad]:
    paths = [*sources().values(), *sorted((ROOT / "tests").rglob("*.py"))]
    return [found for path in paths for found in broad_handlers(path)]


def test_broad_excepts_are_those_in_the_list():
    """A new one needs a reason here; one that has gone leaves the list."""
    found = [one for one in all_broad() if one.catches == "Exception"]
    unlisted = [f"{one.where}  (in {one.place})" for one in found if one.place not in BROAD]
    assert not unlisted, "\n".join(unlisted)
    assert not sorted(set(BROAD) - {one.place for one in found}), "no longer there"


def test_handlers_of_base_exceptions_raise_again():
    """Cancellation is a BaseException: whoever cleans up after one hands it on."""
    found = [one for one in all_broad() if one.catches.startswith("Base")]
    assert not [one.where for one in found if not one.reraises]
