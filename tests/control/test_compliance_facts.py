"""Facts come from the store: whatever the rules ask for is there, and comes back from its kept form."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from control.compliance import counters, facts, number_file, stored
from control.compliance.facts import Asked, with_meaning
from control.compliance.number_file import NumberFile, Shelf
from control.store import Store, agents, calls, consents, decisions, dialing, dnc, opt_outs
from control.store.dialing import QueueRecord
from control.store.records import AgentRecord, CallRecord, OptOutRecord
from policy.facts import Facts

NOW = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
OURS, THEIRS = "+14155550199", "+12125550123"
ASKED = Asked("outbound", "dial", "tnt_default", "agt_1", OURS, THEIRS, call_id="call_now")


@pytest.fixture
def conn(store_url):
    store = Store.open(store_url)
    with store._engine.connect() as opened, opened.begin():
        agents.insert(
            opened,
            AgentRecord(
                "agt_1",
                "Ada",
                NOW,
                NOW,
                status="live",
                number_e164=OURS,
                settings={"first_message": "Good day.", "purpose": "informational"},
            ),
        )
        yield opened
    store.close()


def call(conn, name, minutes_ago, **more):
    at = NOW - timedelta(minutes=minutes_ago)
    values = {
        "tenant_id": "tnt_default",
        "agent_id": "agt_1",
        "from_number": OURS,
        "to_number": THEIRS,
        "status": "completed",
        "ended_at": at + timedelta(seconds=50),
        "answered_at": at,
        "sent_at": at,
        "dial_state": "created",
    }
    calls.insert(conn, CallRecord(f"call_{name}", "outbound", at, **(values | more)))


def consent(**more):
    values = {
        "id": "cns_1",
        "e164": THEIRS,
        "seller": "Default",
        "channels": ["voice_ai"],
        "purposes": ["informational"],
        "level": "express",
        "occurred_at": NOW - timedelta(days=2),
        "recorded_at": NOW,
        "actor": "test",
        "location": {"postcode": "10001", "state": "NY"},
    }
    return consents.ConsentRecord(**(values | more))


def read(conn, tmp_path, asked=ASKED, at=NOW):
    return facts.assemble(conn, asked, at, NOW, Shelf(tmp_path))


def test_spend_of_day_and_month_counts_each_call_once_in_its_time(conn, tmp_path):
    """Minutes begun are counted whole, open calls at their estimate; the call itself and last month's are left out."""
    minute, estimate = counters.MINUTE_MICRO_USD, 4 * counters.MINUTE_MICRO_USD
    call(conn, "today", 60, ended_at=NOW - timedelta(minutes=57, seconds=30))  # three minutes
    call(conn, "midnight", 18 * 60)  # the day's first instant
    call(conn, "yesterday", 18 * 60 + 1)
    call(conn, "last_month", 13 * 24 * 60)
    call(conn, "busy", 30, answered_at=None, status="busy")
    call(conn, "open", 2, ended_at=None)
    waiting = {"answered_at": None, "ended_at": None, "sent_at": None, "dial_state": "intent"}
    call(conn, "queued_yesterday", 20 * 60, **waiting)
    call(conn, "queued_last_month", 20 * 24 * 60, **waiting)
    call(conn, "now", 1, ended_at=None)
    found = read(conn, tmp_path).spend
    assert found.day_micro_usd == (3 + 1) * minute + estimate
    assert found.month_micro_usd == (3 + 1 + 1) * minute + 2 * estimate


def test_counters_that_grow_with_a_month_are_read_from_indices_alone(conn, tmp_path):
    """However many calls there were: a look into the table for each of them takes a third of a second for 100,000."""
    if conn.dialect.name != "sqlite":
        pytest.skip("how SQLite would do it")
    for number in range(300):
        call(conn, f"{number:03}", 60 + number, campaign="agt_1", abandoned=False)
    plans = {}

    def note(_conn, _cursor, statement, parameters, _context, _many):
        plans[statement] = parameters

    event.listen(conn, "before_cursor_execute", note)
    read(conn, tmp_path)
    event.remove(conn, "before_cursor_execute", note)
    seen = [
        " ".join(row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}", parameters))
        for one, parameters in plans.items()
        if one.startswith("SELECT")
    ]
    for index in ("ix_calls_talked", "ix_calls_campaign"):
        assert any(f"COVERING INDEX {index} " in plan for plan in seen), index
    assert any("(tenant_id=? AND ended_at=?)" in plan for plan in seen)  # what is open
    assert not [plan for plan in seen if "SCAN calls" in plan or "created_at" in plan]


