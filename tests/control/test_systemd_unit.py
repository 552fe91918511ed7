"""The unit agrees with the configuration that it gives."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from control.config import SECTIONS, load
from gateway.settings import MediaSettings

SYSTEMD = Path(__file__).parents[2] / "systemd"
CONFIG = '[public]\nurl = "https://voice.example.com"\n'


EXPOSURE_MAX = 1.5
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def analyze(*arguments):
    return subprocess.run(
        [ANALYZE, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@needs_systemd
def test_unit_exposes_no_more_than_promised():
    """Every directive of the sandbox counts; one that is dropped shows here."""
    threshold = f"--threshold={EXPOSURE_MAX * 10:.0f}"
    done = analyze("security", "--offline=true", threshold, str(SYSTEMD / "tandem.service"))
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@needs_systemd
def test_unit_has_no_line_that_systemd_does_not_understand(tmp_path):
    """A misspelt directive is ignored by systemd, with a word about it that nobody reads."""
    unit = tmp_path / "tandem.service"
    text = (SYSTEMD / "tandem.service").read_text()
    unit.write_text(text.replace("/opt/tandem/bin/tandem serve", "/bin/true"))
    done = analyze("verify", "--man=no", str(unit))
    about_us = [line for line in done.stderr.splitlines() if "tandem.service" in line]
    assert not about_us, done.stderr


def unit_values(key):
    """All values of one directive, those in comments too."""
    text = (SYSTEMD / "tandem.service").read_text()
    return re.findall(rf"^#?{key}=(.*)$", text, flags=re.M)


def test_unit_stops_later_than_calls_may_drain():
    """Or systemd would kill calls that may still go on."""
    (timeout_s,) = unit_values("TimeoutStopSec")
    assert int(timeout_s) >= MediaSettings().drain_timeout_s + 15


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
