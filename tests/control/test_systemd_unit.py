"""The unit agrees with the configuration that it gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from control.config import SECTIONS, load
from control.leaving import hand_over_max_s
from gateway.settings import MediaSettings

SYSTEMD = Path(__file__).parents[2] / "systemd"
CONFIG = '[public]\nurl = "https://voice.example.com"\n'
SECRETS = (
    "CONTROL_ADMIN_KEY",
    "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN",
    "ELEVENLABS_API_KEY",
)

EXPOSURE_MAX = 1.5
UNITS = ("tandem.service", "tandem@.service")
ANALYZE = shutil.which("systemd-analyze")
IS_REQUIRED = os.environ.get("TANDEM_REQUIRE_SYSTEMD") == "1"
"""Where it has to be there, its absence is a failure and not a skip."""
needs_systemd = pytest.mark.skipif(
    ANALYZE is None and not IS_REQUIRED, reason="systemd-analyze is not installed"
)


def analyze(*arguments):
    assert ANALYZE is not None, (
        "TANDEM_REQUIRE_SYSTEMD is set, and systemd-analyze is not installed"
    )
    return subprocess.run(
        [ANALYZE, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_unit_exposes_no_more_than_promised(name):
    """Every directive of the sandbox counts; one that is dropped shows here."""
    threshold = f"--threshold={EXPOSURE_MAX * 10:.0f}"
    done = analyze("security", "--offline=true", threshold, str(SYSTEMD / name))
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_unit_has_no_line_that_systemd_does_not_understand(tmp_path, name):
    """A misspelt directive is ignored by systemd, with a word about it that nobody reads."""
    unit = tmp_path / name.replace("@", "@blue")
    text = (SYSTEMD / name).read_text()
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.M))
    done = analyze("verify", "--man=no", str(unit))
    about_us = [line for line in done.stderr.splitlines() if "tandem" in line]
    assert not about_us, done.stderr


def directives(name):
    """Its lines without comments, in order."""
    lines = (SYSTEMD / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_instances_differ_from_the_single_service_only_where_they_say_so():
    """A directive of the sandbox that is added to one and forgotten in the other shows here."""
    single, instance = (set(directives(name)) for name in UNITS)
    keys = {line.partition("=")[0] for line in single ^ instance}
    assert keys == {
        "Description",
        "After",
        "Conflicts",
        "ExecStart",
        "TimeoutStopSec",
        "EnvironmentFile",
        "DynamicUser",
        "User",
        "Group",
        "RuntimeDirectoryPreserve",
    }


def test_every_directive_of_the_service_has_its_reason_above_it():
    """Or stands directly below one that has, as one of a group."""
    for name in UNITS:
        above = ""
        for line in (SYSTEMD / name).read_text().splitlines():
            is_directive = "=" in line and not line.startswith("#")
            assert not is_directive or above, f"{name}: {line}"
            above = "" if not line or line.startswith("[") else line
            if line == "[Install]":
                break
            if line == "[Unit]":
                above = line  # what a unit is and when it starts needs no reason


def unit_values(key, name="tandem.service"):
    """All values of one directive, those in comments too."""
    text = (SYSTEMD / name).read_text()
    return re.findall(rf"^#?{key}=(.*)$", text, flags=re.M)


@pytest.mark.parametrize(
    ("name", "beyond_s"), [("tandem.service", 15), ("tandem@.service", hand_over_max_s(1000) + 15)]
)
def test_unit_stops_later_than_calls_may_drain(name, beyond_s):
    """Or systemd would kill calls that may still go on; an instance hands a thousand over."""
    (timeout_s,) = unit_values("TimeoutStopSec", name)
    assert int(timeout_s) >= MediaSettings().drain_timeout_s + beyond_s


def test_instances_have_control_ports_of_their_own(tmp_path):
    """Each by its file; the names of the two are made from them."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    listens = set()
    for name in ("blue", "green"):
        (line,) = re.findall(r"^(\w+=\S+)$", (SYSTEMD / f"{name}.env").read_text(), flags=re.M)
        key, _, value = line.partition("=")
        secrets = {f"TANDEM_{key}": "AC00000000000000" for key in SECRETS}
        settings = load(path, {key: value} | secrets)
        listens.add(settings.control.listen)
    assert len(listens) == 2


SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$0.log"
case "$1 $2" in
    "is-active --quiet") [ "$3" = "tandem@$RUNNING" ] ;;
    "start $BROKEN") exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("running", "broken", "told", "code"),
    [
        ("blue", "-", ["start green", "enable green", "disable blue", "stop blue"], 0),
        ("green", "-", ["start blue", "enable blue", "disable green", "stop green"], 0),
        ("-", "-", ["start blue", "enable blue"], 0),
        ("blue", "tandem@green", ["start green", "status green"], 1),
    ],
)
def test_deploy_starts_the_other_instance_before_it_stops_one(
    tmp_path, running, broken, told, code
):
    """And stops none when the new one does not get ready."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RUNNING": running, "BROKEN": broken}
    done = subprocess.run(
        [SYSTEMD / "tandem-deploy"], env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stderr
    lines = (tmp_path / "systemctl.log").read_text().splitlines()
    said = [
        f"{line.split()[0]} {line.rpartition('@')[2]}"
        for line in lines
        if not line.startswith("is-active")
    ]
    assert said == told


def test_unit_gives_every_secret_as_a_credential_that_the_configuration_takes(tmp_path):
    """A name with a typing mistake would only show on a machine with systemd."""
    environ = {}
    credentials = dict(value.split(":") for value in unit_values("LoadCredential"))
    for line in unit_values("Environment"):
        name, _, path = line.partition("=")
        credential = path.removeprefix("%d/")
        assert credentials.pop(credential) == f"/etc/tandem/credentials/{credential}"
        environ[name] = str(tmp_path / credential)
        (tmp_path / credential).write_text(f"AC-{credential}\n")
    assert not credentials
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    settings = load(path, environ)
    assert settings.control.admin_key.reveal() == "AC-control_admin_key"
    assert settings.elevenlabs.webhook_secret.reveal() == "AC-elevenlabs_webhook_secret"


def test_example_environment_names_keys_only():
    """Uncommented as it stands, it is valid."""
    known = {
        f"TANDEM_{name}_{key}".upper()
        for name, section in SECTIONS.items()
        for key in section.__dataclass_fields__
    }
    text = (SYSTEMD / "tandem.env.example").read_text()
    names = re.findall(r"^#?(TANDEM_[A-Z_]+)=", text, flags=re.M)
    assert names
    assert set(names) <= known
