"""Does somebody ask to be left alone? A deterministic matcher over what was said or written.

Strict on purpose: a request that is missed costs the tenant hundreds of dollars a call, one too many costs a look.
So a request is a request whatever it is about ("stop calling me at work"), whoever is quoted ("my wife said stop
calling us"), and also when it was cut in two by the transcription: callers hand in the turn before as well.
Source of the words: 47 CFR 64.1200(a)(10) and its "any reasonable means".
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

Kind = Literal["revoke", "wrong_number", "hold"]
_ORDER: tuple[Kind, ...] = ("revoke", "wrong_number", "hold")
# Every apostrophe that transcriptions and telephones write.
_QUOTE = "['`\u2018\u2019\u00b4\u02bc]"
_CONTRACTION = re.compile(rf"(?<=n){_QUOTE}(?=t\b)|(?<=i){_QUOTE}(?=(?:m|ll|d|ve)\b)")
TEXT_MAX_CHARS = 2000
"""Looked at, from the end: a request is short, and a turn may be as long as a caller likes."""


@dataclass(frozen=True, slots=True)
class Match:
    """What was found. `pattern` is its name in the data, `words` what it matched, normalised."""

    kind: Kind
    language: str
    pattern: str
    words: str
    version: int


@dataclass(frozen=True, slots=True)
class _Language:
    name: str
    keywords: frozenset[str]
    none: tuple[re.Pattern[str], ...]
    patterns: dict[Kind, tuple[re.Pattern[str], ...]]


def find(text: str) -> Match | None:
    """The gravest request in the text; None when there is none."""
    said = normalised(text[-TEXT_MAX_CHARS:])
    if not said:
        return None
    version, languages, anything = _data()
    for language in languages:
        if said in language.keywords:
            return Match("revoke", language.name, "keyword", said, version)
    if anything.search(said) is None:
        return None
    for kind in _ORDER:
        for language in languages:
            rest = said
            for pattern in language.none:
                rest = pattern.sub(" ", rest)
            for number, pattern in enumerate(language.patterns[kind]):
                if (found := pattern.search(rest)) is not None:
                    name = f"{language.name}.{kind}[{number}]"
                    return Match(kind, language.name, name, found.group(), version)
    return None


def normalised(text: str) -> str:
    """Lower case, without accents and punctuation, single spaces; `don't` is `dont`."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    plain = _CONTRACTION.sub("", plain)
    return " ".join(re.sub(r"[^\w]+|_", " ", plain).split())


@lru_cache(maxsize=1)
def _data() -> tuple[int, tuple[_Language, ...], re.Pattern[str]]:
    """The data's version, its languages, and all of their patterns (also `none`) in one.

    Nearly everything that is said contains none of them. To look for them one after the other takes 80 µs, with
    a thousand calls on a core a tenth of the control process's time; all at once takes 11.
    """
    document = tomllib.loads(
        files("control.compliance").joinpath("phrases.toml").read_text("utf-8")
    )
    version: int = document.pop("version")
    languages = tuple(
        _Language(
            name,
            frozenset(table["keywords"]),
            _compiled(table["none"]),
            {kind: _compiled(table[kind]) for kind in _ORDER},
        )
        for name, table in document.items()
    )
    every = [p for table in document.values() for key in ("none", *_ORDER) for p in table[key]]
    return version, languages, re.compile(rf"\b(?:{'|'.join(f'(?:{p})' for p in every)})")


def _compiled(patterns: list[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(rf"\b(?:{pattern})") for pattern in patterns)
