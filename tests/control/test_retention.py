"""What is older than its period is erased, with proof; what is not, stays; killed anywhere, it goes on."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from control.outbox import OutboxItem, TryAgain
from control.retention import due, erase, proof
from control.retention.periods import Periods
from control.retention.service import SETTLE
from control.store import Store, calls, conversations, decisions, leases, messages, opt_outs, outbox
from control.store.tables import metadata
from tests.control import retention_rig as rig
from tests.control.retention_rig import ALICE, BOB, NOW, PERSON, STAFF, WORDS

ROOT = Path(__file__).resolve().parents[2]
KEPT_BY_LAW = {"opt_outs", "consents", "revocations"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "recordings"


@pytest.fixture
def store(store_url, folder):
    opened = Store.open(store_url)
    opened._write_now(rig.fill, folder)
    yield opened
    opened.close()


def everything(conn):
    """Every row of every table as text, by table."""
    return {
        name: [str(tuple(row)) for row in conn.execute(select(table))]
        for name, table in metadata.tables.items()
    }


def holding(store, word, tenant_id=ALICE):
    """Tables in which the word stands in a row of this tenant's."""
    found = store._read_now(everything)
    return {
        name
        for name, rows in found.items()
        if any(word in row and tenant_id in row for row in rows)
    } - KEPT_BY_LAW


def proofs(store, tenant_id=ALICE):
    every = store._read_now(
        lambda conn: list(
            decisions.between(conn, since=NOW - timedelta(days=900), until=NOW + timedelta(days=1))
        )
    )
    return [
        one.decision for one in every if one.phase == proof.PHASE and one.tenant_id == tenant_id
    ]


def flaws(store):
    return store._read_now(decisions.verify).flaws


async def test_sweep_leaves_no_word_no_number_and_no_file_of_what_is_too_old(store, folder):
    """In no table, not even in those that nobody thought of; and the chain stays good."""
    assert holding(store, WORDS)
    assert holding(store, PERSON)
    assert len(list(folder.iterdir())) == 12
    await rig.retention(store, folder).sweep()
    for tenant_id in (ALICE, BOB):
        assert holding(store, WORDS, tenant_id) == set()
        assert holding(store, PERSON, tenant_id) == set()
        assert holding(store, STAFF, tenant_id) == set()
    assert list(folder.iterdir()) == []
    assert flaws(store) == []
    record = await store.read(calls.get, "call_alice_0")
    assert (record.from_number, record.to_number) == (rig.OURS, "erased")
    assert record.metadata == {}
    assert record.legs["transfer"] == {"to": {"number": "erased"}, "status": "completed"}
    lines = await store.read(calls.events, "call_alice_0")
    assert [(one.name, one.data.get("code")) for one in lines][1] == ("hang_up_failed", 3)
    assert await store.read(opt_outs.get, ALICE, PERSON) is not None


async def test_second_sweep_finds_nothing_and_proves_nothing(store, folder):
    """Nothing is erased, or told, twice."""
    first = await rig.retention(store, folder).sweep()
    before = proofs(store)
    assert first == 2 * 3 * 3  # two tenants, three calls, three kinds; messages go with their calls
    assert await rig.retention(store, folder).sweep() == 0
    assert proofs(store) == before


async def test_what_is_not_old_enough_stays_and_a_tenants_own_period_goes_first(store, folder):
    """Alice keeps for ninety days, Bob as the configuration says; calls are sixty days old."""
    own = {"transcripts_days": 90, "recordings_days": 0, "numbers_days": 90}
    await store.write(rig.with_own, ALICE, **own)
    await rig.retention(store, folder).sweep()
    assert proofs(store, ALICE) == []
    assert "call_turns" in holding(store, WORDS, ALICE)
    assert holding(store, WORDS, BOB) == set()
    assert {path.name.split("_")[1] for path in folder.iterdir()} == {"alice"}


async def test_without_periods_nothing_is_erased(store, folder):
    """The default: kept."""
    assert await rig.retention(store, folder, of_all=Periods()).sweep() == 0
    assert len(list(folder.iterdir())) == 12


async def test_numbers_alone_leave_the_words_but_no_number_in_them(store, folder):
    """The caps' part of the metadata is still there; the transcript has a gap where the number was."""
    await rig.retention(store, folder, of_all=Periods(numbers_days=40)).sweep()
    assert holding(store, PERSON) == set()
    record = await store.read(calls.get, "call_alice_0")
    assert record.metadata == {"crm": WORDS, "purpose": "survey"}
    assert record.summary == f"{WORDS}, and call erased"
    assert [one.text for one in await store.read(calls.turns, record.id)] == [f"{WORDS} erased"]
    assert record.recording["path"]


async def test_texts_alone_keep_what_caps_count_by(store, folder):
    """Number and purpose go later."""
    await rig.retention(store, folder, of_all=Periods(transcripts_days=30)).sweep()
    record = await store.read(calls.get, "call_alice_0")
    assert record.metadata == {"purpose": "survey"}
    assert record.to_number == PERSON
    assert holding(store, WORDS) == set()


