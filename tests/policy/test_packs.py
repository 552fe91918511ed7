"""Law as data: what a pack may hold, which one is in force, and what a new one would change."""

from __future__ import annotations

import zoneinfo
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from policy import PackError, evaluate, law_of, load_rules, packaged, preview
from policy.loader import packaged_zone
from policy.pack_reading import read_pack
from policy.preview import firing
from tests.policy.worlds import TEST_SETTINGS, at, facts_for, nowhere

TEXT = (Path(__file__).resolve().parents[2] / "policy" / "packs" / "law_2026_11.toml").read_text(
    encoding="utf-8"
)
TIMES = ("time_fed", "time_st", "time_hol", "time_cc")


def with_change(old, new):
    """The shipped pack with one thing changed."""
    assert TEXT.count(old) >= 1, old
    return TEXT.replace(old, new, 1).encode()


def future(**changes):
    """A pack for a later year in which Kentucky opens at nine."""
    text = TEXT.replace('id = "law-2026-11"', 'id = "law-2027-06"', 1)
    text = text.replace("valid_from = 2025-01-01", "valid_from = 2027-06-01", 1)
    text = text.replace("valid_until = 2027-12-31", "valid_until = 2028-06-01", 1)
    return text.replace('daily = "10-21"', 'daily = "9-21"', 1).encode()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('daily = "10-21"', 'daily = "21-10"', r"\[\[state\]\] row \d+ \(KY\): daily: '21-10' ends before"),
        ('daily = "10-21"', 'daily = "10 to 21"', r"\(KY\): daily: '10 to 21' is not like"),
        ('daily = "10-21"', 'daily = "10-25"', r"\(KY\): daily"),
        ('daily = "10-21"', 'daily = "10-13,12-21"', r"\(KY\): daily: '12-21' ends before it starts, or overlaps"),
        ('daily = "10-21"', 'daily = "10-21"\nsun = "closed"', r"\(KY\): daily stands for"),
        ('daily = "10-21"', 'dayly = "10-21"', r"\(KY\): unknown key 'dayly'"),
        ('daily = "10-21"', 'mon_fri = "10-21"', r"\(KY\): sat: expected text"),
        ('source = "KRS 367.46955(16)"\n', "", r"\(KY\): source: expected text"),
        ('source = "KRS 367.46955(16)"\nreviewed_on = 2026-11-21', 'source = "x"', r"\(KY\): reviewed_on: expected a date"),
        ('calendars = ["US", "RI"]', 'calendars = ["US", "RX"]', r"\(RI\): calendars: there is no .* 'RX'"),
        ('calendars = ["US", "RI"]\n', "", r"\(RI\): holidays without calendars"),
        ("attempts = 3", "attempts = 0", r"\[\[cap\]\] row 1 \(FL\): attempts: expected a whole number, 1 to 1000"),
        ("valid_to = 2026-10-18", 'valid_to = "soon"', r"\(PA\): valid_to: expected a date"),
        ("valid_to = 2026-10-18", "valid_from = 2027-01-01\nvalid_to = 2026-10-18", r"\(PA\): valid_from is not before"),
        ("nth = [11, 3, 4]", "nth = [11, 3, 4], easter = 1", r"\[\[holiday\]\] row 1 \(US\): day .* expected one of"),
        ("fixed = [7, 4]", "fixed = [7, 32]", r"\[\[holiday\]\] row 1 \(US\): day"),
        ('states = ["TX"]', "states = []", r"\[\[registration\]\] row 1: states: is empty"),
        ("[[state_list]]", "[[state_lists]]", r"unknown table \[state_lists\]"),
        ("[tzdata]", "[tzdata]\nextra = 1", r"\[tzdata\]: unknown key 'extra'"),
        ("valid_until = 2027-12-31", "valid_until = 2024-12-31", r"\[pack\]: valid_from is not before valid_until"),
        ('zone = "Etc/GMT+6"', 'zone = "Etc/Nowhere"', r"row MS: no time zone 'Etc/Nowhere'"),
        ("[pack]", "[pack", "not TOML"),
    ],
)  # fmt: skip
def test_pack_with_a_mistake_is_refused_and_the_row_named(old, new, message):
    """Whoever edits the law reads where the slip is."""
    with pytest.raises(PackError, match=message):
        law_of([with_change(old, new)])


