"""Where settings come from, and how a text or a TOML value becomes a typed one.

A section is a frozen dataclass; its fields are its keys. The order of precedence is: environment
(`TANDEM_<SECTION>_<KEY>`), configuration file, default. A secret may instead be named by `<key>_file`, the
path of a file that holds it; a secret from the environment, in either form, replaces both forms of the
configuration file.

All problems of a configuration are collected and told at once, each naming its key.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

ENVIRONMENT_PREFIX = "TANDEM_"
SECRET_FILE_MAX_BYTES = 64 * 1024

_T = TypeVar("_T")
_MISSING = dataclasses.MISSING
_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line a problem, each naming its key."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Secret:
    """A text that shows itself to `reveal()` alone."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def reading(
    convert: Callable[[Any], Any] | None = None,
    *,
    raw: Any = str,
    file_variant: bool = False,
    key: bool = True,
) -> dict[str, Any]:
    """Metadata of a section's field that is read in another way than its type says.

    `convert` takes the value read (of type `raw`) and returns the field's, or raises ValueError with what is
    wrong. `file_variant`: `<key>_file` may give it, too. `key=False`: the field is no key of the section.
    """
    return {"convert": convert, "raw": raw, "file_variant": file_variant, "key": key}


class Sources:
    """The configuration file and the environment, read section by section; `problems` grows meanwhile."""

    def __init__(self, document: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._document = document
        self._environ = environ

    def check_names(self, sections: Mapping[str, type[Any]], free: Iterable[str]) -> None:
        """Unknown sections and keys, in the file and in the environment. Tables of sections in `free`
        may have any name."""
        for name, body in self._document.items():
            if name not in sections:
                self.problems.append(f"[{name}]: unknown section{_nearest(name, sections)}")
            elif not isinstance(body, Mapping):
                self.problems.append(f"{name}: expected a section [{name}], got {_kind_of(body)}")
            else:
                known = _keys(sections[name])
                for key, value in body.items():
                    if key not in known and not (name in free and isinstance(value, Mapping)):
                        self.problems.append(f"{name}.{key}: unknown key{_nearest(key, known)}")
        for variable in sorted(self._environ):
            self._check_variable(variable, sections)

    def _check_variable(self, variable: str, sections: Mapping[str, type[Any]]) -> None:
        """A variable that belongs to no section is somebody else's; one of ours must name a key."""
        for name, section in sections.items():
            prefix = f"{ENVIRONMENT_PREFIX}{name.upper()}_"
            if not variable.startswith(prefix):
                continue
            known = {key.upper(): key for key in _keys(section)}
            if variable[len(prefix) :] not in known:
                names = [prefix + key for key in known]
                self.problems.append(
                    f"{variable}: unknown key of [{name}]{_nearest(variable, names)}"
                )

    def section(self, name: str, section: type[_T]) -> dict[str, Any]:
        """The typed values of one section; absent keys are left to the dataclass's defaults."""
        body = self._document.get(name, {})
        body = body if isinstance(body, Mapping) else {}
        values: dict[str, Any] = {}
        hints = get_type_hints(section)
        for item in dataclasses.fields(section):  # type: ignore[arg-type]
            if not item.metadata.get("key", True):
                continue
            value = self._value(name, item, item.metadata.get("raw", hints[item.name]), body)
            if value is not _MISSING:
                values[item.name] = value
        return values

    def _value(
        self, section: str, item: dataclasses.Field[Any], hint: Any, body: Mapping[str, Any]
    ) -> Any:
        key = f"{section}.{item.name}"
        variable = f"{ENVIRONMENT_PREFIX}{section}_{item.name}".upper()
        try:
            if item.metadata.get("file_variant"):
                value = self._secret(key, variable, item.name, body)
            else:
                value = self._plain(key, variable, item.name, hint, body)
        except ConfigError as error:
            self.problems.extend(error.problems)
            return (
                None  # the settings are never built; only stops the complaint about a missing key
            )
        if value is _MISSING:
            if item.default is _MISSING and item.default_factory is _MISSING:
                more = f", or {key}_file" if item.metadata.get("file_variant") else ""
                self.problems.append(f"{key}: missing; set it in [{section}]{more}, or {variable}")
            return _MISSING
        return self._converted(key, item, value)

    def _converted(self, key: str, item: dataclasses.Field[Any], value: Any) -> Any:
        convert = item.metadata.get("convert")
        if convert is None:
            return value
        try:
            return convert(value)
        except ValueError as error:
            self.problems.append(f"{key}: {error}")
            return None

    def _plain(self, key: str, variable: str, name: str, hint: Any, body: Mapping[str, Any]) -> Any:
        if variable in self._environ:
            return from_text(f"{variable} ({key})", hint, self._environ[variable])
        return from_toml(key, hint, body[name]) if name in body else _MISSING

    def _secret(self, key: str, variable: str, name: str, body: Mapping[str, Any]) -> Any:
        environment = (self._environ.get(variable), self._environ.get(f"{variable}_FILE"))
        if environment != (None, None):
            return _one_of(environment, variable, f"{variable}_FILE")
        written = tuple(
            from_toml(full, str, body[short]) if short in body else None
            for full, short in ((key, name), (f"{key}_file", f"{name}_file"))
        )
        return _one_of(written, key, f"{key}_file") if written != (None, None) else _MISSING


def _one_of(given: tuple[str | None, ...], name: str, file_name: str) -> str:
    """The secret that was given itself or as a file. Raises ConfigError for both, or for an empty one."""
    text, path = given
    if text is not None and path is not None:
        raise ConfigError(f"{name} and {file_name}: both are given, only one may be")
    if path is not None:
        text, name = _read_secret(file_name, path), file_name
    if not text or text != text.strip():
        raise ConfigError(f"{name}: the value is empty or has blanks around it")
    return text


def _read_secret(name: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(SECRET_FILE_MAX_BYTES + 1)
        if len(content) > SECRET_FILE_MAX_BYTES:
            raise ConfigError(f"{name}: {path} is larger than {SECRET_FILE_MAX_BYTES} bytes")
        return content.decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{name}: cannot read {path}: {why}") from error


def from_toml(key: str, hint: Any, value: Any) -> Any:
    """A value of the file as the hint says. Raises ConfigError naming the key and the type expected."""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if get_origin(hint) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{key}: expected {_kind(hint)}, got {_kind_of(value)}")


def from_text(name: str, hint: Any, text: str) -> Any:
    """The text of an environment variable as the hint says; a list is separated by commas."""
    try:
        if hint is bool:
            if text.lower() not in _TRUE | _FALSE:
                raise ValueError
            return text.lower() in _TRUE
        if get_origin(hint) is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return hint(text)
    except ValueError:
        raise ConfigError(f"{name}: expected {_kind(hint)}, got {text[:40]!r}") from None


def _keys(section: type[Any]) -> list[str]:
    keys = []
    for item in dataclasses.fields(section):
        if item.metadata.get("key", True):
            keys.append(item.name)
        if item.metadata.get("file_variant"):
            keys.append(f"{item.name}_file")
    return keys


def _kind(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "a list of strings"
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(hint, "a string")


def _kind_of(value: Any) -> str:
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")


def _nearest(name: str, known: Iterable[str]) -> str:
    """What was probably meant; with nothing near, all there is."""
    candidates = list(known)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(candidates)}"
