"""`tandem policy`, `tandem ledger` and `tandem lists`, as an operator types them."""

import hashlib
import importlib
import io
import json
import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from control import cli, log
from control.store import Store, agents, consents, decisions, dnc, opt_outs
from control.store.records import AgentRecord
from control.store.tables.core import decisions as table

NOW = datetime.now(UTC)
OURS, THEIRS = "+14155550199", "+12125551234"
CONFIG = """
[public]
url = "https://voice.example.com"
[control]
admin_key = "k-0123456789abcdef"
[twilio]
account_sid = "AC00000000000000000000000000000001"
auth_token = "0123456789abcdef0123456789abcdef"
[elevenlabs]
api_key = "xi"
[policy]
rules = ["system", "opt_out"]
"""


@pytest.fixture
def machine(tmp_path):
    """A configuration, its store with an agent, and a way to run commands."""
    url = f"sqlite:///{tmp_path / 'tandem.db'}"
    config = tmp_path / "config.toml"
    config.write_text(
        CONFIG + f'lists_dir = "{tmp_path / "lists"}"\n[store]\nurl = "{url}"\n', "utf-8"
    )
    store = Store.open(url)
    record = AgentRecord("agt_1", "Ada", NOW, NOW, status="live", number_e164=OURS)
    store._write_now(agents.insert, record)

    def run(*words):
        return cli.main([*words, "--config", str(config)])

    yield run, store, tmp_path
    store.close()


def test_policy_check_exits_0_when_allowed_and_3_when_not(machine, capsys):
    """In words, and as the decision object."""
    run, *_ = machine
    assert run("policy", "check", THEIRS, "--agent", "agt_1") == 0
    assert capsys.readouterr().out.startswith("ALLOWED")
    (run("lists", "import", "opt-outs", str(write_csv(machine, f"e164\n{THEIRS}\n"))),)
    capsys.readouterr()
    assert run("policy", "check", THEIRS, "--agent", "agt_1", "--json") == 3
    shown = json.loads(capsys.readouterr().out)
    assert shown["outcome"] == "deny"
    assert THEIRS not in json.dumps(shown)
    assert run("policy", "check", THEIRS, "--agent", "agt_none") == 1


@pytest.mark.parametrize("to", ["4155550100", "+0123456789", "+1", "", "+1415555010x"])
def test_policy_check_of_no_telephone_number_is_a_wrong_command_line(machine, capsys, to):
    """No rule knows it, so all of them allowed it."""
    for words in ((to, "--agent", "agt_1"), (THEIRS, "--agent", "agt_1", f"--from={to}")):
        with pytest.raises(SystemExit) as stopped:
            machine[0]("policy", "check", *words)
        assert stopped.value.code == 2
        shown = capsys.readouterr()
        assert (shown.out, "not a telephone number in E.164" in shown.err) == ("", True)


def test_lists_of_a_tenant_that_is_not_there_are_an_error(machine, capsys):
    """An empty list would look as if nobody had opted out, and a list can be nobody's."""
    run, *_ = machine
    path = str(write_csv(machine, f"e164\n{THEIRS}\n"))
    for words in (("export", "opt-outs"), ("import", "opt-outs", path)):
        assert run("lists", *words, "--tenant", "tnt_nope") == 1
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == ("", "tandem: --tenant: there is no tenant tnt_nope\n")


def write_csv(machine, text):
    path = machine[2] / "list.csv"
    path.write_text(text, "utf-8")
    return path


def decide(store, call_id, rules=("system", "opt_out"), **more):
    """A decision with its facts, as the daemon keeps one."""
    facts = {
        "direction": "outbound",
        "phase": "dial",
        "tenant_id": "tnt_default",
        "agent_id": "agt_1",
        "from_number": OURS,
        "to_number": THEIRS,
        "at": (NOW - timedelta(hours=1)).isoformat(),
        **more,
    }
    from control.compliance import stored
    from control.config import PolicySettings
    from control.plugins import build_rules
    from policy import evaluate

    known = stored.load(facts)
    decision = evaluate(build_rules(PolicySettings(rules=rules)), known).to_dict()
    store._write_now(
        decisions.append, call_id, "tnt_default", "dial", decision, known.at, stored.dump(known)
    )


