"""Calling hours typed a second time, from the statutes' tables: the oracle's own law, of which `policy` knows nothing.

Hours as people write them: Monday to Friday, Saturday, Sunday; one entry stands for all three. Whoever changes a rule
pack changes this page too, from the statute and not from the pack.
"""

from __future__ import annotations

FEDERAL = "8-21"
"""47 CFR 64.1200(c)(1): every call into the US and its territories."""

STATES = {
    "AL": "8-20 8-20 closed",
    "AR": "8-21",
    "CT": "9-20",
    "DC": "8-21",
    "FL": "8-20",
    "HI": "8-21",
    "IL": "8-21",
    "KY": "10-21",
    "LA": "8-20 8-20 closed",
    "MA": "8-20",
    "MD": "8-20",
    "MI": "9-21",
    "MN": "9-21",
    "MO": "8-21",
    "MS": "8-20 8-20 closed",
    "MT": "8-21",
    "NC": "8-21",
    "ND": "8-21",
    "NE": "8-21",
    "NJ": "8-21",
    "NM": "9-21",
    "NV": "9-20",
    "NY": "8-21",
    "OK": "8-20",
    "OR": "8-20",
    "PA": "9-19 9-19 closed",
    "RI": "9-18 10-17 closed",
    "SC": "8-21",
    "SD": "9-21 9-21 closed",
    "TN": "8-21",
    "TX": "9-21 9-21 12-21",
    "UT": "8-21 8-21 closed",
    "VA": "8-21",
    "WA": "8-20",
    "WI": "8-21",
    "WV": "8-21",
    "WY": "8-20",
    "nobody's": "10-18 10-17 closed",
}
"""Marketing; states that are not here have the federal hours alone. `nobody's`: all of them together."""

DEVICES = {
    "CA": "9-21",
    "GA": "8-21",
    "IL": "9-21",
    "IN": "9-20",
    "ME": "9-17 closed closed",
    "NE": "8-21 8-21 13-21",
    "WA": "banned",
    "nobody's": "10-17 closed closed",
}
"""Marketing by an automatic dialing-announcing device."""

BEFORE = {("PA", "2026-10-18"): "8-21", ("OR", "2026-01-01"): None}
"""What a state had before the day on which the row above began; None: no hours of its own."""

CENTRAL_STANDARD_TOO = {"MS"}
"""Miss. Code 77-3-723 names Central Standard Time: on week days the hours of that clock have to hold as well."""

CLOSED_ON_HOLIDAYS = {
    "AL": ("federal", "AL"),
    "LA": ("federal", "LA"),
    "PA": ("federal",),
    "RI": ("federal", "RI"),
    "UT": ("federal", "UT"),
    "nobody's": ("federal", "AL", "LA", "RI", "UT"),
}
DEVICE_HOLIDAYS = {"NE": ("13-21", ("federal",)), "nobody's": ("closed", ("federal",))}

HOLIDAYS = {
    "federal": """
        2026-01-01 2026-01-19 2026-02-16 2026-05-25 2026-06-19 2026-07-03 2026-07-04 2026-09-07
        2026-10-12 2026-11-11 2026-11-26 2026-12-25
        2027-01-01 2027-01-18 2027-02-15 2027-05-31 2027-06-18 2027-06-19 2027-07-04 2027-07-05 2027-09-06
        2027-10-11 2027-11-11 2027-11-25 2027-12-24 2027-12-25 2027-12-31""",
    "AL": "2026-02-17 2026-04-27 2026-06-01 2027-02-09 2027-04-26 2027-06-07",
    "LA": "2026-02-17 2026-04-03 2026-11-01 2026-11-02 2027-02-09 2027-03-26 2027-11-01",
    "RI": "2026-08-10 2027-08-09",
    "UT": "2026-07-24 2027-07-23 2027-07-24",
}
"""Of 2026 and 2027, off a wall calendar: the days and those on which they are observed."""

