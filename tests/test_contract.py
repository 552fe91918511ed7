"""Names that outside tools rely on: commands, keys, routes, fields, metrics.

Written by hand and never read from the code: whoever renames something here breaks somebody's script,
dashboard or configuration, and should notice. Adding is free.
"""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control import cli
from control.config import SECTIONS, load
from control.front import MEDIA_START
from control.hooks.app import create_hooks
from control.metrics import Metrics
from control.store import agents, calls
from policy import Facts, evaluate, load_rules
from tests.control.api_rig import NOW, agent, call, open_rig
from tests.sources import keys_of

ROOT = Path(__file__).resolve().parents[1]

# ---- commands ------------------------------------------------------------------------------------

MAKE = {
    "demo": "-m bench.demo",
    "test": "-m pytest",
    "check": "ruff check",
    "bench": "-m bench.load",
}
"""Targets, and what has to be in their recipe."""


@pytest.mark.parametrize("target", MAKE)
def test_makefile_has_the_commands_that_people_type(target):
    """Each also installs what it needs first."""
    text = (ROOT / "Makefile").read_text()
    rule = re.search(rf"^{target}: (.*)\n((?:\t.*\n)+)", text, flags=re.M)
    assert rule is not None
    assert "INSTALLED)" in rule[1]
    assert MAKE[target] in rule[2]


def test_console_command_is_tandem():
    """`tandem` is what the unit file and people call."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"tandem": "control.cli:main"}
    assert project["name"] == "tandem"


def test_version_names_the_program(capsys):
    """`tandem --version`: name and version."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"tandem \S+\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_commands_with_a_wrong_configuration_exit_2_and_name_the_key(command, tmp_path, capsys):
    """Also `serve`: nothing is started on a configuration that cannot be used."""
    path = tmp_path / "config.toml"
    path.write_text('[public]\nurl = "https://voice.example.com"\nlisten_at = "0.0.0.0:1"\n')
    assert cli.main([command, "--config", str(path)]) == 2
    assert "public.listen_at" in capsys.readouterr().err


# ---- configuration -------------------------------------------------------------------------------