def test_ledger_verify_is_good_until_somebody_edits(machine, capsys, tmp_path):
    """Exit 1 and the row; a head that was kept elsewhere finds a chain that was made anew."""
    run, store, _ = machine
    for number in range(3):
        decide(store, f"call_{number}")
    assert run("ledger", "verify", "--json") == 0
    anchor = tmp_path / "heads.json"
    anchor.write_text(capsys.readouterr().out)
    decide(store, "call_3")
    assert run("ledger", "verify", "--anchor", str(anchor)) == 0
    store._write_now(
        lambda conn: conn.execute(
            update(table).where(table.c.call_id == "call_1").values(decision={"allowed": True})
        )
    )
    capsys.readouterr()
    assert run("ledger", "verify") == 1
    assert "row 2: was edited" in capsys.readouterr().err
    heads = json.loads(anchor.read_text())
    heads["tnt_default"]["hash"] = "0" * 64
    anchor.write_text(json.dumps(heads))
    run("ledger", "verify", "--anchor", str(anchor))
    assert "not the one that was anchored" in capsys.readouterr().err


def test_policy_explain_says_why_in_words(machine, capsys):
    """Every decision about the call, no number in it."""
    run, store, _ = machine
    decide(
        store,
        "call_1",
        opt_out={"e164": THEIRS, "since": NOW.isoformat(), "source": "spoken"},
    )
    assert run("policy", "explain", "call_1") == 0
    out = capsys.readouterr().out
    assert "DENIED" in out
    assert "DNC-INT" in out
    assert THEIRS not in out
    assert run("policy", "explain", "call_none") == 1


LEAKS = """
import logging
from policy import RuleResult

class Leaks:
    id, version, shape = "ACME-LEAK", 1, ""
    def __call__(self, facts):
        said = self.shape.format(e164=facts.to_number, bare=facts.to_number[1:], area=facts.to_number[2:5],
            exchange=facts.to_number[5:8], line=facts.to_number[8:])
        logging.getLogger("acme").warning("looked up %s", said)
        return RuleResult(self.id, 1, "deny", f"the CRM says no to {said}", {"crm": [said]})

rule = Leaks()
"""


@pytest.mark.parametrize(
    "shape",
    ["{e164}", "{bare}", "{area}{exchange}{line}", "+1 {area} {exchange} {line}", "1-{area}-{exchange}-{line}",
     "({area}) {exchange}-{line}", "{area}.{exchange}.{line}", "00{bare}", "tel:%2B{bare}"],
)  # fmt: skip
def test_number_that_a_plug_in_writes_into_its_reason_is_read_nowhere(
    machine, monkeypatch, capsys, shape
):
    """Not from `policy check`, the ledger's row, `policy explain`, or the log that the plug-in itself writes to."""
    run, store, folder = machine
    (folder / "leaks.py").write_text(LEAKS, "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "leaks", raising=False)
    importlib.import_module("leaks").rule.shape = shape
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('"opt_out"]', '"opt_out", "leaks:rule"]'))
    lines = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        log.configure(level="info", format="json", secrets=[], stream=lines)
        assert run("policy", "check", THEIRS, "--agent", "agt_1", "--json") == 3
        checked = capsys.readouterr().out
        assert run("policy", "check", THEIRS, "--agent", "agt_1") == 3
        checked += capsys.readouterr().out
        decide(store, "call_1", rules=("system", "opt_out", "leaks:rule"))
        log.event("call_refused", reason=json.loads(checked.split("\nDENIED")[0])["reason"])
        log.event("said", text=shape.format(e164=THEIRS, bare=THEIRS[1:], area=THEIRS[2:5],
                  exchange=THEIRS[5:8], line=THEIRS[8:]))  # fmt: skip
    finally:
        logging.captureWarnings(False)
        logging.getLogger().handlers[:] = before[0]
        logging.getLogger().setLevel(before[1])
    assert run("policy", "explain", "call_1") == 0
    explained = capsys.readouterr().out
    (row,) = store._read_now(decisions.of_call, "call_1")
    assert run("ledger", "verify") == 0
    for shown in (checked, explained, json.dumps(row.decision), lines.getvalue()):
        assert "ACME-LEAK" in shown or "looked up" in shown
        for line in shown.splitlines():
            said = re.sub(r'"ts": "[^"]*"', "", line)
            assert THEIRS[-7:] not in re.sub(r"[^0-9]", "", said), line


