"""Configuration: file, environment, secrets, and messages that name the key."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from control.config import SECTIONS, ConfigError, Secret, load, masked, warnings
from control.config_checks import Listen, origin, store_url_masked
from gateway.settings import MediaSettings

MINIMAL = """
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


@pytest.fixture
def written(tmp_path):
    """Writes a configuration and returns what `load` makes of it."""

    def write(text=MINIMAL, environ=None):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return load(path, environ or {})

    return write


def problem(written, text=MINIMAL, environ=None):
    with pytest.raises(ConfigError) as caught:
        written(text, environ)
    return str(caught.value)


def with_key(section, line):
    """MINIMAL with one line more in that section."""
    if f"[{section}]" not in MINIMAL:
        return f"{MINIMAL}[{section}]\n{line}\n"
    return MINIMAL.replace(f"[{section}]", f"[{section}]\n{line}")


def without(key):
    return re.sub(rf"^{key} = .*$", "", MINIMAL, flags=re.M)


def test_load_with_secrets_only_takes_every_default(written):
    """Four secrets and the public address are all that has to be given."""
    settings = written()
    assert settings.public.listen == Listen("0.0.0.0", 8443)
    assert settings.control.listen == Listen("127.0.0.1", 8080)
    assert settings.media == MediaSettings()
    assert settings.policy.rules == ("base",)
    assert settings.public.media_url == "wss://voice.example.com"
    assert settings.elevenlabs.websocket_url == "wss://api.elevenlabs.io"
    assert settings.elevenlabs.webhook_secret is None


def test_load_media_url_of_its_own(written):
    """A node's streams come to it, its webhooks through the balancer."""
    settings = written(with_key("public", "media_url = 'wss://voice-1.example.com/'"))
    assert settings.public.media_url == "wss://voice-1.example.com"
    assert settings.public.url == "https://voice.example.com"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (with_key("media", "lead_mss = 5"), "media.lead_mss: unknown key; did you mean 'lead_ms'?"),
        (with_key("twillio", "cps = 1"), "[twillio]: unknown section; did you mean 'twilio'?"),
        ("public = 5\n" + MINIMAL.replace("[public]", "[log]"), "public: expected a section"),
        (with_key("media", "bogus = 1\n"), "media.bogus: unknown key"),
        (with_key("public", "tables = {}"), "public.tables: unknown key"),
        (with_key("policy", 'tables = "x"'), "policy.tables: unknown key"),
        (with_key("media", "frame_ms = '20'"), "media.frame_ms: expected a whole number, got a st"),
        (with_key("media", "frame_ms = true"), "media.frame_ms: expected a whole number, got true"),
        (with_key("media", "frame_ms = 20.0"), "media.frame_ms: expected a whole number, got a nu"),
        (with_key("twilio", "cps = 'fast'"), "twilio.cps: expected a number, got a string"),
        (with_key("policy", "rules = 'system'"), "policy.rules: expected a list of strings, got"),
        (with_key("policy", "rules = [1]"), "policy.rules: expected a list of strings, got a list"),
        (with_key("twilio", "edge = 3"), "twilio.edge: expected a string, got a whole number"),
        (with_key("media", "interruption_drops_equal = 1"), "expected true or false, got a whole"),
        (without("admin_key"), "control.admin_key: missing; set it in [control], or control.adm"),
        (without("account_sid"), "twilio.account_sid: missing"),
        (without("auth_token"), "twilio.auth_token: missing"),
        (without("api_key"), "elevenlabs.api_key: missing"),
        (without("url"), "public.url: missing; set it in [public], or TANDEM_PUBLIC_URL"),
        (MINIMAL.replace("twilio-token-0001", ""), "twilio.auth_token: the value is empty"),
        (MINIMAL.replace("ACx", "SK").replace("AC0", "SK0"), "twilio.account_sid: expected an acc"),
        (with_key("public", "listen = '8443'"), 'public.listen: expected "host:port"'),
        (with_key("public", "listen = 'a:99999'"), 'public.listen: expected "host:port"'),
        (with_key("public", "listen = '::1:80'"), "public.listen: an IPv6 address goes in brack"),
        (with_key("public", "listen = '[zz]:80'"), "public.listen: "),
        (with_key("control", "listen = '0.0.0.0:8443'"), "control.listen: is the same address"),
        (MINIMAL.replace("example.com", "example.com/x"), "public.url: must have no path"),
        (MINIMAL.replace("https://voice", "wss://voice"), "public.url: expected http(s)://"),
        (with_key("public", "media_url = 'https://a'"), "public.media_url: expected wss://"),
        (with_key("public", "media_url = 'wss://a/b'"), "public.media_url: must have no path"),
        (with_key("twilio", "api_base_url = 'api'"), "twilio.api_base_url: expected http(s)://"),
        (with_key("elevenlabs", "base_url = 'https://a?b'"), "elevenlabs.base_url: must have no"),
        (with_key("twilio", "cps = 0"), "twilio.cps: must be above 0"),
        (
            with_key("elevenlabs", "inbound_reserve_percent = 100"),
            "elevenlabs.inbound_reserve_percent: expected 0 to 99, got 100",
        ),
        (
            with_key("elevenlabs", "concurrency = -1"),
            "elevenlabs.concurrency: expected 0 or more, got -1",
        ),
        (
            with_key("media", "admit_load_percent = 101"),
            "media.admit_load_percent: must be between 0 and 100, got 101.0",
        ),
        (with_key("twilio", "edge = 'a/b'"), "twilio.edge: expected a name"),
        (with_key("store", "url = 'mysql://u:hidden@h/d'"), "store.url: expected sqlite:///path"),
        (with_key("log", "level = 'loud'"), "log.level: expected one of debug, info, warning, er"),
        (with_key("log", "format = 'xml'"), "log.format: expected one of json, text"),
        (with_key("media", "frame_ms = 30"), "media.frame_ms: must be a multiple of 20"),
        (with_key("media", "workers = -1"), "media.workers: must be between 0 and"),
        (with_key("media", "lead_ms = 500"), "media.lead_ms: must not be above lead_max_ms (400)"),
        (with_key("media", "drain_timeout_s = nan"), "media.drain_timeout_s: must be between"),
        (with_key("media", "warm_outbound = 'early'"), "media.warm_outbound: expected one of rin"),
        (with_key("media", "gap_fill_min_ms = 20000"), "media.gap_fill_min_ms: must not be abov"),
        ("[public\n", "not TOML"),
    ],
)
def test_load_with_a_wrong_value_names_the_key(written, text, message):
    """The operator reads which key to correct, and never a secret."""
    said = problem(written, text)
    assert message in said
    assert "hidden" not in said


