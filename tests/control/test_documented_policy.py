"""What `docs/policy.md` tells a reader to type, typed; and its examples against the things that they are of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from control.api.agent_models import AgentPatch
from control.store import decisions
from tests.control.test_cli_policy import THEIRS, decide, machine

__all__ = ["machine"]
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`tandem ([a-z][^`]*)`", PAGE.replace("\n", " "))))
LAW = ROOT / "policy" / "packs" / "law_2026_11.toml"


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, flags=re.M | re.S)


def test_commands_of_the_page_are_these():
    """One that is added has to be typed below."""
    assert {" ".join(command.split()[:2]) for command in COMMANDS} == {
        "check-config",
        "ledger verify",
        "policy check",
        "policy explain",
        "policy replay",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_page_does_what_the_page_says(machine, capsys, tmp_path, command):
    """On a store with a decision; the words in capitals and the dots are the reader's to fill in."""
    run, store, _ = machine
    decide(store, "call_1", rules=("standard",))
    assert run("ledger", "verify", "--json") == 0
    anchor = tmp_path / "heads.json"
    anchor.write_text(capsys.readouterr().out, "utf-8")
    words = command.split()
    for index, word in enumerate(words):
        at_option = words[index - 1] if index else ""
        match word:
            case "CALL_ID":
                words[index] = "call_1"
            case "NUMBER":
                words[index] = THEIRS
            case "ID":
                words[index] = "agt_1"
            case "FILE":
                words[index] = str(anchor if at_option == "--anchor" else LAW)
            case "…" if at_option == "--since":
                words[index] = "2026-01-01T00:00:00Z"
            case "…" | "TIME":
                words[index] = "2100-01-01T00:00:00Z"
            case _:
                assert re.fullmatch(r"(--)?[a-z-]+", word), f"what is {word!r}?"
    code = run(*words)
    printed = capsys.readouterr()
    if words[:2] == ["policy", "check"]:
        assert code in (0, 3), printed.err
        assert printed.out.startswith(("ALLOWED", "DENIED", "PUT OFF"))
        return
    assert code == 0, printed.err
    expected = {
        "check-config": 'url = "https://voice.example.com"',
        "ledger verify": "1 decisions of 1 tenants, 0 flaws",
        "policy explain": "DENIED",
        "policy replay": "1 decisions, ",
    }
    assert expected[" ".join(words[:2])] in printed.out


def test_example_of_a_decision_has_what_a_decision_has(machine):
    """Name for name, at the top and in a rule."""
    _, store, _ = machine
    decide(store, "call_1", rules=("standard",))
    (kept,) = store._read_now(decisions.of_call, "call_1")
    (shown,) = [one for one in map(json.loads, blocks("json")) if "outcome" in one]
    named = {"id", "phase"}  # by the daemon, when it keeps a decision
    assert set(shown) - {"retry_at", "retry_path"} == set(kept.decision) | named
    assert set(shown["versions"]) == set(kept.decision["versions"])
    for rule in shown["rules"]:
        assert set(rule) - {"retry_at"} == set(kept.decision["rules"][0])


def test_example_of_a_script_is_taken_by_the_api():
    """`PATCH /v2/agents/{id}` with it, as it stands."""
    (shown,) = [one for one in map(json.loads, blocks("json")) if "script" in one]
    given = AgentPatch.model_validate(shown)
    assert given.script.model_dump() == shown["script"]
    assert given.purpose == shown["purpose"]