async def test_proofs_say_what_and_hold_hashes_that_fit_a_copy(store, folder):
    """Of each file the SHA-256; of texts that of their JSON with numbers masked; of a number none."""
    copy = (folder / "call_alice_1.wav").read_bytes()
    record = await store.read(calls.get, "call_alice_1")
    turns = await store.read(calls.turns, "call_alice_1")
    await rig.retention(store, folder).sweep()
    by_what = {one["what"]: one for one in proofs(store) if one["of"] == {"call": "call_alice_1"}}
    assert by_what["recordings"]["sha256"]["call_alice_1.wav"] == hashlib.sha256(copy).hexdigest()
    shown = {
        "transcript": [
            {"turn": t.turn, "role": t.role, "text": t.text, "heard": t.heard} for t in turns
        ]
    } | {
        name: getattr(record, name)
        for name in (
            *("summary", "extractions", "extraction_problems", "variables", "metadata"),
            "analysis",
        )
    }
    assert by_what["transcripts"]["sha256"] == proof.texts_digest(shown)
    assert by_what["transcripts"]["rule"] == "retention.transcripts_days=30"
    assert by_what["transcripts"]["counts"]["turns"] == 1
    assert by_what["numbers"]["masked"] == "+1415•••••00"
    assert "sha256" not in by_what["numbers"]


async def test_another_number_has_the_same_digest_of_texts():
    """Ten digits could be found from a hash by trying: they are masked before it is taken."""
    one, other = ({"text": f"call +1415555{n}00"} for n in ("01", "02"))
    assert proof.texts_digest(one) == proof.texts_digest(other)
    assert proof.texts_digest(one) != proof.texts_digest({"text": "call +1415666 0100"})


async def test_recording_of_another_daemon_is_left_to_it(store, folder, tmp_path):
    """Its disk is not ours: nothing is proven that was not seen."""
    there = rig.retention(store, tmp_path / "elsewhere", node="there")

    def lie_elsewhere(conn):
        for number in range(3):
            path = {"path": f"/nowhere/call_alice_{number}.wav"}
            calls.update(conn, f"call_alice_{number}", recording=path)

    await store.write(lie_elsewhere)
    await there.sweep()
    assert "recordings" not in {one["what"] for one in proofs(store, ALICE)}
    await rig.retention(
        store, folder
    ).sweep()  # here: the files are gone, and this is the daemon that had them
    found = [one for one in proofs(store, ALICE) if one["what"] == "recordings"]
    assert [one["counts"]["files"] for one in found] == [0, 0, 0]


async def test_only_one_daemon_sweeps_at_a_time(store, folder):
    """The other one's lease is respected, and taken when it has run out."""
    clock = rig.FakeClock()
    soon = NOW + timedelta(seconds=60)
    assert await store.write(leases.take, "retention", "there", NOW, soon)
    here = rig.retention(store, folder, clock=clock)
    await here.sweep()
    assert {one["what"] for one in proofs(store)} == {"recordings"}
    clock.time = soon
    await here.sweep()
    assert {one["what"] for one in proofs(store)} == {"recordings", "transcripts", "numbers"}


@pytest.mark.parametrize(
    "point",
    ["retention.erased", "retention.erased@4", "retention.hashed", "retention.deleted@2"],
)
async def test_killed_sweep_is_finished_by_the_next_one(store_url, store, folder, point):
    """SIGKILL in the middle: every call is erased in the end, with one proof of each kind and its hashes."""
    environment = os.environ | {"TANDEM_FAIL_POINT": point, "PYTHONPATH": str(ROOT)}
    environment |= {"TANDEM_TEST_STORE": ""}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.control.sweep_once", store_url, str(folder)],
        env=environment, cwd=ROOT, timeout=60, capture_output=True, check=False,
    )  # fmt: skip
    assert ran.returncode == -9, ran.stderr.decode()
    clock = rig.FakeClock(NOW + timedelta(minutes=2))  # the dead one's lease has run out
    await rig.retention(store, folder, clock=clock).sweep()
    for tenant_id in (ALICE, BOB):
        assert holding(store, WORDS, tenant_id) == set()
        assert holding(store, PERSON, tenant_id) == set()
        done = [(one["what"], one["of"].get("call")) for one in proofs(store, tenant_id)]
        of_calls = [one for one in done if one[1]]
        assert len(of_calls) == len(set(of_calls)) == 9
        files = [one for one in proofs(store, tenant_id) if one["what"] == "recordings"]
        assert all(len(one["sha256"]) == 2 for one in files)
    assert list(folder.iterdir()) == []
    assert flaws(store) == []


async def test_erased_texts_are_not_in_the_file_of_the_database_any_more(tmp_path, folder):
    """SQLite would leave them in free pages."""
    path = tmp_path / "tandem.db"
    store = Store.open(f"sqlite:///{path}")
    if store._engine.dialect.name != "sqlite":
        store.close()
        pytest.skip("about SQLite's file")
    await store.write(rig.fill, folder)
    await rig.retention(store, folder).sweep()
    store.close()
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert WORDS.encode() not in path.read_bytes()


# ---- at somebody's request -----------------------------------------------------------------------


