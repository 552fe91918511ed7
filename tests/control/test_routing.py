"""Which route takes a call: against a slow oracle that writes every minute of a window down."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from dateutil import tz
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from control.routing.calendar import holiday
from control.routing.decide import Setting, decide, is_open
from control.routing.model import DAYS, Calendar, Route, Target, When, parse_hours

NEW_YORK = ZoneInfo("America/New_York")
ZONES = ("America/New_York", "Europe/London", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC")
PERSON = {"number": "+15550100123"}


def route(target=PERSON, **when) -> Route:
    return Route.model_validate({"when": when, "to": target})


def index_at(routes, text, **setting):
    at = datetime.fromisoformat(text)
    return decide(routes, at, Setting(setting.pop("zone", UTC), **setting)).index


# ---- the oracle ----------------------------------------------------------------------------------


def clock_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def oracle(conditions, at: datetime, zone_name: str) -> bool:
    """Every (day, minute) that the window covers, for the days around; the clock comes from dateutil."""
    local = at.astimezone(tz.gettz(zone_name))
    covered = set()
    for offset in (-2, -1, 0, 1):
        day = local.date() + timedelta(days=offset)
        if conditions["days"] is not None and DAYS[day.weekday()] not in conditions["days"]:
            continue
        if conditions["dates"] is not None and day not in conditions["dates"]:
            continue
        begin, end = conditions["begin"], conditions["end"]
        minutes = (
            range(begin, end) if end > begin else [*range(begin, 1440), *range(1440, 1440 + end)]
        )
        for minute in minutes:
            covered.add((day + timedelta(days=minute // 1440), minute % 1440))
    return (local.date(), local.hour * 60 + local.minute) in covered


NEAR_CHANGES = st.builds(
    lambda base, minutes: base + timedelta(minutes=minutes),
    st.sampled_from(
        [
            datetime(2026, 3, 8, 7, 0, tzinfo=UTC),  # New York springs forward
            datetime(2026, 11, 1, 6, 0, tzinfo=UTC),  # and falls back
            datetime(2026, 3, 29, 1, 0, tzinfo=UTC),  # London
            datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
            datetime(2026, 4, 4, 15, 0, tzinfo=UTC),  # Lord Howe: half an hour
            datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
        ]
    ),
    st.integers(-3000, 3000),
)


@given(
    at=NEAR_CHANGES,
    zone=st.sampled_from(ZONES),
    window=st.tuples(st.integers(0, 1439), st.integers(0, 1440)).filter(lambda w: w[0] != w[1]),
    days=st.none() | st.sets(st.sampled_from(DAYS), min_size=1),
    dates=st.none()
    | st.sets(st.dates(date(2026, 3, 6), date(2026, 3, 10)), min_size=1, max_size=3),
)
@example(
    at=datetime(2026, 3, 8, 7, 30, tzinfo=UTC),
    zone=ZONES[0],
    window=(120, 180),
    days=None,
    dates=None,
)
def test_window_holds_exactly_where_the_oracle_says(at, zone, window, days, dates):
    """Days, dates, windows past midnight and clock changes, minute by minute."""
    begin, end = window
    when = {"from": clock_text(begin), "to": clock_text(end)}
    if days is not None:
        when["days"] = sorted(days)
    if dates is not None:
        when["dates"] = sorted(day.isoformat() for day in dates)
    expected = oracle({"begin": begin, "end": end, "days": days, "dates": dates}, at, zone)
    chosen = decide([route(**when)], at, Setting(ZoneInfo(zone)))
    assert (chosen.index == 0) == expected


@given(at=NEAR_CHANGES, zone=st.sampled_from(ZONES), cut=st.integers(1, 1439))
def test_two_windows_that_share_a_bound_cover_the_day_once(at, zone, cut):
    """Half-open: at every instant exactly one of [00:00, cut) and [cut, 24:00) holds."""
    bound = clock_text(cut)
    early, late = route(to=bound), route(**{"from": bound})
    setting = Setting(ZoneInfo(zone))
    held = [decide([one], at, setting).index == 0 for one in (early, late)]
    assert sum(held) == 1


@given(at=NEAR_CHANGES, zone=st.sampled_from(ZONES))
def test_opening_hours_and_their_contrary_divide_every_instant(at, zone):
    """`open: true` and `open: false` never both hold, and one of them always does."""
    hours = parse_hours({"mon": ["09:00-12:30", "14:00-18:00"], "sat": "20:00-02:00"})
    setting = Setting(ZoneInfo(zone), hours=hours)
    held = [decide([route(open=value)], at, setting).index == 0 for value in (True, False)]
    assert sum(held) == 1


# ---- single cases --------------------------------------------------------------------------------


def test_first_match_wins_and_the_reason_names_it():
    """Order decides; the reason says which route and why."""
    routes = [
        route(days=["sun"]),
        route({"message": "Closed."}, **{"from": "17:00", "to": "09:00"}),
        route(),
    ]
    chosen = decide(routes, datetime(2026, 11, 25, 3, 0, tzinfo=UTC), Setting(UTC))
    assert (chosen.index, chosen.reason) == (1, "route 2: 17:00-09:00")
    assert decide([], datetime(2026, 11, 25, tzinfo=UTC), Setting(UTC)).reason == "no routes"


def test_night_belongs_to_the_day_on_which_it_began():
    """Friday night goes on until Saturday morning, and Saturday's own night is another one."""
    friday_night = [route(days=["fri"], **{"from": "22:00", "to": "06:00"})]
    assert index_at(friday_night, "2026-11-28T05:59:59+00:00") == 0  # Saturday morning
    assert index_at(friday_night, "2026-11-28T06:00:00+00:00") is None
    assert index_at(friday_night, "2026-11-28T23:00:00+00:00") is None
    assert index_at(friday_night, "2026-11-27T05:00:00+00:00") is None