def test_pack_is_hashed_and_every_row_has_a_source_and_a_review():
    """A decision names the hash; nobody can change a figure unseen."""
    pack = read_pack(TEXT.encode())
    assert pack.sha256 != read_pack(with_change('daily = "10-21"', 'daily = "9-21"')).sha256
    rows = [row for _, row in pack.hours_rows()]
    rows_of_caps = [
        row for table in (pack.caps, pack.country_caps) for many in table.values() for row in many
    ]
    assert len(rows) > 45
    assert all(
        row.source and row.reviewed_on == date(2026, 11, 21) for row in [*rows, *rows_of_caps]
    )


def test_two_packs_are_loaded_and_the_instant_chooses():
    """The future one is there before its day, and rules nothing before it."""
    law = law_of([TEXT.encode(), future()])
    change = datetime(2027, 6, 1, tzinfo=UTC)
    assert law.pack_at(change - timedelta(seconds=1)).id == "law-2026-11"
    assert law.pack_at(change).id == "law-2027-06"
    rules = load_rules(TIMES, {}, nowhere, law=law)
    kentucky = facts_for("+15025550123", at("2027-05-31T13:30:00Z"), purpose="marketing")
    assert firing(evaluate(rules, kentucky)) == ("TIME-ST-KY",)
    later = evaluate(rules, replace(kentucky, at=at("2027-06-01T13:30:00Z")))
    assert later.allowed
    assert later.versions["pack"] == "law-2027-06"
    with pytest.raises(PackError, match="two packs have the id"):
        law_of([TEXT.encode(), TEXT.encode()])


def test_marketing_outside_of_every_pack_is_refused_and_information_is_not():
    """The figures of the last pack go on binding; they are only too old to sell by."""
    rules = load_rules(["sys_rules", *TIMES], {}, nowhere)
    late = at("2028-02-02T18:00:00Z")
    assert firing(evaluate(rules, facts_for("+12125550123", late, purpose="marketing"))) == (
        "SYS-RULES",
    )
    assert evaluate(rules, facts_for("+12125550123", late)).allowed
    night = evaluate(rules, facts_for("+12125550123", at("2028-02-02T05:00:00Z")))
    assert firing(night) == ("TIME-FED",)


def test_preview_names_the_attempts_that_another_pack_decides_otherwise():
    """Yesterday's calls under tomorrow's law, numbers masked."""
    early = TEXT.replace('daily = "10-21"', 'daily = "9-21"', 1).encode()
    before = load_rules(TIMES, {}, nowhere)
    after = load_rules(TIMES, {}, nowhere, law=law_of([early]))
    half_past_nine = at("2027-01-13T14:30:00Z")
    attempts = [
        facts_for("+12125550123", half_past_nine, purpose="marketing"),
        facts_for("+15025550123", half_past_nine, purpose="marketing"),
        facts_for("+15025550123", half_past_nine),
    ]
    (change,) = preview(before, after, attempts)
    assert (change.index, change.before, change.after) == (1, "defer", "allow")
    assert (change.number, change.rules_before) == ("+1502•••••23", ("TIME-ST-KY",))


def test_time_zones_come_from_the_package_and_never_from_the_host(tmp_path):
    """A host with last year's files, or with none, changes nothing."""
    zone = packaged_zone("America/Vancouver")
    stale = tmp_path / "America"
    stale.mkdir()
    (stale / "Vancouver").write_bytes(b"TZif junk")
    zoneinfo.reset_tzpath([str(tmp_path)])
    try:
        packaged_zone.cache_clear()
        assert packaged_zone("America/Vancouver") is not zone
        shown = datetime(2026, 12, 16, 5, 15, tzinfo=UTC).astimezone(
            packaged_zone("America/Vancouver")
        )
        assert (shown.hour, shown.minute) == (22, 15)
    finally:
        zoneinfo.reset_tzpath()
        packaged_zone.cache_clear()


@pytest.mark.parametrize(
    "name",
    ["../etc/passwd", "", "America/", "Nowhere/City", "zone.tab", "/etc/localtime", "America"],
)
def test_zone_of_no_such_name_is_none(name):
    """Whatever a record has in its field for the zone."""
    assert packaged_zone(name) is None


