"""`config.toml` and the environment into one frozen `Settings`, or a message that names the wrong key.

Each section is a dataclass whose fields are the section's keys; `[media]` is
`gateway.settings.MediaSettings`. Where values come from is in `control.config_sources`, what ranges they may
have in `control.config_checks`.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from control import verticals
from control.config_checks import (
    Listen,
    account_sid,
    host_label,
    media_origin,
    not_negative,
    one_of,
    origin,
    origin_or_none,
    percent,
    positive,
    problems_of,
    store_url,
    store_url_masked,
    websocket_origin,
)
from control.config_sources import ConfigError, Secret, Sources, reading
from control.retention import periods
from control.vault import KEY_HINT, parse_keys
from gateway.settings import MediaSettings
from policy import expanded

__all__ = ["ConfigError", "Listen", "Secret", "Settings", "load", "masked", "warnings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSettings:
    """`[public]`: the port for the providers' webhooks and for media streams."""

    listen: Listen = field(default=Listen("0.0.0.0", 8443), metadata=reading(Listen.parse))
    url: str = field(metadata=reading(origin))
    media_url: str = field(default="", metadata=reading(media_origin))
    """`wss://…`, or `ws://…` when `url` is plain http: what `/media/{ticket}` is appended to. From `url` unless
    it is given: with several machines it is what leads to this one alone."""

    def __post_init__(self) -> None:
        if not self.media_url:
            object.__setattr__(self, "media_url", websocket_origin(self.url))


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """`[control]`: the operators' port."""

    listen: Listen = field(default=Listen("127.0.0.1", 8080), metadata=reading(Listen.parse))
    admin_key: Secret = field(metadata=reading(Secret, file_variant=True))
    verticals_dir: str = ""
    """A folder of more verticals; empty = only the built-in ones."""
    tenant_requests_per_s: float = field(default=20.0, metadata=reading(positive, raw=float))
    """Requests a second that the API answers for one tenant."""
    tenant_calls_max: int = field(default=0, metadata=reading(not_negative, raw=int))
    """Calls that one tenant may have at once; 0 = as many as there is room for."""
    tenant_calls_per_minute: int = field(default=0, metadata=reading(not_negative, raw=int))
    """Calls of one tenant that may begin in a minute, both ways; 0 = as many as come."""
    webhook_allow_private: bool = False
    """Whether results may be pushed over plain http and to private or loopback addresses, and an agent's
    `business_url` may be one."""
    webhook_retry_s: float = field(default=5.0, metadata=reading(positive, raw=float))
    """The first wait after a push that failed; each one after it is twice as long, for a day in all."""
    health_interval_s: float = field(default=300.0, metadata=reading(positive, raw=float))
    """How often each agent's number and ElevenLabs agent are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioSettings:
    """`[twilio]`."""

    account_sid: str = field(metadata=reading(account_sid, file_variant=True))
    auth_token: Secret = field(metadata=reading(Secret, file_variant=True))
    auth_token_secondary: Secret | None = field(
        default=None, metadata=reading(Secret, file_variant=True)
    )
    """Webhooks signed with it are accepted too: for the time of a rotation at Twilio."""
    api_base_url: str = field(default="https://api.twilio.com", metadata=reading(origin))
    edge: str = field(default="", metadata=reading(host_label))
    region: str = field(default="", metadata=reading(host_label))
    cps: float = field(default=1.0, metadata=reading(positive, raw=float))
    """Calls a second that the account may create."""
    message_settle_s: float = field(default=120.0, metadata=reading(positive, raw=float))
    """How long after a message whose answer was lost Twilio's list is believed not to have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElevenLabsSettings:
    """`[elevenlabs]`."""

    api_key: Secret = field(metadata=reading(Secret, file_variant=True))
    base_url: str = field(default="https://api.elevenlabs.io", metadata=reading(origin))
    webhook_secret: Secret | None = field(default=None, metadata=reading(Secret, file_variant=True))
    concurrency: int = field(default=0, metadata=reading(not_negative, raw=int))
    """Conversations that the workspace may have at once, of all daemons that share the store; 0 = not known."""
    inbound_reserve_percent: int = field(default=20, metadata=reading(percent, raw=int))
    """The part of `concurrency` that calls of ours leave to callers."""
    llm: str = "gemini-2.5-flash"
    tts_model: str = "eleven_flash_v2_5"
    voice_id: str = ""
    """Of the agents that the gateway makes, unless their vertical or request says otherwise."""

    @property
    def websocket_url(self) -> str:
        """`wss://…` with the host of `base_url`; a signed URL names its own."""
        return websocket_origin(self.base_url)


