"""What travels between numbers and the rest of the daemon: wishes, candidates, problems. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from control.store.numbers import NumberRecord

NumberType = Literal["local", "toll_free", "mobile"]


@dataclass(frozen=True, slots=True)
class NumberWish:
    """What kind of number somebody wants. `country` is ISO 3166-1 alpha-2.

    `contains` is Twilio's pattern: 2 to 16 of digits, letters and `*` (any digit). `bundle_sid` (`BU…`)
    and `address_sid` (`AD…`) are what some countries ask for. `e164`: this very number and no other.
    """

    type: NumberType = "local"
    country: str = "US"
    area_code: str | None = None
    contains: str | None = None
    locality: str | None = None
    region: str | None = None
    bundle_sid: str | None = None
    address_sid: str | None = None
    e164: str | None = None
    sms: bool = False
    """It has to be able to send messages too; every number of ours takes calls."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A number that Twilio has to sell."""

    e164: str
    type: NumberType
    country: str
    region: str | None = None
    locality: str | None = None
    postal_code: str | None = None
    address_requirements: str = "none"
    """`none`, `any`, `local` or `foreign`: where the address has to be that the buyer must name."""
    is_beta: bool = False
    capabilities: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Nearby:
    """An area code that has numbers, not far from one that has none."""

    area_code: str
    region: str | None
    locality: str | None


@dataclass(frozen=True, slots=True)
class Missing:
    """Something without which Twilio does not sell. `field` is what to give it in, if it has a field."""

    field: str | None
    name: str
    detail: str


class NumberProblem(Exception):
    """It cannot be done. `str(problem)` tells a person what to do.

    `code` is one of `CODES`. `field` names the field of the wish that is at fault, `missing` what a
    country wants to see first, `nearby` area codes that have numbers when the asked one has none.
    `transient`: the same request may succeed later, and repeating it is safe.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        missing: Sequence[Missing] = (),
        nearby: Sequence[Nearby] = (),
        transient: bool = False,
        twilio_code: int | None = None,
        holder: str | None = None,
    ) -> None:
        super().__init__(message)
        assert code in CODES, code
        self.code = code
        self.message = message
        self.field = field
        self.missing = tuple(missing)
        self.nearby = tuple(place.area_code for place in nearby)
        self.places = tuple(nearby)
        self.transient = transient
        self.twilio_code = twilio_code
        self.holder = holder
        """The agent that has the number already."""

    def as_json(self) -> dict[str, Any]:
        """For a record or an answer."""
        told: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.field:
            told["field"] = self.field
        if self.missing:
            told["missing"] = [asdict(item) for item in self.missing]
        if self.places:
            told["nearby"] = [asdict(item) for item in self.places]
        if self.twilio_code:
            told["twilio_code"] = self.twilio_code
        return told


CODES = {
    "invalid": "a field of the wish is wrong",
    "not_sold": "Twilio sells no such numbers in this country",
    "none_available": "nothing matches now",
    "requirements_missing": "the country wants an address or a regulatory bundle",
    "in_use": "another agent has this number",
    "not_owned": "the account does not own this number",
    "taken": "somebody else bought every candidate first",
    "refused": "Twilio refused",
    "unreachable": "Twilio could not be asked, or its answer was lost",
    "not_found": "there is no such number here",
    "over": "what this intent bought was released since",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look at Twilio found. `mended` names the settings that were put back."""

    record: NumberRecord
    status: str
    """`in-use`, `released` (by us), `gone` (not ours any more), or what else Twilio says."""
    mended: tuple[str, ...] = ()
    was: Mapping[str, Any] = field(default_factory=dict)
    """What they were before, by name."""
    now: Mapping[str, Any] = field(default_factory=dict)