PLACES = {
    "AK": ["907 A J D H"],
    "AL": ["205 C"],
    "AR": ["501 C"],
    "AZ": ["602 Z", "928 Z M"],
    "CA": ["415 P"],
    "CO": ["303 M"],
    "CT": ["203 E"],
    "DC": ["202 E"],
    "DE": ["302 E"],
    "FL": ["305 E", "850 E C", "448 E C"],
    "GA": ["404 E"],
    "HI": ["808 H"],
    "IA": ["515 C"],
    "ID": ["208 M P", "986 M P"],
    "IL": ["312 C"],
    "IN": ["317 E", "219 E C", "574 E C", "812 E C", "930 E C"],
    "KS": ["316 C", "785 C M", "620 C M"],
    "KY": ["502 E", "270 E C", "364 E C", "606 E C"],
    "LA": ["504 C"],
    "MA": ["617 E"],
    "MD": ["301 E"],
    "ME": ["207 E"],
    "MI": ["313 E", "906 E C"],
    "MN": ["612 C"],
    "MO": ["314 C"],
    "MS": ["601 C"],
    "MT": ["406 M"],
    "NC": ["704 E"],
    "ND": ["701 C M"],
    "NE": ["402 C", "308 C M"],
    "NH": ["603 E"],
    "NJ": ["201 E"],
    "NM": ["505 M"],
    "NV": ["702 P", "775 P M"],
    "NY": ["212 E"],
    "OH": ["216 E"],
    "OK": ["405 C"],
    "OR": ["503 P", "541 P M", "458 P M"],
    "PA": ["215 E"],
    "RI": ["401 E"],
    "SC": ["803 E"],
    "SD": ["605 C M"],
    "TN": ["615 C", "423 E C"],
    "TX": ["214 C", "915 M"],
    "UT": ["801 M"],
    "VA": ["703 E"],
    "VT": ["802 E"],
    "WA": ["206 P"],
    "WI": ["414 C"],
    "WV": ["304 E"],
    "WY": ["307 M"],
}
"""An area code or more of each state, and every clock that may hang there (`CLOCKS`)."""

CLOCKS = {
    "E": (-5, True),
    "C": (-6, True),
    "M": (-7, True),
    "P": (-8, True),
    "A": (-9, True),
    "J": (-9, True),
    "D": (-10, True),
    "H": (-10, False),
    "Z": (-7, False),
    "Puerto Rico": (-4, False),
    "Guam": (10, False),
    "Toronto": (-5, True),
    "Halifax": (-4, True),
    "St John's": (-3.5, True),
    "Vancouver": (-7, False),
    "Brisbane": (10, False),
}
"""Hours from UTC in winter, and whether clocks are changed on the American days. Vancouver: since it stopped changing."""

ABROAD = {
    "+17875550123": ("8-21", ["Puerto Rico"], ()),
    "+16715550123": ("8-21", ["Guam"], ()),
    "+14165550123": ("9-21:30 10-18 10-18", ["Toronto"], ()),
    "+16045550123": ("9-21:30 10-18 10-18", ["Vancouver"], ()),
    "+17095550123": ("9-21:30 10-18 10-18", ["Halifax", "St John's"], ()),
    "+442071838750": ("8-21 8-21 9-20", ["Europe 0"], ()),
    "+61732345678": ("9-20 9-17 closed", ["Brisbane"], ("2027-03-26", "2027-01-26", "2027-03-29")),
    "+49301234567": (
        "8-20 9-18 closed",
        ["Europe 1"],
        ("2027-01-01", "2027-03-26", "2027-03-29", "2027-05-06", "2027-05-17", "2027-10-03"),
    ),
    "+33142685300": (
        "10-13,14-20 closed closed",
        ["Europe 1"],
        ("2027-01-01", "2027-03-29", "2027-05-06", "2027-05-17", "2027-07-14", "2027-11-01", "2027-11-11"),
    ),
}  # fmt: skip
"""Other countries and the territories: hours, clocks, days on which the country is closed (of those that are looked at)."""