def _header_list(text: str) -> Secret:
    for item in text.split(","):
        name, equals, value = item.partition("=")
        if not re.fullmatch("[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()) or not equals:
            raise ValueError("expected name=value, several with commas between")
        if not unquote(value).isprintable():
            raise ValueError("a value has characters that no header may have")
    return Secret(text)


def _encryption_keys(text: str) -> Secret:
    return Secret(",".join(parse_keys(text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """`[store]`. The URL may hold a password, so it is not shown by `repr`."""

    url: str = field(default="sqlite:///tandem.db", repr=False, metadata=reading(store_url))
    encryption_key: Secret | None = field(
        default=None, metadata=reading(_encryption_keys, file_variant=True)
    )
    """One or more keys of `control.vault`; the first one seals."""


def _days(name: str) -> Any:
    """A field of `[retention]`."""
    return field(default=0, metadata=reading(lambda days: periods.check(name, days), raw=int))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """`[retention]`: days after the end of a call; 0 = kept. A tenant's own go before."""

    transcripts_days: int = _days("transcripts_days")
    recordings_days: int = _days("recordings_days")
    numbers_days: int = _days("numbers_days")

    @property
    def of_all(self) -> periods.Periods:
        return periods.Periods(self.transcripts_days, self.recordings_days, self.numbers_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """`[policy]`: names of rules in their order, and `[policy.<rule>]` as `tables[rule]`."""

    rules: tuple[str, ...] = ("base",)
    packs: tuple[str, ...] = ()
    """Files with rule packs of one's own, beside the packaged one; of those in force the one that began last counts."""
    lists_dir: str = "lists"
    """Where do-not-call files are kept. Several machines: the same folder, or a copy on each."""
    trust_clock: bool = True
    """False: what the kernel says of the clock decides; true: somebody else keeps it right."""
    reassigned: str = ""
    """`module:object` of a plug-in that asks the reassigned-numbers database; without it answers are imported."""
    tables: dict[str, dict[str, Any]] = field(default_factory=dict, metadata=reading(key=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`[log]`."""

    level: str = field(
        default="info", metadata=reading(one_of("debug", "info", "warning", "error"))
    )
    format: str = field(default="json", metadata=reading(one_of("json", "text")))


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """`[telemetry]`: where traces of calls that are over are sent."""

    otlp_endpoint: str = field(default="", metadata=reading(origin_or_none))
    otlp_headers: Secret | None = field(
        default=None, metadata=reading(_header_list, file_variant=True)
    )
    """`name=value` with commas between, as OpenTelemetry's own variable has it."""

    def headers(self) -> dict[str, str]:
        text = self.otlp_headers.reveal() if self.otlp_headers else ""
        pairs = (item.partition("=") for item in text.split(",") if item)
        return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. Built by `load`."""

    public: PublicSettings
    control: ControlSettings
    twilio: TwilioSettings
    elevenlabs: ElevenLabsSettings
    media: MediaSettings = field(default_factory=MediaSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    log: LogSettings = field(default_factory=LogSettings)

    def secrets(self) -> tuple[str, ...]:
        """Every secret text, for the log to hide."""
        found = [
            value.reveal()
            for section in dataclasses.fields(self)
            for value in _values(getattr(self, section.name)).values()
            if isinstance(value, Secret)
        ]
        found.append(store_url_masked(self.store.url)[1])
        for table in self.policy.tables.values():
            found += [value for key, value in table.items() if _is_plugin_secret(key, value)]
        return tuple(text for text in found if text)


ESSENTIAL = {
    "calling hours": frozenset({"time_fed", "time_st", "time_cc"}),
    "consent": frozenset({"con_none", "con_written"}),
}
"""What a dialler of people may not go without; one of the rules has to be in force."""
SECTIONS: dict[str, type[Any]] = {
    "public": PublicSettings,
    "control": ControlSettings,
    "twilio": TwilioSettings,
    "elevenlabs": ElevenLabsSettings,
    "media": MediaSettings,
    "store": StoreSettings,
    "retention": RetentionSettings,
    "policy": PolicySettings,
    "telemetry": TelemetrySettings,
    "log": LogSettings,
}


def load(path: str | Path, environ: Mapping[str, str]) -> Settings:
    """Read, check and build. Raises ConfigError with one line a problem."""
    document = _read(Path(path))
    sources = Sources(document, environ)
    sources.check_names(SECTIONS, free=("policy",))
    values = {name: sources.section(name, section) for name, section in SECTIONS.items()}
    policy = document.get("policy", {})
    if isinstance(policy, dict):
        values["policy"]["tables"] = {
            name: table for name, table in policy.items() if isinstance(table, dict)
        }
    if sources.problems:
        raise ConfigError(*sources.problems)
    settings = Settings(**{name: SECTIONS[name](**values[name]) for name in SECTIONS})
    found = problems_of(settings.media)
    try:
        verticals.load(settings.control.verticals_dir)
    except verticals.VerticalProblem as problem:
        found.append(f"control.verticals_dir: {problem}")
    if settings.store.encryption_key is None and not settings.store.url.startswith("sqlite"):
        found.append(f"store.encryption_key: is needed with {_scheme(settings)}: {KEY_HINT}")
    if settings.public.listen.clashes_with(settings.control.listen):
        found.append("control.listen: is the same address and port as public.listen")
    if found:
        raise ConfigError(*found)
    return settings


def _scheme(settings: Settings) -> str:
    return settings.store.url.partition(":")[0]


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file (name it with --config)") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def masked(settings: Settings) -> str:
    """The configuration in force as TOML, defaults written out, secrets as `"***"`."""
    lines: list[str] = []
    for section in dataclasses.fields(settings):
        lines.append(f"[{section.name}]")
        for key, value in _values(getattr(settings, section.name)).items():
            if key != "tables":
                lines.append(f"{key} = {_toml(_shown(f'{section.name}.{key}', value))}")
        lines.append("")
    for rule, table in settings.policy.tables.items():
        lines.append(f"[policy.{_toml_key(rule)}]")
        for key, value in table.items():
            shown = "***" if _is_plugin_secret(key, value) else value
            lines.append(f"{_toml_key(key)} = {_toml(shown)}")
        lines.append("")
    return "\n".join(lines)


def _shown(key: str, value: Any) -> Any:
    if key == "twilio.account_sid":
        return f"{value[:2]}***{value[-4:]}"
    if key == "store.url":
        return store_url_masked(value)[0]
    return "" if value is None else value


def _is_plugin_secret(key: str, value: object) -> bool:
    """A plug-in's settings are not typed by us; the name of the key has to tell."""
    return isinstance(value, str) and re.search("key|token|secret|password", key, re.I) is not None


def warnings(settings: Settings) -> list[str]:
    """What works but is probably not meant; each line names its key."""
    found = []
    if not settings.control.listen.is_loopback:
        found.append(
            f"control.listen: {settings.control.listen} is not a loopback address: "
            "everybody who reaches it needs only the admin key"
        )
    if settings.public.url.startswith("http://"):
        found.append("public.url: is plain http: Twilio opens media streams over wss only")
    if any(text.startswith("change-me") for text in settings.secrets()):
        found.append("a secret still begins with change-me, as in the sample configuration")
    if len(settings.control.admin_key.reveal()) < 16:
        found.append("control.admin_key: is shorter than 16 characters")
    found += _policy_warnings(settings.policy)
    return found


def _policy_warnings(policy: PolicySettings) -> list[str]:
    """What the rules in force never ask."""
    if not policy.rules:
        return ["policy.rules: is empty: every call is allowed"]
    named = set(expanded(policy.rules))
    unasked = [what for what, rules in ESSENTIAL.items() if not rules & named]
    if not unasked:
        return []
    return [
        f"policy.rules: nothing asks for {' or '.join(unasked)}: enough for a trial, "
        'not for calls to people (rules = ["standard"])'
    ]


def _values(section: Any) -> dict[str, Any]:
    return {item.name: getattr(section, item.name) for item in dataclasses.fields(section)}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_toml_key(key)} = {_toml(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, str | Secret | Listen):
        return _toml_string(str(value))
    return str(value)  # the dates of TOML are written as they print


def _toml_key(key: str) -> str:
    bare = key and all(char.isascii() and (char.isalnum() or char in "-_") for char in key)
    return key if bare else _toml_string(key)


def _toml_string(text: str) -> str:
    escaped = "".join(
        f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08x}"
        for char in text
    )
    return f'"{escaped}"'
