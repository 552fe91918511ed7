"""Routes as they are written down: conditions, targets, opening hours. Pure.

    {"when": {"days": ["sat", "sun"]}, "to": {"number": "+15550100123", "timeout_s": 20}}

All conditions of a `when` have to hold; one that is left out holds always, so a route without `when` always
matches. Times are wall-clock times in the zone of the number (else of the agent, else UTC). A window is
half-open: `from` belongs to it, `to` does not. A window whose `to` is not after its `from` ends on the next
day, and belongs to the day on which it began.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from control.routing.calendar import check_calendar
from control.telephone_number import TelephoneNumber

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
ROUTES_MAX = 50
DATES_MAX = 100
TEXT_MAX_CHARS = 1000
RING_DEFAULT_S = 25
RING_MAX_S = 120
RECORD_DEFAULT_S = 120
RECORD_MAX_S = 600
SIP_MAX_CHARS = 1024

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_YEARLY = re.compile(r"(\d\d)-(\d\d)")
_SIP = re.compile(r"sips?:[^\s@<>\"']{1,200}@[^\s@<>\"']{1,200}", re.ASCII)


def minute_of(text: str) -> int:
    """`HH:MM` as minutes since midnight; `24:00` is the end of the day. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError("a time of day is HH:MM, from 00:00 to 24:00")
    return int(text[:2]) * 60 + int(text[3:])


def _time(text: str) -> str:
    minute_of(text)
    return text


def _dates(text: str) -> str:
    DateSpan.parse(text)
    return text


def check_sip(uri: str) -> str:
    """A SIP address that may stand in a document for Twilio. Raises ValueError."""
    if not _SIP.fullmatch(uri):
        raise ValueError("a SIP address is sip:user@host, without spaces or quotes")
    return uri


def check_zone(name: str) -> str:
    """An IANA time zone. Raises ValueError."""
    if name not in _zones():
        raise ValueError("not an IANA time zone")
    return name


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


class DateSpan:
    """One entry of `dates`: a day, a day of every year, or a span of days (both included)."""

    __slots__ = ("first", "last", "yearly")

    def __init__(self, first: date, last: date, yearly: tuple[int, int] | None = None) -> None:
        self.first = first
        self.last = last
        self.yearly = yearly

    @classmethod
    def parse(cls, text: str) -> DateSpan:
        """`2026-12-24`, `12-24` or `2026-12-24/2026-12-31`. Raises ValueError."""
        if match := _YEARLY.fullmatch(text):
            month, day = int(match[1]), int(match[2])
            leap = date(2024, month, day)  # raises ValueError for a day that no year has
            return cls(leap, leap, (month, day))
        first, slash, last = text.partition("/")
        try:
            begin = date.fromisoformat(first)
            end = date.fromisoformat(last) if slash else begin
        except ValueError as error:
            raise ValueError(
                "a date is YYYY-MM-DD, MM-DD, or YYYY-MM-DD/YYYY-MM-DD with both days included"
            ) from error
        if end < begin:
            raise ValueError("the span of dates ends before it begins")
        return cls(begin, end)

    def holds(self, day: date) -> bool:
        """Whether `day` is one of them."""
        if self.yearly is not None:
            return (day.month, day.day) == self.yearly
        return self.first <= day <= self.last