def test_holiday_is_that_of_the_zone_not_of_utc():
    """Thanksgiving 2026 is over in New York five hours after it is over in UTC."""
    holidays = [route(holidays=True)]
    setting = {"zone": NEW_YORK, "calendar": Calendar(country="US")}
    assert index_at(holidays, "2026-11-27T04:59:00+00:00", **setting) == 0
    assert index_at(holidays, "2026-11-27T05:00:00+00:00", **setting) is None
    assert index_at(holidays, "2026-11-26T04:59:00+00:00", **setting) is None
    assert index_at([route(holidays=False)], "2026-11-26T17:00:00+00:00", **setting) is None


def test_holiday_of_a_region_counts_there_alone():
    """Epiphany is a holiday in Bavaria and none in Berlin."""
    day = date(2026, 1, 6)
    assert holiday(day, "DE", "BY")
    assert holiday(day, "DE", "BE") is None
    assert holiday(day, "XX", None) is None


def test_without_a_calendar_no_day_is_a_holiday():
    """Nobody said whose holidays count: `holidays: true` never holds, `false` always."""
    assert index_at([route(holidays=True)], "2026-12-25T12:00:00+00:00") is None
    assert index_at([route(holidays=False)], "2026-12-25T12:00:00+00:00") == 0


def test_yearly_date_and_span_include_their_days():
    """`12-24` is every Christmas Eve; both ends of a span are in it."""
    assert index_at([route(dates=["12-24"])], "2031-12-24T00:00:00+00:00") == 0
    span = [route(dates=["2026-12-24/2027-01-02"])]
    assert index_at(span, "2027-01-02T23:59:00+00:00") == 0
    assert index_at(span, "2027-01-03T00:00:00+00:00") is None


def test_unknown_hours_are_open():
    """A text in `hours` is for the prompt; routes cannot close a business by it."""
    assert parse_hours("weekdays nine to five") is None
    assert is_open(datetime(2026, 11, 25, 3, 0), None)
    assert parse_hours({"Monday": ["9-5"], "tue": [["09:00", "17:00"]]}) == {
        "mon": [(0, 1440)],
        "tue": [(540, 1020)],
    }


def test_hours_without_a_leading_zero_are_hours():
    """And a day that is left out is closed once others are given."""
    hours = parse_hours({"mon": ["9:00-17:00", "18:00 - 2:00"], "wed": "closed"})
    assert hours == {"mon": [(540, 1020), (1080, 1560)], "wed": []}
    assert is_open(datetime(2026, 11, 23, 10, 0), hours)
    assert not is_open(datetime(2026, 11, 26, 10, 0), hours)
    assert parse_hours({}) is None


def test_instant_without_a_zone_is_refused():
    """A naive time has no wall clock anywhere else."""
    with pytest.raises(ValueError, match="time zone"):
        decide([route()], datetime(2026, 1, 1), Setting(UTC))


@pytest.mark.parametrize(
    ("given_route", "field"),
    [
        ({"to": {}}, "exactly one"),
        ({"to": {"number": "+15550100123", "sip": "sip:a@b"}}, "exactly one"),
        ({"to": {"number": "5550100123"}}, "number"),
        ({"to": {"sip": "sip:a b@c"}}, "sip"),
        ({"to": {"sip": 'sip:a@b"><Dial>'}}, "sip"),
        ({"to": {"refusal": "No.", "record": {}}}, "record"),
        ({"when": {"from": "9:00"}, "to": PERSON}, "from"),
        ({"when": {"from": "09:00", "to": "09:00"}, "to": PERSON}, "empty"),
        ({"when": {"from": "24:00"}, "to": PERSON}, "24:00"),
        ({"when": {"dates": ["02-30"]}, "to": PERSON}, "dates"),
        ({"when": {"dates": ["2026-12-31/2026-12-01"]}, "to": PERSON}, "before it begins"),
        ({"when": {"days": ["monday"]}, "to": PERSON}, "days"),
        ({"when": {"weekday": 1}, "to": PERSON}, "weekday"),
    ],
)
def test_route_that_says_nothing_clear_is_refused_by_name(given_route, field):
    """What is wrong is named before it is saved."""
    with pytest.raises(ValidationError, match=field):
        Route.model_validate(given_route)


@pytest.mark.parametrize("calendar", [{"country": "XX"}, {"country": "US", "region": "ZZ"}])
def test_calendar_nobody_knows_is_refused(calendar):
    """A typing error would otherwise make every holiday a working day."""
    with pytest.raises(ValidationError):
        Calendar.model_validate(calendar)


def test_route_survives_being_stored():
    """What is dumped for the store reads back as the same route."""
    one = Route.model_validate(
        {"name": "night", "when": {"from": "22:00", "to": "06:00"}, "to": {"message": "Closed."}}
    )
    dumped = one.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert Route.model_validate(dumped) == one
    assert isinstance(one.to, Target)
    assert isinstance(one.when, When)
    assert one.to.kind == "message"