def test_facts_of_an_empty_store_say_that_there_is_nothing(conn, tmp_path):
    """Read and empty is not unknown."""
    found = read(conn, tmp_path)
    assert found.store_readable
    assert (found.consents, found.revocations, found.attempts) == ((), (), ())
    assert (found.opt_out, found.in_flight, found.from_number_owned) == (None, 0, True)
    assert found.to_number_is_ours is False
    assert found.platform_block.is_listed is False
    assert (found.tenant.state, found.agent.state) == ("active", "live")
    assert found.purpose == "informational"
    assert found.dnc_national is None
    assert found.usage.region_is_new


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"timezone": "America/Denver"}, ("America/Denver", "10001", "NY")),
        ({"state": "FL"}, (None, None, "FL")),
        ({"state": "NY"}, ("America/New_York", "10001", "NY")),
        ({"postcode": "33101"}, (None, "33101", None)),
        ({}, ("America/New_York", "10001", "NY")),
    ],
)
def test_request_says_its_part_of_the_place_and_takes_away_no_other(conn, tmp_path, said, expected):
    """Naming a time zone must not free a call from the rules of the state in which the person signed."""
    place = {"postcode": "10001", "state": "NY", "zone": "America/New_York"}
    consents.insert_consent(conn, consent(location=place))
    about = with_meaning(ASKED, {"called_party": said | {"as_of": NOW.isoformat()}} if said else {})
    found = read(conn, tmp_path, about).location
    assert (found.zone, found.postcode, found.state) == expected
    if said:
        is_elsewhere = "postcode" in said or said.get("state") == "FL"
        then = consent().occurred_at
        assert found.zone_as_of == (NOW if is_elsewhere or "timezone" in said else then)
        assert found.as_of == (NOW if is_elsewhere else then)


def test_error_of_the_reassigned_numbers_database_hides_no_earlier_answer(conn, tmp_path):
    """Asked again without luck: what was known is known. Alone it is told as what it is."""
    answer_of = consents.ReassignedRecord
    consents.add_answer(conn, answer_of("tnt_default", "+12125550199", "error", NOW))
    other = read(conn, tmp_path, replace(ASKED, to_number="+12125550199"))
    assert other.reassigned.answer == "error"
    earlier = NOW - timedelta(days=40)
    consents.add_answer(conn, answer_of("tnt_default", THEIRS, "yes", earlier))
    consents.add_answer(conn, answer_of("tnt_default", THEIRS, "error", NOW))
    found = read(conn, tmp_path).reassigned
    assert (found.answer, found.asked_at) == ("yes", earlier)


def test_share_of_abandoned_calls_is_that_of_the_calls_own_campaign(conn, tmp_path):
    """By subject where there is one, else by agent."""
    for number in range(4):
        call(conn, f"a{number}", 60 * 24 * number, campaign="agt_1", abandoned=number == 0)
    call(conn, "b", 60, campaign="roof", abandoned=True)
    of_agent = read(conn, tmp_path).traffic
    assert (of_agent.campaign_calls, of_agent.abandoned_share) == (4, 0.25)
    of_roof = read(conn, tmp_path, replace(ASKED, subject="roof")).traffic
    assert (of_roof.campaign_calls, of_roof.abandoned_share) == (1, 1.0)


def test_counters_leave_out_the_call_itself_and_what_never_rang(conn, tmp_path):
    """An attempt does not count against itself; a refused request was none."""
    call(conn, "old", 60 * 24 * 40)
    call(conn, "a", 90, metadata={"purpose": "marketing", "subject": "roof"})
    call(conn, "b", 30)
    never = {"answered_at": None, "sent_at": None}
    call(conn, "blocked", 20, status="blocked", dial_state="refused", **never)
    call(conn, "live", 5, status="in-progress", ended_at=None)
    call(conn, "now", 0, status="queued", ended_at=None, dial_state="intent", **never)
    found = read(conn, tmp_path)
    assert [one.subject for one in found.attempts] == ["roof", None, None]
    assert [one.had_conversation for one in found.attempts] == [True, True, False]
    assert found.in_flight == 1
    assert len(found.usage.starts) == 2
    assert len(found.usage.destinations) == 1
    assert found.usage.region_is_new is False
    assert found.spend.day_micro_usd > found.spend.call_estimate_micro_usd