class _Part(BaseModel):
    """Base: nothing is coerced, nothing unknown is accepted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


Time = Annotated[str, AfterValidator(_time)]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_MAX_CHARS)]


class When(_Part):
    """Conditions of a route; all have to hold."""

    days: list[Day] | None = Field(None, min_length=1, description="Weekdays.")
    from_: Time | None = Field(None, alias="from", description="HH:MM; the start of the day.")
    to: Time | None = Field(None, description="HH:MM, not included; the end of the day.")
    dates: list[Annotated[str, AfterValidator(_dates)]] | None = Field(
        None,
        min_length=1,
        max_length=DATES_MAX,
        description="`2026-12-24`, `12-24` of every year, or `2026-12-24/2027-01-02`.",
    )
    holidays: bool | None = Field(
        None, description="true: on public holidays alone; false: never on one."
    )
    open: bool | None = Field(
        None, description="true: within the opening hours (`hours`); false: outside of them."
    )

    @model_validator(mode="after")
    def _not_empty(self) -> When:
        if self.from_ is not None and self.from_ == "24:00":
            raise ValueError("from: a window cannot begin at 24:00")
        if self.to is not None and (self.from_ or "00:00") == self.to:
            raise ValueError("to: a window that ends where it begins is empty; leave both out")
        return self

    @property
    def window(self) -> tuple[int, int]:
        """First minute and end (not included) since the midnight of its day; the end may be past 24:00."""
        begin = minute_of(self.from_) if self.from_ else 0
        end = minute_of(self.to) if self.to else DAY_MINUTES
        return begin, end if end > begin else end + DAY_MINUTES


class Calendar(_Part):
    """Whose public holidays count."""

    country: str = Field(min_length=2, max_length=2, description="ISO 3166-1 alpha-2.")
    region: str | None = Field(None, max_length=10, description="A subdivision, such as `CA`.")

    @model_validator(mode="after")
    def _known(self) -> Calendar:
        check_calendar(self.country, self.region)
        return self


class Voicemail(_Part):
    """What is recorded after the message."""

    max_s: int = Field(RECORD_DEFAULT_S, ge=1, le=RECORD_MAX_S)


class Target(_Part):
    """Where a call goes: exactly one of `agent_id`, `number`, `client`, `sip`, `message`, `refusal`, `reject`."""

    agent_id: str | None = Field(None, min_length=1, max_length=64)
    number: TelephoneNumber | None = Field(None, description="A person's telephone number.")
    client: str | None = Field(None, pattern=r"^[A-Za-z0-9_.\-]{1,121}$")
    sip: Annotated[str, AfterValidator(check_sip)] | None = None
    message: Text | None = Field(None, description="Said, as on an answering machine.")
    refusal: Text | None = Field(None, description="Said politely; then the call ends.")
    reject: Literal["busy", "rejected"] | None = Field(
        None, description="Not answered, and not paid for."
    )
    timeout_s: int = Field(RING_DEFAULT_S, ge=5, le=RING_MAX_S, description="How long it rings.")
    announce: Text | None = Field(None, description="Said before a person is dialled.")
    otherwise: Text = Field(
        "agent",
        description="When the person does not answer: the `agent` takes the call, `hangup`, or a text "
        "that is said before the end.",
    )
    record: Voicemail | None = Field(None, description="With `message`: record what is said.")

    @model_validator(mode="after")
    def _one_target(self) -> Target:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        if self.record is not None and self.message is None:
            raise ValueError("record: only with a message")
        return self

    @property
    def kind(self) -> str:
        """Which of the targets it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def is_person(self) -> bool:
        """Whether somebody is dialled."""
        return self.kind in ("number", "client", "sip")


KINDS = ("agent_id", "number", "client", "sip", "message", "refusal", "reject")


class Route(_Part):
    """One line of the list."""

    when: When = Field(default_factory=lambda: When.model_validate({}))
    to: Target
    name: str | None = Field(None, min_length=1, max_length=100, description="For the record.")


Routes = Annotated[list[Route], Field(max_length=ROUTES_MAX)]


def _as_list(spans: Any) -> list[Any]:
    """One span may stand without a list; nothing, and `closed`, are none."""
    if spans is None or (isinstance(spans, str) and spans.strip().lower() in ("", "closed")):
        return []
    return list(spans) if isinstance(spans, list | tuple) else [spans]


def _day(name: str) -> str:
    if name.lower()[:3] not in DAYS:
        raise ValueError(f"not a day: {', '.join(DAYS)}")
    return name


def _checked_span(given: Any) -> Any:
    if _span(given) is None:
        raise ValueError("not a span such as 09:00-17:00, nor a pair of times")
    return given


Spans = Annotated[list[Annotated[Any, AfterValidator(_checked_span)]], BeforeValidator(_as_list)]
Hours = Annotated[
    dict[Annotated[str, AfterValidator(_day)], Spans],
    Field(
        description='Opening hours by day, `{"mon": ["09:00-12:30", "14:00-18:00"]}`. A day that is left '
        "out is closed, as is one with an empty list; without any day nothing is known of them."
    ),
]
"""Opening hours of a request: an error names the day and the entry. Kept as given, but for the list."""


def parse_hours(hours: Any) -> dict[str, list[tuple[int, int]]] | None:
    """Opening hours by day, `{"mon": ["09:00-12:30", "14:00-18:00"]}`, as minutes; None when not such.

    A day that is left out is closed. What was stored before requests were checked may be unreadable: a text for
    the agent's prompt, or a day with an entry that is no span, and then it is open: a slip of the pen must not
    close a business.
    """
    if not isinstance(hours, Mapping):
        return None
    found: dict[str, list[tuple[int, int]]] = {}
    for day, given in hours.items():
        name = str(day).lower()[:3]
        if name not in DAYS:
            continue
        spans = [_span(one) for one in _as_list(given)]
        read = [span for span in spans if span is not None]
        found[name] = read if len(read) == len(spans) else [(0, DAY_MINUTES)]
    return found or None


def _span(given: Any) -> tuple[int, int] | None:
    if isinstance(given, list | tuple) and len(given) == 2:
        given = f"{given[0]}-{given[1]}"
    first, dash, last = str(given).replace(" ", "").partition("-")
    try:
        begin, end = _hour_minute(first), _hour_minute(last) if dash else -1
    except ValueError:
        return None
    if end < 0 or begin in (end, DAY_MINUTES):
        return None
    return begin, end if end > begin else end + DAY_MINUTES


def _hour_minute(text: str) -> int:
    return minute_of(text if text[1:2] != ":" else f"0{text}")