def test_policy_replay_finds_nothing_under_the_same_rules_and_everything_under_others(
    machine, capsys, tmp_path
):
    """The kept facts are enough: same rules, same decisions; with a stricter rule they differ."""
    run, store, _ = machine
    for number in range(3):
        decide(store, f"call_{number}")
    assert run("policy", "replay") == 0
    assert "3 decisions, 0 differ" in capsys.readouterr().out
    config = next(tmp_path.glob("config.toml"))
    config.write_text(config.read_text().replace('"opt_out"]', '"opt_out", "standard"]'))
    config.write_text(
        config.read_text().replace('["system", "opt_out", "standard"]', '["standard"]')
    )
    assert run("policy", "replay") == 0
    out = capsys.readouterr().out
    assert "3 decisions, 3 differ" in out
    assert "allow -> deny" in out


def pack(folder, name="own.toml", **swapped):
    """The packaged rule pack as a file of one's own: with another id, and texts of it swapped."""
    text = LAW.read_text("utf-8").replace('id = "law-2026-11"', 'id = "own-2027-06"')
    for old, new in swapped.items():
        assert PIECES[old] in text
        text = text.replace(PIECES[old], new, 1)
    path = folder / name
    path.write_text(text, "utf-8")
    return path


LAW = Path(__file__).resolve().parents[2] / "policy" / "packs" / "law_2026_11.toml"
PIECES = {"us_hours": 'federal = true\ndaily = "8-21"', "valid_from": "valid_from = 2025-01-01"}


def with_policy(folder, line):
    """The configuration with another line in `[policy]`."""
    config = folder / "config.toml"
    config.write_text(
        config.read_text("utf-8").replace("[policy]\n", f"[policy]\n{line}\n"), "utf-8"
    )


def test_policy_replay_under_another_pack_names_what_it_would_have_changed(machine, capsys):
    """Calls at nine in the morning and at noon; a pack that opens at ten puts the first one off."""
    run, store, folder = machine
    rules = ("system", "opt_out", "time_fed", "time_unk")
    day = datetime(2027, 1, 13, tzinfo=UTC)
    for name, hour in (("early", 14), ("noon", 17)):
        decide(store, f"call_{name}", rules=rules, at=(day + timedelta(hours=hour)).isoformat())
    config = folder / "config.toml"
    config.write_text(
        config.read_text("utf-8").replace('"opt_out"]', '"opt_out", "time_fed", "time_unk"]')
    )
    span = ("--since", "2027-01-13T00:00:00Z", "--until", "2027-01-14T00:00:00Z")
    assert run("policy", "replay", *span) == 0
    assert capsys.readouterr().out == "2 decisions, 0 differ, 0 without their facts\n"
    later = pack(folder, us_hours='federal = true\ndaily = "10-21"')
    assert run("policy", "replay", *span, "--pack", str(later)) == 0
    changed, counted = capsys.readouterr().out.splitlines()
    assert changed == (
        "call_early dial 2027-01-13T14:00:00+00:00: allow -> defer until 2027-01-13T15:00:00Z (TIME-FED)"
    )
    assert counted == "2 decisions, 1 differ, 0 without their facts"
    assert run("policy", "replay", *span, "--at", "2027-01-13T03:00:00Z") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines[:2]] == [
        "allow -> defer until 2027-01-13T13:00:00Z (TIME-FED)"
    ] * 2
    bad = pack(folder, "bad.toml", us_hours='federal = true\ndaily = "21-8"')
    assert run("policy", "replay", *span, "--pack", str(bad)) == 1
    assert "US" in capsys.readouterr().err