def test_load_with_several_mistakes_tells_all_of_them(written):
    """One run is enough to correct a file."""
    said = problem(
        written, with_key("media", "bogus = 1\nframe_ms = 'x'"), {"TANDEM_LOG_LEVLE": "x"}
    )
    assert [line.split(":")[0] for line in said.splitlines()] == [
        "media.bogus",
        "TANDEM_LOG_LEVLE",
        "media.frame_ms",
    ]


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a = 1\x00"])
def test_load_with_a_file_that_cannot_be_read_names_it(tmp_path, content):
    """Missing, not UTF-8, not TOML."""
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml: "):
        load(path, {})


def test_load_with_a_directory_names_it(tmp_path):
    """The operating system's own word is passed on."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


def test_environment_overrides_the_file_with_the_keys_type(written):
    """Text becomes number, truth value, list or address."""
    settings = written(
        with_key("media", "workers = 1"),
        {
            "TANDEM_MEDIA_WORKERS": "3",
            "TANDEM_MEDIA_INTERRUPTION_DROPS_EQUAL": "no",
            "TANDEM_TWILIO_CPS": "2.5",
            "TANDEM_POLICY_RULES": "opt_out, system",
            "TANDEM_PUBLIC_LISTEN": "[::1]:9000",
            "TANDEM_ELEVENLABS_API_KEY": "from-the-environment",
            "TANDEMX_PUBLIC_URL": "not ours",
            "TANDEM_NOTHING_OF_OURS": "not a section",
        },
    )
    assert settings.media.workers == 3
    assert settings.media.interruption_drops_equal is False
    assert settings.twilio.cps == 2.5
    assert settings.policy.rules == ("opt_out", "system")
    assert settings.public.listen == Listen("::1", 9000)
    assert settings.elevenlabs.api_key == Secret("from-the-environment")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "TANDEM_MEDIA_FRAME_MS",
            "20ms",
            r"TANDEM_MEDIA_FRAME_MS \(media.frame_ms\): expected a wh",
        ),
        ("TANDEM_MEDIA_INTERRUPTION_DROPS_EQUAL", "2", "expected true or false, got '2'"),
        (
            "TANDEM_PUBLIC_LISTEM",
            "x",
            "unknown key of .public.; did you mean 'TANDEM_PUBLIC_LISTEN'",
        ),
        ("TANDEM_POLICY_TABLES", "x", "TANDEM_POLICY_TABLES: unknown key of .policy."),
        ("TANDEM_PUBLIC_URL", "x", "public.url: expected http"),
        ("TANDEM_TWILIO_AUTH_TOKEN", "", "TANDEM_TWILIO_AUTH_TOKEN: the value is empty"),
    ],
)
def test_environment_with_a_wrong_value_names_the_variable(written, variable, value, message):
    """A service's environment is edited elsewhere than its file."""
    assert re.search(message, problem(written, MINIMAL, {variable: value}))


