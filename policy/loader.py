"""Reads what is packaged with the program: rule packs, the numbering plan, and the `tzdata` package.

The one module of `policy` that reads anything. The zones come from the package and never from the host, whose
files may be older than the law: `zoneinfo`'s own search would prefer the host's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import phonenumbers
import tzdata

from policy.law import Law
from policy.numbering import NumberingPlan
from policy.pack import RulePack
from policy.pack_reading import PackError, read_pack

ZONES_KEPT = 700
"""More than there are."""
PACKS = ("law_2026_11.toml",)


@lru_cache(maxsize=1)
def packaged() -> Law:
    """The law as shipped."""
    return packaged_and([])


def packaged_and(documents: Sequence[bytes]) -> Law:
    """The law as shipped with further packs beside it. Raises PackError."""
    shipped = [files("policy.packs").joinpath(name).read_bytes() for name in PACKS]
    return law_of([*shipped, *documents])


def law_of(documents: Sequence[bytes]) -> Law:
    """The law of these packs, TOML, with the packaged numbering plan and zones. Raises PackError."""
    packs: list[RulePack] = []
    for document in documents:
        pack = read_pack(document)
        if any(other.id == pack.id for other in packs):
            raise PackError(f"rule pack: two packs have the id {pack.id!r}")
        packs.append(pack)
    plan = NumberingPlan(files("policy.packs").joinpath("numbering.toml").read_bytes())
    try:
        return Law(tuple(packs), plan, packaged_zone, tzdata.IANA_VERSION, phonenumbers.__version__)
    except ValueError as error:
        raise PackError(str(error)) from error


@lru_cache(maxsize=ZONES_KEPT)
def packaged_zone(name: str) -> ZoneInfo | None:
    """A zone of the `tzdata` package; None when it has none of that name."""
    parts = name.split("/")
    if not all(
        part and part.replace("_", "").replace("-", "").replace("+", "").isalnum() for part in parts
    ):
        return None
    resource = files("tzdata.zoneinfo").joinpath(*parts)
    if not resource.is_file():
        return None
    with resource.open("rb") as file:
        try:
            return ZoneInfo.from_file(file, key=name)
        except ValueError:
            return None