async def test_call_erased_on_request_is_erased_at_once_and_alone(store, folder):
    """No period is needed; other calls of the tenant stay."""
    erased = await rig.retention(store, folder, of_all=Periods()).erase_call(
        "call_alice_1", "key_1"
    )
    assert erased.texts_erased_at == erased.numbers_erased_at == erased.recording_erased_at == NOW
    assert {one["rule"] for one in proofs(store)} == {"asked for by key_1"}
    assert sorted(path.name for path in folder.iterdir() if "alice" in path.name) == [
        "call_alice_0-2.wav",
        "call_alice_0.wav",
        "call_alice_2-2.wav",
        "call_alice_2.wav",
    ]
    kept = await store.read(calls.get, "call_alice_0")
    assert kept.summary
    assert kept.to_number == PERSON


async def test_live_call_is_not_erased(store, folder):
    """It would be written again."""
    await store.write(
        lambda conn: conn.execute(text("UPDATE calls SET ended_at = NULL WHERE id = 'call_bob_0'"))
    )
    assert await rig.retention(store, folder).erase_call("call_bob_0", "admin") is None
    assert (await store.read(calls.get, "call_bob_0")).summary


async def test_call_that_has_only_just_ended_is_erased_a_little_later(store, folder):
    """Its last words may still be on their way to the store, and would be there again."""
    await store.write(calls.update, "call_alice_1", ended_at=NOW - timedelta(seconds=1))
    clock = rig.FakeClock()
    here = rig.retention(store, folder, of_all=Periods(), clock=clock)
    waits = await here.erase_call("call_alice_1", "admin")
    assert (waits.erase_asked_at, waits.texts_erased_at) == (NOW, None)
    await store.write(calls.upsert_turn, "call_alice_1", 2, "user", WORDS, 9)
    clock.time = NOW + SETTLE
    await here.asked()
    assert await store.read(calls.turns, "call_alice_1") == []
    assert (await store.read(calls.get, "call_alice_1")).recording_erased_at == clock.time


async def test_message_under_way_is_erased_once_it_is_settled(store, folder):
    """Its text is needed to be sent; the request is not forgotten."""
    await store.write(messages.update, "msg_call_alice_1", send_state="uncertain")
    here = rig.retention(store, folder, of_all=Periods())
    await here.erase_call("call_alice_1", "admin")
    assert (await store.read(messages.get, "msg_call_alice_1")).body == WORDS
    await store.write(messages.update, "msg_call_alice_1", send_state="created")
    await here.asked()
    left = await store.read(messages.get, "msg_call_alice_1")
    assert (left.body, left.to_number) == ("", "erased")
    assert await store.read(due.asked, "transcripts", None, 9) == []


async def test_conversation_that_comes_after_the_erasure_is_not_kept(store, folder):
    """A webhook that is late, or repeated."""
    await rig.retention(store, folder, of_all=Periods()).erase_call("call_alice_1", "admin")
    known = await store.read(conversations.get, "conv_call_alice_1")
    assert known.data == {}
    again = conversations.ConversationRecord(
        "conv_call_alice_1", ALICE, "done", "webhook", NOW, "call_alice_1", {"text": WORDS}
    )
    assert not await store.write(conversations.put, again)
    assert (await store.read(conversations.get, "conv_call_alice_1")).data == {}


# ---- ElevenLabs ----------------------------------------------------------------------------------


async def test_conversations_of_all_agent_legs_are_deleted_at_elevenlabs(store, folder):
    """Those that the record names, and those that ElevenLabs finds by our id; then it is proven, once."""
    copies = rig.FakeCopies({"call_alice_1": ["conv_call_alice_1", "conv_redialled"]})
    here = rig.retention(store, folder, of_all=Periods(), copies=copies)
    await here.erase_call("call_alice_1", "admin")
    item = await store.read(outbox.get, erase.AT_ELEVENLABS, "call_alice_1")
    copies.is_away = True
    with pytest.raises(TryAgain):
        await here.at_elevenlabs(item)
    assert "elevenlabs" not in {one["what"] for one in proofs(store)}
    copies.is_away = False
    await here.at_elevenlabs(item)
    await here.at_elevenlabs(item)  # a daemon died before it could say that it was done
    expected = ["conv_call_alice_1", "conv_call_alice_1_first", "conv_redialled"]
    assert sorted(copies.deleted) == expected
    told = [one for one in proofs(store) if one["what"] == "elevenlabs"]
    assert [sorted(one["conversation_ids"]) for one in told] == [expected]
    assert isinstance(item, OutboxItem)


async def test_conversation_of_no_call_goes_too(store, folder):
    """It came by webhook for a call that nobody knows."""
    stray = conversations.ConversationRecord(
        "conv_stray", ALICE, "done", "webhook", NOW - rig.OLD, None, {"text": WORDS}
    )
    await store.write(conversations.put, stray)
    await rig.retention(store, folder).sweep()
    assert await store.read(conversations.get, "conv_stray") is None
    assert await store.read(outbox.get, erase.AT_ELEVENLABS, "conv_stray") is not None
    assert {"conversation": "conv_stray"} in [one["of"] for one in proofs(store)]
