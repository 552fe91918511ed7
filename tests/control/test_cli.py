"""The `tandem` command."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from control import cli

CONFIG = """
[public]
url = "https://voice.example.com"
[control]
admin_key = "an-admin-key-long-enough"
[twilio]
account_sid = "AC0123456789abcdef0123456789abcdef"
auth_token = "twilio-token-0001"
[elevenlabs]
api_key = "eleven-key-0001"
"""
ALL_RULES = '[policy]\nrules = ["standard"]\n'


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A valid configuration's path; nothing of ours in the environment."""
    for name in list(os.environ):
        if name.startswith("TANDEM_"):
            monkeypatch.delenv(name)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def test_check_config_with_a_valid_file_prints_it_masked(config, capsys):
    """Exit 0, TOML on stdout, no secret anywhere, nothing on stderr."""
    config.write_text(CONFIG + ALL_RULES)
    assert cli.main(["check-config", "--config", str(config)]) == 0
    out, err = capsys.readouterr()
    assert tomllib.loads(out)["control"]["admin_key"] == "***"
    assert "token-0001" not in out + err
    assert err == ""


def test_check_config_with_an_exposed_control_port_warns_and_exits_0(config, capsys, monkeypatch):
    """It is allowed; nobody should overlook it."""
    monkeypatch.setenv("TANDEM_CONTROL_LISTEN", "0.0.0.0:8080")
    assert cli.main(["check-config", "--config", str(config)]) == 0
    assert "warning: control.listen" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check-config", "serve"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('[media]\nlead = 5', "media.lead: unknown key; did you mean 'lead_ms'?"),
        ('[policy]\nrules = ["opt_ot"]', "no rule 'opt_ot'; did you mean 'opt_out'?"),
        ("[policy.opt_out]\ndays = 1", "policy.dnc_int: unknown key 'days'"),
        ('[policy]\nrules = ["nope_of_ours:x"]', "cannot load 'nope_of_ours:x'"),
        ('[policy]\nrules = ["json:nope"]', "cannot load 'json:nope'"),
        ('[policy]\nrules = ["json:"]', "cannot load 'json:'"),
    ],
)  # fmt: skip
def test_any_command_with_a_wrong_configuration_exits_2(config, capsys, command, change, message):
    """The message is on stderr and names the key; nothing is started."""
    config.write_text(CONFIG + change)
    assert cli.main([command, "--config", str(config)]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_check_config_without_the_file_exits_2(tmp_path, capsys):
    """The path is named."""
    assert cli.main(["check-config", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: no such file" in capsys.readouterr().err


def test_check_config_with_a_plug_in_that_raises_at_import_names_it(
    config, capsys, tmp_path, monkeypatch
):
    """Foreign code is no reason for a traceback."""
    (tmp_path / "broken_plugin_of_test.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    config.write_text(CONFIG + '[policy]\nrules = ["broken_plugin_of_test:x"]')
    assert cli.main(["check-config", "--config", str(config)]) == 2
    assert "broken_plugin_of_test: ZeroDivisionError" in capsys.readouterr().err


def test_serve_hands_the_settings_to_the_daemon_and_returns_its_code(config, monkeypatch):
    """The daemon's word is the exit code."""
    given = []
    daemon = types.ModuleType("control.daemon")
    daemon.run = lambda settings: given.append(settings) or 1
    monkeypatch.setitem(sys.modules, "control.daemon", daemon)
    monkeypatch.setattr("control.daemon", daemon, raising=False)
    assert cli.main(["serve", "--config", str(config)]) == 1
    assert given[0].public.url == "https://voice.example.com"


@pytest.mark.parametrize("arguments", [[], ["servee"], ["serve", "--conf"], ["check-config", "x"]])
def test_command_line_that_is_wrong_exits_2(arguments):
    """As command-line programs do."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


def test_version_prints_name_and_version_without_loading_the_daemon():
    """A real process, because what it must not import counts."""
    program = (
        "import sys\nfrom control.cli import main\n"
        "try:\n    main(['--version'])\n"
        "except SystemExit as end:\n    print(end.code, 'control.daemon' in sys.modules,"
        " 'twilio' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    name, rest = done.stdout.split("\n", 1)
    assert name.startswith("tandem ")
    assert rest.split() == ["0", "False", "False"]