DAY = 24 * 60


@pytest.mark.parametrize(
    ("more", "ringing_minutes_ago"),
    [
        ({"ringing_at": NOW - timedelta(minutes=10), "answered_at": None}, 10),
        ({"answered_at": NOW - timedelta(minutes=9)}, 9),
        ({"answered_at": None, "status": "no-answer"}, 11),
        ({"answered_at": None, "status": "busy"}, 11),
        ({"answered_at": None, "status": "queued", "ended_at": None, "dial_state": "sent"}, 11),
        (
            {"answered_at": None, "status": "queued", "ended_at": None, "dial_state": "uncertain"},
            11,
        ),
        ({"answered_at": None, "status": "failed"}, None),
        ({"answered_at": None, "status": "canceled"}, None),
        ({"answered_at": None, "status": "failed", "dial_state": "refused"}, None),
        ({"answered_at": None, "dial_state": "intent", "sent_at": None, "ended_at": None}, None),
        (
            {"answered_at": None, "status": "canceled", "dial_state": "intent", "sent_at": None},
            None,
        ),
    ],
)
def test_attempts_count_when_they_rang_and_not_when_they_were_asked_for(
    conn, tmp_path, more, ringing_minutes_ago
):
    """Asked for two days ago and dialled eleven minutes ago; what never rang is no attempt."""
    call(conn, "old", 2 * DAY, **({"sent_at": NOW - timedelta(minutes=11)} | more))
    found = [one.at for one in read(conn, tmp_path).attempts]
    wanted = [] if ringing_minutes_ago is None else [NOW - timedelta(minutes=ringing_minutes_ago)]
    assert found == wanted


def test_velocity_counts_requests_that_left_and_not_those_that_wait(conn, tmp_path):
    """Ordered yesterday and sent now counts; ordered now for tomorrow, or never sent, does not."""
    call(conn, "sent", DAY, sent_at=NOW - timedelta(minutes=3))
    call(conn, "long_ago", 30, sent_at=NOW - timedelta(minutes=70))
    waits = {"answered_at": None, "sent_at": None, "dial_state": "intent"}
    call(conn, "waits", 1, status="queued", ended_at=None, **waits)
    call(conn, "cancelled", 1, status="canceled", **waits)
    usage = read(conn, tmp_path).usage
    assert usage.starts == usage.destinations == usage.to_prefix == usage.to_region
    assert usage.starts == (NOW - timedelta(minutes=3),)


def queue_row(conn, name, due_in_minutes=0, state="waiting"):
    due_at = NOW + timedelta(minutes=due_in_minutes)
    entry = QueueRecord(f"call_{name}", "tnt_default", due_at, NOW + timedelta(days=2), NOW, state)
    dialing.add(conn, entry)


def test_calls_that_wait_do_not_keep_each_other_waiting(conn, tmp_path):
    """Of two that are due only the later one has to wait; one that is due another day concerns nobody."""
    waits = {"status": "queued", "answered_at": None, "sent_at": None, "ended_at": None}
    for name, due_in in (("a", 0), ("b", 0), ("c", 60)):
        call(conn, name, 5, dial_state="intent", **waits)
        queue_row(conn, name, due_in)

    def in_flight(name):
        return read(conn, tmp_path, replace(ASKED, call_id=f"call_{name}")).in_flight

    assert [in_flight(name) for name in ("a", "b", "c")] == [0, 1, 2]
    assert read(conn, tmp_path, replace(ASKED, call_id=None)).in_flight == 2


