"""The plug-in that `docs/policy.md` shows, taken from the page and run."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control.config import load
from control.plugins import build_rules
from policy import Facts, evaluate

ROOT = Path(__file__).resolve().parents[2]
PLUGIN, CONFIG, TEST = "calling_countries.py", "config.toml", "test_calling_countries.py"
AT = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
SECRETS = """
[public]
url = "https://voice.example.com"
[control]
admin_key = "0123456789abcdef"
[twilio]
account_sid = "AC00000000000000000000000000000000"
auth_token = "token"
[elevenlabs]
api_key = "xi"
"""


def shown_files() -> dict[str, str]:
    """The blocks of the page that follow a line with nothing but a file name."""
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", page, flags=re.M | re.S))


@pytest.fixture
def folder(tmp_path):
    """All of them, written out."""
    for name, text in shown_files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_documented_plugin_and_its_test_are_short():
    """Under forty lines together: it is a template, not a tutorial."""
    files = shown_files()
    assert set(files) == {PLUGIN, CONFIG, TEST}
    assert sum(len(files[name].splitlines()) for name in (PLUGIN, TEST)) < 40


def test_documented_plugin_passes_its_own_test(folder):
    """Run as a reader would run it."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", TEST],
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT}:{folder}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_documented_configuration_loads_the_plugin(folder, monkeypatch):
    """The names on the page fit each other; the rule is asked behind the built-in ones."""
    monkeypatch.syspath_prepend(str(folder))
    path = folder / CONFIG
    path.write_text(path.read_text(encoding="utf-8") + SECRETS)
    rules = build_rules(load(path, {}).policy)
    assert [rule.id for rule in rules] == ["SYS-STORE", "DNC-INT", "ACME-COUNTRY"]
    facts = Facts("outbound", "dial", "tnt_1", "agt_1", "+14155550100", "+33142685300", AT)
    decision = evaluate(rules, facts).to_dict()
    assert decision["rules"][2]["reason"] == "country_not_served"
    assert decision["rules"][2]["inputs"] == {"number": "+3314•••••00", "prefix": None}


def test_documented_configuration_is_toml_of_known_rules():
    """It can be pasted into a configuration as it stands."""
    table = tomllib.loads(shown_files()[CONFIG])["policy"]
    assert set(table) - {"rules"} <= set(table["rules"])