KEYS = {
    "public": {"listen", "url"},
    "control": {"listen", "admin_key", "admin_key_file"}
    | {"tenant_requests_per_s", "tenant_calls_max", "tenant_calls_per_minute"},
    "twilio": {"account_sid", "auth_token", "auth_token_file", "api_base_url"}
    | {"auth_token_secondary", "auth_token_secondary_file", "edge", "region", "cps"},
    "elevenlabs": {"api_key", "api_key_file", "base_url"}
    | {"webhook_secret", "webhook_secret_file", "concurrency", "inbound_reserve_percent"},
    "media": {
        "workers",
        "pin_workers",
        "max_calls_per_worker",
        "admit_lateness_ms",
        "admit_load_percent",
    },
    "store": {"url", "encryption_key", "encryption_key_file"},
    "retention": {"transcripts_days", "recordings_days", "numbers_days"},
    "policy": {"rules"},
    "telemetry": {"otlp_endpoint", "otlp_headers", "otlp_headers_file"},
    "log": {"level", "format"},
}
DEFAULTS = {
    "public.listen": "0.0.0.0:8443",
    "control.listen": "127.0.0.1:8080",
    "twilio.api_base_url": "https://api.twilio.com",
    "elevenlabs.base_url": "https://api.elevenlabs.io",
    "media.workers": "0",
    "store.url": "sqlite:///tandem.db",
}
LEAST = """
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


@pytest.mark.parametrize("section", KEYS)
def test_configuration_has_the_documented_keys(section):
    """More keys may be there, none of these may go."""
    assert keys_of(section) >= KEYS[section]


def test_configuration_has_no_other_sections():
    """A new one belongs into the list above."""
    assert set(SECTIONS) == set(KEYS)


@pytest.fixture
def least(tmp_path):
    """The shortest configuration that is valid."""
    path = tmp_path / "config.toml"
    path.write_text(LEAST)
    return path


@pytest.mark.parametrize("key", DEFAULTS)
def test_defaults_are_the_documented_ones(key, least):
    """What a short configuration file relies on."""
    section, name = key.split(".")
    assert str(getattr(getattr(load(least, {}), section), name)) == DEFAULTS[key]


def test_environment_overrides_a_key(least):
    """`TANDEM_<SECTION>_<KEY>`, upper case."""
    settings = load(least, {"TANDEM_PUBLIC_URL": "https://other.example.com"})
    assert settings.public.url == "https://other.example.com"
    assert settings.public.media_url == "wss://other.example.com"


def test_secret_may_come_from_a_file(least, tmp_path):
    """`<key>_file`, as systemd credentials are given."""
    secret = tmp_path / "credential"
    secret.write_text("from-a-file\n")
    settings = load(least, {"TANDEM_TWILIO_AUTH_TOKEN_FILE": str(secret)})
    assert settings.twilio.auth_token.reveal() == "from-a-file"


# ---- public paths --------------------------------------------------------------------------------

PUBLIC = {
    "/twilio/voice",
    "/twilio/voice/fallback",
    "/twilio/status",
    "/twilio/stream",
    "/twilio/continue",
}


def test_public_paths_take_posts():
    """They are in the configuration of numbers, and in TwiML that Twilio already holds."""
    app = create_hooks(
        None,  # type: ignore[arg-type]  # no request is made
        public_url="https://voice.example.com",
        tokens=["token"],
        metrics=Metrics(),
    )
    rules = {rule.rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    assert rules >= PUBLIC


def test_media_streams_come_to_media():
    """`GET /media/{ticket}`."""
    assert MEDIA_START == b"GET /media/"


# ---- the control API -----------------------------------------------------------------------------

API = {
    "POST /v2/agents",
    "GET /v2/agents",
    "GET /v2/agents/{id}",
    "PATCH /v2/agents/{id}",
    "DELETE /v2/agents/{id}",
    "POST /v2/agents/{id}/retry",
    "GET /v2/agents/{id}/numbers",
    "POST /v2/agents/{id}/numbers",
    "DELETE /v2/agents/{id}/numbers/{id}",
    "GET /v2/verticals",
    "GET /v2/numbers/available",
    "GET /v2/numbers",
    "POST /v2/numbers",
    "GET /v2/numbers/{id}",
    "DELETE /v2/numbers/{id}",
    "GET /v2/tenants/{id}/regulations",
    "GET /v2/tenants/{id}/addresses",
    "POST /v2/tenants/{id}/addresses",
    "GET /v2/tenants/{id}/bundles",
    "POST /v2/tenants/{id}/bundles",
    "GET /v2/tenants/{id}/bundles/{id}",
    "GET /v2/tenants/{id}/trust",
    "POST /v2/tenants/{id}/trust",
    "GET /v2/tenants/{id}/trust/{id}",
    "POST /v2/tenants/{id}/trust/{id}/numbers",
    "GET /v2/tenants/{id}/geo-permissions",
    "PUT /v2/tenants/{id}/geo-permissions",
    "POST /v2/calls/initiate",
    "GET /v2/calls",
    "GET /v2/calls/{id}",
    "GET /v2/calls/{id}/transcript",
    "GET /v2/calls/{id}/timeline",
    "GET /v2/calls/{id}/recording",
    "POST /v2/calls/{id}/hangup",
    "POST /v2/calls/{id}/transfer",
    "POST /v2/calls/{id}/erase",
    "GET /v2/numbers/{id}/routes",
    "PUT /v2/numbers/{id}/routes",
    "DELETE /v2/numbers/{id}/routes",
    "GET /v2/stats",
    "GET /v2/tenants/{id}/usage",
    "GET /v2/tenants/{id}/traffic-health",
    "GET /v2/provider-events",
    "POST /v2/policy/check",
    "GET /v2/policy/stop",
    "PUT /v2/policy/stop",
    "GET /v2/opt-outs",
    "POST /v2/opt-outs",
    "DELETE /v2/opt-outs/{id}",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /docs",
}
AGENT = {"id", "tenant_id", "name", "status", "number", "subaccount", "elevenlabs", "provisioning"}
RECORD = {
    *("id", "tenant_id", "agent_id", "direction", "from", "to", "status", "times", "legs"),
    *("decision", "transcript", "extractions", "summary", "timeline", "media", "cost", "metadata"),
}


def test_control_api_has_the_documented_routes():
    """Names of path parameters are free."""
    with open_rig() as rig:
        there = {
            f"{method} {re.sub(r'<[^>]+>', '{id}', rule.rule)}"
            for rule in rig.app.url_map.iter_rules()
            for method in rule.methods or ()
        }
    assert not API - there


async def test_lists_answer_items_and_a_cursor():
    """Every list, also an empty one."""
    with open_rig() as rig:
        for path in ("/v2/agents", "/v2/calls", "/v2/opt-outs"):
            assert (await rig.ask("GET", path)).json == {"items": [], "next_cursor": None}


async def test_errors_are_problem_documents():
    """RFC 9457, with the media type that says so."""
    with open_rig() as rig:
        answered = await rig.ask("GET", "/v2/calls/call_0")
        assert answered.status == 404
        assert {"type", "title", "status", "detail"} <= answered.problem().keys()


async def test_agent_has_the_documented_fields():
    """What scripts wait for while a number goes live."""
    with open_rig() as rig:
        await rig.store.write(agents.insert, agent())
        shown = (await rig.ask("GET", "/v2/agents/agt_0001")).json
    assert shown.keys() >= AGENT
    assert shown["number"].keys() >= {"e164", "sid", "type", "status"}
    assert shown["subaccount"].keys() >= {"sid", "status"}
    assert shown["elevenlabs"].keys() >= {"agent_id", "status"}
    assert shown["provisioning"].keys() >= {"elapsed_s", "steps"}


async def test_record_has_the_documented_fields():
    """The record of a call, and its item in the list, keyed to Twilio's call SID."""
    with open_rig() as rig:
        await rig.store.write(calls.insert, call(agent_id=None, twilio_call_sid="CA1"))
        record = (await rig.ask("GET", "/v2/calls/call_0001")).json
        (item,) = (await rig.ask("GET", "/v2/calls")).json["items"]
    assert record.keys() >= RECORD
    assert record["metadata"]["twilio_call_sid"] == "CA1"
    assert item["metadata"]["twilio_call_sid"] == "CA1"
    assert record["times"]["created_at"] == NOW.isoformat().replace("+00:00", "Z")


# ---- decisions and metrics -----------------------------------------------------------------------


def test_decision_has_the_documented_form():
    """As it is stored, answered and shown for years."""
    rules = load_rules(("system", "opt_out"), {}, lambda name: pytest.fail(name))
    at = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
    facts = Facts("outbound", "check", "tnt_1", "agt_1", "+14155550100", "+12125550123", at)
    shown = evaluate(rules, facts).to_dict()
    assert shown.keys() >= {"allowed", "outcome", "rules"}
    assert "retry_at" not in shown  # it goes with `defer`
    assert (shown["allowed"], shown["outcome"]) == (True, "allow")
    for rule in shown["rules"]:
        assert rule.keys() == {"id", "version", "outcome", "reason", "inputs"}


def test_metric_names_begin_with_tandem():
    """Of every family on the page."""
    metrics = Metrics("1.0")
    metrics.webhooks.labels("/twilio/voice", "200").inc()
    families = re.findall(r"^# TYPE (\w+)", metrics.render().decode(), flags=re.M)
    assert len(families) > 5
    assert not [name for name in families if not name.startswith("tandem_")]