def test_pack_of_ones_own_is_in_force_from_its_day_on_and_decisions_name_it(machine, capsys):
    """Both are loaded; before its day the packaged one counts."""
    run, _, folder = machine
    own = pack(
        folder, us_hours='federal = true\ndaily = "10-21"', valid_from="valid_from = 2027-06-01"
    )
    with_policy(folder, f'packs = ["{own}"]')
    config = folder / "config.toml"
    config.write_text(
        config.read_text("utf-8").replace('"opt_out"]', '"opt_out", "time_fed", "time_unk"]')
    )
    assert run("check-config") == 0
    assert f'packs = ["{own}"]' in capsys.readouterr().out
    asked = ("policy", "check", THEIRS, "--agent", "agt_1", "--json", "--at")
    assert run(*asked, "2027-05-12T13:00:00Z") == 0
    assert json.loads(capsys.readouterr().out)["versions"]["pack"] == "law-2026-11"
    assert run(*asked, "2027-06-09T13:00:00Z") == 3
    decision = json.loads(capsys.readouterr().out)
    assert decision["versions"]["pack"] == "own-2027-06"
    assert decision["versions"]["pack_sha256"] == hashlib.sha256(own.read_bytes()).hexdigest()
    assert decision["retry_at"] == "2027-06-09T14:00:00Z"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda folder: folder / "none.toml", "none.toml: No such file or directory"),
        (lambda folder: LAW, "law_2026_11.toml: rule pack: two packs have the id 'law-2026-11'"),
        (lambda folder: pack(folder, us_hours='federal = true\ndaily = "21-8"'), "US"),
        (lambda folder: pack(folder, valid_from='valid_from = "soon"'), "valid_from"),
    ],
)
def test_pack_that_cannot_be_used_ends_the_start_with_its_name(machine, capsys, made, said):
    """Exit 2, file and row; no call is judged by half a law."""
    run, _, folder = machine
    path = made(folder)
    with_policy(folder, f'packs = ["{path}"]')
    assert run("check-config") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"tandem: policy.packs: {path}: ")
    assert said in told


def test_import_names_every_wrong_line_and_imports_nothing(machine, capsys):
    """Line, field and reason; the good lines are not in the store either."""
    run, store, _ = machine
    text = f"e164,reason\n{THEIRS},asked\n12,x\n+15550001111,y,z\n+1999,\n"
    assert run("lists", "import", "opt-outs", str(write_csv(machine, text))) == 1
    err = capsys.readouterr().err
    assert ":3: e164:" in err
    assert ":4: line: has more fields than the header" in err
    assert ":5: e164:" in err
    assert store._read_now(opt_outs.get, "tnt_default", THEIRS) is None
    path = write_csv(machine, "number\n+1\n")
    assert run("lists", "import", "opt-outs", str(path)) == 1
    err = capsys.readouterr().err
    assert ":1: number: unknown column" in err
    assert ":1: e164: this column is missing" in err


def test_export_of_consents_can_be_imported_again(machine, capsys):
    """What comes out goes in, and says the same."""
    run, store, _ = machine
    head = (
        "e164,seller,channels,purposes,level,occurred_at,disclosure_text,names_automated_voice,zone"
    )
    row = f'{THEIRS},Acme,voice_ai|sms,marketing,written_signed,2026-11-01T10:00:00Z,"I agree, ""yes""",true,America/New_York'
    assert run("lists", "import", "consents", str(write_csv(machine, f"{head}\n{row}\n"))) == 0
    capsys.readouterr()
    assert run("lists", "export", "consents") == 0
    exported = capsys.readouterr().out
    assert run("lists", "import", "consents", str(write_csv(machine, exported))) == 0
    one, two = store._read_now(consents.of_number, "tnt_default", THEIRS)
    assert (one.channels, one.level, one.location) == (two.channels, two.level, two.location)
    assert one.disclosure_sha256 == two.disclosure_sha256
    assert one.level == "written_signed"


def test_consent_without_its_text_is_no_signed_writing(machine):
    """Nobody could show what was signed."""
    run, store, _ = machine
    head = "e164,seller,channels,purposes,level,occurred_at"
    row = f"{THEIRS},Acme,voice_ai,marketing,written_signed,2026-11-01T10:00:00Z"
    assert run("lists", "import", "consents", str(write_csv(machine, f"{head}\n{row}\n"))) == 0
    (found,) = store._read_now(consents.of_number, "tnt_default", THEIRS)
    assert found.level == "express"


def test_do_not_call_file_of_any_usual_form_is_swapped_in(machine, capsys):
    """Area code and number apart, ten digits, or E.164; a bad line keeps the former list."""
    run, store, _ = machine
    path = write_csv(machine, "number\n212,5551234\n3105550100\n+14165550100\n")
    assert run("lists", "import", "dnc", str(path), "--as-of", "2026-11-20") == 0
    (record,) = store._read_now(dnc.lists_for, "tnt_default")
    assert (record.list_id, record.entries) == ("US", 3)
    path = write_csv(machine, "2125551234\nnonsense\n")
    assert run("lists", "import", "dnc", str(path)) == 1
    assert ":2: number: is not a number" in capsys.readouterr().err
    assert store._read_now(dnc.lists_for, "tnt_default") == [record]
