"""The unit agrees with the configuration that it gives."""

from __future__ import annotations

import re
from pathlib import Path

from control.config import SECTIONS, load
from gateway.settings import MediaSettings

SYSTEMD = Path(__file__).parents[2] / "systemd"
CONFIG = '[public]\nurl = "https://voice.example.com"\n'


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
