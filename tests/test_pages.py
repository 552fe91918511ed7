"""The pages about the code are true, the sample configuration is whole, and the tree speaks of itself alone.

Every failure names the file and the line that broke the rule.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.config import SECTIONS
from tests.sources import ROOT, keys_of, sources, tree_of

# ---- the architecture page -----------------------------------------------------------------------

PAGE = ROOT / "docs" / "architecture.md"
_FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/?)(?::([\w.]+))?`")
_KEY = re.compile(r"`(\w+)\.(\w+)`")


def names_on_the_page() -> list[tuple[int, str, str | None]]:
    """Every `folder/file` and `folder/file.py:Class.method` in backquotes, with its line."""
    found = []
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        for match in _FILE.finditer(line):
            path, name = match.groups()
            if "/" in path or path.endswith((".py", ".toml", ".md", "Makefile")):
                found.append((number, path, name))
    return found


def defined_in(path: Path) -> set[str]:
    """Module-level constants, functions, classes and their methods, as `Class.method`."""
    names: set[str] = set()
    for node in tree_of(path).body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner}" for item in node.body for inner in _bound_by(item)}
        names |= set(_bound_by(node))
    return names


def _bound_by(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_architecture_page_names_only_files_that_exist():
    """A page about code that has moved away is worse than none."""
    named = names_on_the_page()
    assert len(named) > 40
    missing = [f"{PAGE.name}:{n}: {path}" for n, path, _ in named if not (ROOT / path).exists()]
    assert not missing, "\n".join(missing)


def test_architecture_page_names_only_functions_and_bounds_that_exist():
    """`folder/file.py:name` is a function, class, method or constant of that file."""
    named = [(n, path, name) for n, path, name in names_on_the_page() if name]
    assert len(named) > 40
    missing = [
        f"{PAGE.name}:{n}: {path}:{name}"
        for n, path, name in named
        if (ROOT / path).exists() and name not in defined_in(ROOT / path)
    ]
    assert not missing, "\n".join(missing)


def timeline_names() -> Iterator[tuple[str, str]]:
    """Every literal name that is put onto a call's timeline, with its place."""
    for module, path in sources().items():
        if module.split(".")[0] not in ("gateway", "control"):
            continue
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("note", "_note", "_dialing_note", "line"):
                for argument in node.args[:2]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield argument.value, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_record_page_explains_every_name_of_the_timeline():
    """A name that nobody can look up helps nobody at night."""
    page = (ROOT / "docs" / "call-record.md").read_text(encoding="utf-8")
    used = dict(timeline_names())
    assert len(used) > 40
    missing = [f"{where}: {name}" for name, where in used.items() if f"`{name}`" not in page]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("page", ["docs/architecture.md", "README.md", "docs/call-record.md"])
def test_pages_name_only_settings_that_exist(page):
    """`section.key` in backquotes is a key of the configuration."""
    wrong = []
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        for section, key in _KEY.findall(line):
            if section in SECTIONS and key not in ("toml", "py") and key not in keys_of(section):
                wrong.append(f"{page}:{number}: {section}.{key}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/call-record.md", "docs/policy.md"]
)
def test_links_between_pages_lead_somewhere(page):
    """Links to files of this repository."""
    path = ROOT / page
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


# ---- the tree speaks of itself alone -------------------------------------------------------------

_REGISTRIES = ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "--index" + "-url")
_MACHINE_PATHS = re.compile(r"(?<![\w.}/])/(?:home|root|Users|work|mnt|tmp/\w+)/[\w.]")
_OUTSIDE = "../" + "shared"


def tracked() -> list[Path]:
    """Files under version control; without it (an unpacked archive) everything but caches."""
    asked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if asked.returncode == 0 and asked.stdout:
        names = asked.stdout.decode().split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    hidden = re.compile(r"(^|/)(\.(?!ci/|gitignore)|__pycache__|build|dist|demo-out|\w+\.egg-info)")
    return [
        p for p in ROOT.rglob("*") if p.is_file() and not hidden.search(str(p.relative_to(ROOT)))
    ]


def test_tracked_files_name_no_registry_no_machine_path_and_nothing_outside():
    """The repository builds on any machine, from whatever index that machine is set up with."""
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if (
                any(name in line for name in _REGISTRIES)
                or _OUTSIDE in line
                or _MACHINE_PATHS.search(line)
            ):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


# ---- the configuration ---------------------------------------------------------------------------


def test_sample_configuration_lists_exactly_the_keys_there_are():
    """`config.toml` is the list of keys, and no key is in the code alone."""
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    listed = tomllib.loads(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.M))
    there = {f"{section}.{key}" for section in SECTIONS for key in keys_of(section)}
    assert {f"{section}.{key}" for section in listed for key in listed[section]} == there