def test_consents_revocations_and_opt_outs_are_facts(conn, tmp_path):
    """A request to stop stays known after its entry was taken off the list."""
    consents.insert_consent(conn, consent())
    opt_outs.add(conn, OptOutRecord(THEIRS, "spoken", NOW, call_id="call_9"))
    found = read(conn, tmp_path)
    assert found.opt_out.source == "spoken"
    assert found.consents[0].id == "cns_1"
    assert found.location.postcode == "10001"
    opt_outs.remove(conn, "tnt_default", THEIRS)
    found = read(conn, tmp_path)
    assert found.opt_out is None
    assert [one.source for one in found.revocations] == ["spoken"]


@pytest.mark.parametrize(("answer", "closed"), [("yes", True), ("no", False), ("no_data", False)])
def test_reassigned_number_closes_the_consents_of_its_former_owner(conn, tmp_path, answer, closed):
    """Given before the answer: somebody else's. Given afterwards: the new owner's."""
    consents.insert_consent(conn, consent())
    consents.add_answer(conn, consents.ReassignedRecord("tnt_default", THEIRS, answer, NOW))
    later = NOW + timedelta(minutes=1)
    consents.insert_consent(conn, consent(id="cns_2", occurred_at=later))
    found = {one.id: one.revoked_at for one in read(conn, tmp_path).consents}
    assert found == {"cns_1": NOW if closed else None, "cns_2": None}


def test_number_of_ours_is_seen_as_a_loop_and_a_foreign_caller_id_as_not_owned(conn, tmp_path):
    """CID-OWN and NUM-OWN have their facts."""
    asked = replace(ASKED, from_number="+14155550777", to_number=OURS)
    found = read(conn, tmp_path, asked)
    assert found.from_number_owned is False
    assert found.to_number_is_ours is True


def test_do_not_call_file_is_looked_up_swapped_and_missed(conn, tmp_path):
    """Listed, not listed, and not readable, which is not known."""

    def put(numbers):
        written = number_file.write(tmp_path, numbers)
        dnc.put_list(
            conn,
            dnc.DncListRecord(
                dnc.EVERYBODY,
                "US",
                NOW,
                "ftc",
                written.file_name,
                written.sha256,
                written.entries,
                NOW,
            ),
        )
        return written

    put([12125550123, 12125550123, 13105550100])
    assert read(conn, tmp_path).dnc_national.is_listed
    written = put([13105550100])
    assert read(conn, tmp_path).dnc_national.is_listed is False
    (tmp_path / written.file_name).unlink()
    assert read(conn, tmp_path).dnc_national is None


def test_number_file_finds_exactly_what_it_was_given(tmp_path):
    """Ends, neighbours, repeats, the empty list."""
    numbers = [10_000_000, 14155550100, 14155550102, 999_999_999_999_999]
    written = number_file.write(tmp_path, [*numbers, *numbers])
    found = NumberFile(tmp_path / written.file_name)
    assert (len(found), written.entries) == (4, 4)
    assert all(f"+{number}" in found for number in numbers)
    assert not any(f"+{number + step}" in found for number in numbers for step in (-1, 1))
    empty = NumberFile(tmp_path / number_file.write(tmp_path, []).file_name)
    assert "+14155550100" not in empty


def test_kept_facts_come_back_equal(conn, tmp_path):
    """A replay judges by what was judged by, to the microsecond."""
    consents.insert_consent(conn, consent(expires_at=NOW + timedelta(microseconds=7)))
    call(conn, "a", 90)
    found = read(conn, tmp_path)
    decisions.append(conn, "call_x", "tnt_default", "dial", {}, NOW, stored.dump(found))
    (kept,) = decisions.of_call(conn, "call_x")
    again = stored.load(kept.facts)
    assert isinstance(again, Facts)
    assert again == found
    assert decisions.verify(conn).flaws == []


def test_purpose_and_place_that_the_request_said_are_facts_at_the_moment_of_dialling_too(
    conn, tmp_path
):
    """They are kept with the call; as of the moment they were said, and before any consent's own place."""
    consents.insert_consent(conn, consent())
    place = {"timezone": "America/Chicago", "state": "FL", "as_of": NOW.isoformat()}
    call(conn, "now", 1, metadata={"purpose": "survey", "called_party": place})
    known = read(conn, tmp_path)
    assert known.purpose == "survey"
    said = known.location
    assert (said.zone, said.zone_source, said.zone_as_of) == ("America/Chicago", "request", NOW)
    assert (said.state, said.postcode) == ("FL", None)