def test_tz_data_that_nobody_looked_at_for_half_a_year_denies_outbound():
    """Until an operator says on which day it was the newest."""
    rules = load_rules(["sys_tzdata"], {}, nowhere)
    facts = facts_for("+12125550123", at("2027-05-20T18:00:00Z"))
    assert evaluate(rules, facts).allowed
    late = replace(facts, at=at("2027-05-21T18:00:00Z"))
    assert evaluate(rules, late).reason == "SYS-TZDATA: tzdata_unchecked"
    assert evaluate(rules, replace(late, direction="inbound")).allowed
    checked = load_rules(["sys_tzdata"], {"sys_tzdata": TEST_SETTINGS["sys_tzdata"]}, nowhere)
    assert evaluate(checked, late).allowed


@pytest.mark.parametrize(
    ("number", "zones"),
    [
        ("+18502220123", "America/Chicago America/New_York"),
        ("+18504340123", "America/Chicago America/New_York"),
        ("+13645550123", "America/Chicago America/New_York"),
        ("+14485550123", "America/Chicago America/New_York"),
        ("+19305550123", "America/Chicago America/New_York"),
        ("+14585550123", "America/Denver America/Los_Angeles"),
        ("+19282830123", "America/Denver America/Phoenix"),
        ("+19282130123", "America/Denver America/Phoenix"),
        ("+12085550123", "America/Boise America/Denver America/Los_Angeles"),
        ("+19075550123", "America/Adak America/Anchorage America/Juneau Pacific/Honolulu"),
        ("+17095550123", "America/Halifax America/St_Johns"),
        ("+15815550123", "America/Halifax America/Toronto"),
        ("+17785550123", "America/Edmonton America/Vancouver"),
        ("+18005550123", ""),
        ("+19005550123", ""),
        ("+15005550123", ""),
        ("+881612345678", ""),
    ],
)
def test_candidate_zones_are_all_that_the_number_may_be_in(number, zones):
    """Also where the library's answer hides a second one, and for overlays."""
    assert " ".join(packaged().plan.destination(number).zones) == zones


@pytest.mark.parametrize("area", ["219", "250", "270", "308", "418", "423", "541", "574", "606", "620", "785", "807", "812", "850", "867", "906", "907", "928"])  # fmt: skip
def test_area_codes_that_hide_an_offset_have_more_than_one(area):
    """The library gives one zone for the bare area code of each of these."""
    zones = packaged().plan.destination(f"+1{area}5550123").zones
    offsets = {datetime(2025, 7, 15, 12, tzinfo=packaged_zone(zone)).utcoffset() for zone in zones}
    assert len(offsets) > 1


def test_state_of_a_number_is_american_or_none():
    """CA is California and not Canada; a territory is its own state."""
    plan = packaged().plan
    assert plan.destination("+16045550123").state is None
    assert plan.destination("+14165550123").region == "CA"
    assert plan.destination("+13105550123").state == "CA"
    assert plan.destination("+17875550123").state == "PR"
    assert plan.destination("+12015550123").state == "NJ"
    canadian = facts_for("+16045550123", at("2027-01-13T18:00:00Z"))
    placed = packaged().place(replace(canadian, location=replace(canadian.location, state="CA")))
    assert placed.states == ()


@pytest.mark.parametrize(
    ("code", "state", "zones"),
    [
        ("32301", "FL", "America/New_York"),
        ("32501-1234", "FL", "America/Chicago"),
        ("32456", "FL", "America/New_York America/Chicago"),
        ("79901", "TX", "America/Denver"),
        ("10001", "NY", "America/New_York"),
        ("96799", "HI", "Pacific/Honolulu Pacific/Pago_Pago"),
        ("00901", "PR", "America/Puerto_Rico"),
        ("00000", None, ""),
        ("3230", "FL", "America/New_York"),
        ("abc", None, ""),
    ],
)
def test_postcode_gives_state_and_every_zone_that_it_may_lie_in(code, state, zones):
    """By its first three digits; where those straddle, both sides."""
    assert packaged().plan.postcode("US", code) == (state, tuple(zones.split()))


def test_numbers_that_are_kept_are_bounded():
    """A campaign of ten million numbers does not fill the memory."""
    plan = packaged().plan
    for last in range(10_000):
        plan.destination(f"+1212{last:07}")
    assert plan.destination.cache_info().currsize <= 4096