def test_secret_from_a_file_loses_its_line_end_only(written, tmp_path):
    """Editors and `echo` end files with a line end."""
    (tmp_path / "token").write_text("from-a-file\n")
    line = f'auth_token_file = "{tmp_path}/token"'
    settings = written(MINIMAL.replace('auth_token = "twilio-token-0001"', line))
    assert settings.twilio.auth_token.reveal() == "from-a-file"


def test_secret_from_the_environments_file_replaces_the_one_in_the_file(written, tmp_path):
    """systemd's credentials come by `TANDEM_…_FILE`."""
    (tmp_path / "sid").write_text("ACfrom-a-file")
    settings = written(MINIMAL, {"TANDEM_TWILIO_ACCOUNT_SID_FILE": str(tmp_path / "sid")})
    assert settings.twilio.account_sid == "ACfrom-a-file"


def test_secret_given_twice_is_an_error_that_names_both(written):
    """Which one counts must not be a guess."""
    said = problem(written, with_key("twilio", 'auth_token_file = "/x"'))
    assert said == "twilio.auth_token and twilio.auth_token_file: both are given, only one may be"
    both = {"TANDEM_CONTROL_ADMIN_KEY": "a", "TANDEM_CONTROL_ADMIN_KEY_FILE": "b"}
    assert "TANDEM_CONTROL_ADMIN_KEY and TANDEM_CONTROL_ADMIN_KEY_FILE" in problem(
        written, MINIMAL, both
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"\xff", "not UTF-8"),
        (b"x" * 70_000, "is larger than 65536 bytes"),
    ],
)
def test_secret_file_that_cannot_be_used_names_key_and_path(written, tmp_path, content, why):
    """Missing, empty, not text, too large."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    text = MINIMAL.replace('api_key = "eleven-key-0001"', f'api_key_file = "{path}"')
    said = problem(written, text)
    assert said.startswith("elevenlabs.api_key_file: ")
    assert why in said


ENCRYPTION_KEY = "A" * 43 + "="
POSTGRES = f'url = "postgresql://{{}}"\nencryption_key = "{ENCRYPTION_KEY}"'


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "it is none: a key is 32 random bytes"),
        ("too-short", "it is none"),
        (f"{ENCRYPTION_KEY}, too-short", "key 2 of 2 is none"),
        (" , ", "is empty"),
    ],
)
def test_encryption_key_that_is_none_is_refused(written, value, why):
    """Which of several keys is wrong is said, the keys are not."""
    said = problem(written, with_key("store", f'encryption_key = "{value}"'))
    assert said.startswith("store.encryption_key: ")
    assert ENCRYPTION_KEY not in said


def test_encryption_keys_of_a_rotation_are_read(written):
    """Separated by commas or spaces, the newest first."""
    other = "B" * 43 + "="
    text = with_key("store", f'encryption_key = "{other},  {ENCRYPTION_KEY}"')
    assert written(text).store.encryption_key.reveal() == f"{other},{ENCRYPTION_KEY}"


def test_postgresql_without_encryption_key_is_refused(written):
    """Several machines need one key; a file beside a database does not exist there."""
    said = problem(written, with_key("store", 'url = "postgresql://u@h/d"'))
    assert said.startswith("store.encryption_key: is needed with postgresql")


def test_masked_is_toml_with_every_key_and_no_secret(written):
    """What is printed may go into a ticket."""
    text = with_key("store", POSTGRES.format("tandem:pass@word@db/tandem")) + (
        '[policy]\nrules = ["m:o"]\n[policy."m:o"]\napi_token = "plug-in-token"\ndays = [1, 2]\n'
    )
    settings = written(text)
    shown = masked(settings)
    for secret in settings.secrets():
        assert secret not in shown
    document = tomllib.loads(shown)
    for name, section in SECTIONS.items():
        keys = {item.name for item in dataclasses.fields(section)} - {"tables"}
        assert keys <= set(document[name])
    assert document["policy"]["m:o"] == {"api_token": "***", "days": [1, 2]}
    assert document["store"]["url"] == "postgresql://tandem:***@db/tandem"
    assert document["twilio"]["account_sid"] == "AC***cdef"
    assert {"pass@word", "plug-in-token", "eleven-key-0001"} <= set(settings.secrets())


@hypothesis_settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1))
def test_masked_with_any_text_stays_toml(text):
    """Quotes, backslashes and control characters are escaped."""
    from control.config import _toml

    assert tomllib.loads(f"key = {_toml(text)}") == {"key": text}


def test_repr_of_settings_shows_no_secret(written):
    """A settings object in a traceback must not give them away."""
    settings = written(with_key("store", POSTGRES.format("u:db-password@h/d")))
    for secret in settings.secrets():
        assert secret not in repr(settings)
        assert secret not in f"{settings}"


def test_warnings_for_an_exposed_control_port_and_a_sample_secret(written):
    """They work, so they are no errors; nobody should miss them."""
    text = with_key("control", "listen = '0.0.0.0:8080'").replace("twilio-token", "change-me")
    found = "\n".join(warnings(written(text)))
    assert "control.listen: 0.0.0.0:8080 is not a loopback" in found
    assert "change-me" in found
    assert warnings(written(with_key("policy", 'rules = ["standard"]'))) == []


@pytest.mark.parametrize(
    ("rules", "unasked"),
    [
        ("", "calling hours or consent"),
        ('rules = ["system", "opt_out"]', "calling hours or consent"),
        ('rules = ["base", "time_fed"]', "for consent:"),
        ('rules = ["base", "con_none"]', "for calling hours:"),
        ("rules = []", "every call is allowed"),
    ],
)
def test_warnings_for_rules_without_hours_or_consent_say_what_nothing_asks_for(
    written, rules, unasked
):
    """Whoever calls people with the rules of a trial is told so."""
    [found] = warnings(written(with_key("policy", rules)))
    assert found.startswith("policy.rules: ")
    assert unasked in found


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:65535", "localhost:1", "0.0.0.0:8443"])
def test_listen_written_and_parsed_is_the_same(text):
    """What is printed can be given again."""
    assert str(Listen.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("[::]:1", False)],
)
def test_listen_knows_loopback(text, is_loopback):
    """Only this machine reaches it."""
    assert Listen.parse(text).is_loopback is is_loopback


@pytest.mark.parametrize(
    "text",
    ["", "https://", "https://u:p@h", "https://h#x", "https://h?", "https://h:0", "https://h:x",
     "https://h i", "https://h:99999", "ftp://h"],
)  # fmt: skip
def test_origin_that_is_more_or_less_than_an_origin_is_refused(text):
    """A path or a query would end up in the middle of signed addresses."""
    with pytest.raises(ValueError, match=r"expected|must|Port"):
        origin(text)


def test_origin_with_a_trailing_slash_loses_it():
    """Paths are appended to it."""
    assert origin("http://127.0.0.1:8443/") == "http://127.0.0.1:8443"


def test_store_url_without_a_password_is_shown_whole():
    """There is nothing to hide."""
    assert store_url_masked("sqlite:////var/lib/a@b:c.db") == ("sqlite:////var/lib/a@b:c.db", "")
    assert store_url_masked("postgresql://u@h/d") == ("postgresql://u@h/d", "")


def test_sample_configuration_names_every_key_with_its_default(tmp_path):
    """`config.toml` is the list of keys: uncommented as a whole it is valid and changes nothing."""
    sample = (Path(__file__).parents[2] / "config.toml").read_text()
    whole = re.sub(r"^#(\w+ = )", r"\1", sample, flags=re.M)
    document = tomllib.loads(re.sub(r"^\w+_file = .*$", "", whole, flags=re.M))
    required = {("public", "url"), ("control", "admin_key"), ("twilio", "account_sid")}
    required |= {("twilio", "auth_token"), ("elevenlabs", "api_key")}
    for name, section in SECTIONS.items():
        keys = {item.name: item for item in dataclasses.fields(section) if item.name != "tables"}
        assert set(document[name]) == set(keys), name
        for key, item in keys.items():
            if (name, key) == ("policy", "rules"):
                # The file has the safe value, and says the default.
                assert document[name][key] == ["standard"]
                assert f"the default is {list(item.default)}".replace("'", '"') in sample
            elif (name, key) not in required:
                default = "" if item.default is None else item.default
                value = document[name][key]
                assert (tuple(value) if isinstance(value, list) else value) == (
                    str(default) if isinstance(default, Listen) else default
                ), f"{name}.{key}"
    path = tmp_path / "config.toml"
    path.write_text(sample)
    assert load(path, {}).media == MediaSettings()
