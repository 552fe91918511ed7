"""The corpus through every target, and a bounded coverage-guided run of each."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SECONDS = 2


def _targets(name):
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TARGETS


TARGETS = _targets("targets") | _targets("ports")


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_does_no_harm(name):
    """What was found worth keeping, and what was once a finding."""
    entries = sorted((HERE / "corpus" / name).iterdir())
    assert entries, "every target has a corpus to begin with"
    for entry in entries:
        TARGETS[name](entry.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_short_run_finds_nothing(tmp_path, name):
    """Two seconds of libFuzzer for each, in a process of its own."""
    pytest.importorskip("atheris")
    command = [sys.executable, str(HERE / "fuzz.py"), name, str(tmp_path)]
    ran = subprocess.run(
        [*command, f"-max_total_time={SECONDS}"], capture_output=True, timeout=180, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")[-3_000:]
