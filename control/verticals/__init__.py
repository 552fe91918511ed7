"""Lines of business as data: one TOML file each, with prompt, first words, extractions and voice.

`generic.toml` and its neighbours come with the program; a folder of the user's (`control.verticals_dir`)
adds more, and a file there with the name of a built-in one replaces it. The file's name is the vertical's.

In `prompt` and `first_message`, `{business}`, `{hours}` and `{language}` are filled in when the agent is
made; `{{location}}`, `{{timezone}}` and every other name in double braces is a dynamic variable of the
conversation, so one agent can serve numbers of several places.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from control import extractions

DEFAULT = "generic"
FILES_MAX = 200
FILE_MAX_BYTES = 256 * 1024
PLACEHOLDERS = frozenset(("business", "hours", "language"))
_FOLDER = Path(__file__).parent
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_PLACEHOLDER = re.compile(r"(?<!\{)\{([^{}]*)\}(?!\})")


class VerticalProblem(Exception):
    """A file cannot be used; the text names the file and the key."""


class Voice(BaseModel):
    """Hints; what is absent is left to the configuration and to ElevenLabs. Ranges are the service's."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    voice_id: str | None = Field(default=None, min_length=1, max_length=100)
    stability: float | None = Field(default=None, ge=0, le=1)
    similarity_boost: float | None = Field(default=None, ge=0, le=1)
    speed: float | None = Field(default=None, ge=0.7, le=1.2)


class Vertical(BaseModel):
    """One line of business."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    title: str = Field(min_length=1, max_length=200)
    prompt: str = Field(min_length=1, max_length=50_000)
    first_message: str = Field(max_length=2_000)
    language: str = Field(default="en", pattern=r"^[a-z]{2}(-[a-z]{2})?$")
    llm: str | None = Field(default=None, min_length=1, max_length=100)
    voice: Voice = Voice()
    extractions: list[dict[str, Any]] = []

    @field_validator("prompt", "first_message")
    @classmethod
    def _placeholders_known(cls, text: str) -> str:
        unknown = sorted(set(_PLACEHOLDER.findall(text)) - PLACEHOLDERS)
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in sorted(PLACEHOLDERS))
            raise ValueError(
                f"{{{unknown[0]}}} is no placeholder: there are {known}; a dynamic variable is in "
                "double braces"
            )
        return text


def load(folder: str | Path | None = None) -> dict[str, Vertical]:
    """The built-in verticals and those of `folder`, by name. Raises VerticalProblem."""
    found = _read_folder(_FOLDER)
    if folder:
        path = Path(folder)
        if not path.is_dir():
            raise VerticalProblem(f"{path}: no such folder")
        found |= _read_folder(path)
    return dict(sorted(found.items()))


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its placeholders replaced; dynamic variables stay."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def _read_folder(folder: Path) -> dict[str, Vertical]:
    files = sorted(folder.glob("*.toml"))
    if len(files) > FILES_MAX:
        raise VerticalProblem(f"{folder}: more than {FILES_MAX} files")
    return {path.stem: _read(path) for path in files}


def _read(path: Path) -> Vertical:
    if not _NAME.fullmatch(path.stem):
        raise VerticalProblem(f"{path}: a name has lower case letters, digits, _ and -")
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise VerticalProblem(f"{path}: larger than {FILE_MAX_BYTES} bytes")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise VerticalProblem(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise VerticalProblem(f"{path}: not TOML: {error}") from error
    if "name" in document:
        raise VerticalProblem(f"{path}: name: unknown key (the file's name is the vertical's)")
    try:
        extractions.parse(document.get("extractions"))
        return Vertical.model_validate({**document, "name": path.stem})
    except extractions.ExtractionProblem as problem:
        raise VerticalProblem(f"{path}: {problem.field}: {problem}") from problem
    except ValidationError as error:
        one = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, one["loc"]))
        words = "unknown key" if one["type"] == "extra_forbidden" else one["msg"]
        raise VerticalProblem(f"{path}: {key}: {words}") from error
