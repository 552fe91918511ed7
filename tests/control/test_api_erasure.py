"""`POST /v2/calls/{id}/erase` and a tenant's `retention`, over the API, with keys of several tenants."""

from __future__ import annotations

import dataclasses
import json

import pytest

from control.cli_policy import in_words
from control.config import RetentionSettings
from control.retention.periods import Periods
from control.store import Store, calls, decisions, idempotency, tenant_keys
from control.store.records import TenantKeyRecord
from control.tenants import keys
from tests.control import retention_rig
from tests.control.api_rig import KEY, SETTINGS, Rig
from tests.control.retention_rig import ALICE, BOB, NOW, PERSON

CALL = "/v2/calls/call_alice_1"
ERASE = f"{CALL}/erase"


@pytest.fixture
def rig(store_url, tmp_path):
    store = Store.open(store_url)
    folder = tmp_path / "recordings"

    def filled(conn):
        retention_rig.fill(conn, folder)
        for name, tenant_id, scopes in (
            ("alice", ALICE, [keys.TENANT]),
            ("alice_writes", ALICE, ["calls:write", "calls:read"]),
            ("alice_erases", ALICE, ["calls:erase"]),
            ("bob", BOB, [keys.TENANT]),
        ):
            digest = keys.digest(f"tdm_{name}")
            record = TenantKeyRecord(f"key_{name}", tenant_id, name, digest, "tdm_", scopes, NOW)
            tenant_keys.insert(conn, record)

    store._write_now(filled)
    made = Rig(
        store, retention=retention_rig.retention(store, folder, of_all=Periods(), node="here")
    )
    made.folder = folder
    yield made
    store.close()


@pytest.mark.parametrize("key", [KEY, "tdm_alice", "tdm_alice_erases"])
async def test_call_is_erased_by_the_operator_and_by_its_tenant(rig, key):
    """200 with what was erased; the record shows it; the recording is 404; a repeat changes nothing."""
    answered = await rig.ask("POST", ERASE, key=key)
    assert answered.status == 200
    assert answered.json["is_done"] is True
    assert answered.json["transcripts_at"] == answered.json["asked_at"] is not None
    shown = (await rig.ask("GET", CALL)).json
    assert (shown["to"], shown["summary"], shown["transcript"]) == ("erased", None, [])
    assert shown["erased"] == answered.json
    assert "url" not in shown["recording"]
    assert PERSON not in json.dumps(shown)
    assert (await rig.ask("GET", f"{CALL}/recording")).status == 404
    assert (await rig.ask("POST", ERASE, key=key)).json == answered.json
    told = [
        one
        for one in await rig.store.read(decisions.of_call, "call_alice_1")
        if one.phase == "erased" and "call" in one.decision["of"]
    ]
    assert {one.decision["what"] for one in told} == {"transcripts", "recordings", "numbers"}
    assert len(told) == 3
    by = "admin" if key == KEY else key.replace("tdm", "key")
    assert {one.decision["rule"] for one in told} == {f"asked for by {by}"}
    assert "ERASED: transcripts" in " ".join(" ".join(in_words(one.decision)) for one in told)
    assert not (await rig.store.read(decisions.verify)).flaws


async def test_another_tenants_call_is_answered_like_one_that_is_not_there(rig):
    """And nothing is erased."""
    theirs = await rig.ask("POST", ERASE, key="tdm_bob")
    nobodys = await rig.ask("POST", "/v2/calls/call_none/erase", key="tdm_bob")
    assert theirs.status == nobodys.status == 404
    assert theirs.raw.replace(b"call_alice_1", b"call_none") == nobodys.raw
    record = await rig.store.read(calls.get, "call_alice_1")
    assert record.erase_asked_at is None
    assert record.summary


async def test_writing_calls_is_not_enough_to_erase_them(rig):
    """The scope has to be given by name."""
    refused = await rig.ask("POST", ERASE, key="tdm_alice_writes")
    assert refused.status == 403
    assert "calls:erase" in refused.problem()["detail"]


async def test_call_that_lasts_is_409(rig):
    """It has to be hung up first."""

    def go_on(conn):
        calls.update(conn, "call_alice_1", ended_at=None, status="in-progress")

    await rig.store.write(go_on)
    assert (await rig.ask("POST", ERASE)).status == 409


async def test_recording_on_another_machine_is_202_until_that_one_has_erased_it(rig):
    """What is in the store goes at once."""

    def elsewhere(conn):
        calls.update(
            conn, "call_alice_1", node="there", recording={"path": "/nowhere/call_alice_1.wav"}
        )

    await rig.store.write(elsewhere)
    answered = await rig.ask("POST", ERASE)
    assert answered.status == 202
    assert (answered.json["is_done"], answered.json["recordings_at"]) == (False, None)
    there = retention_rig.retention(rig.store, rig.folder, node="there", of_all=Periods())
    await there.asked()
    assert (await rig.ask("POST", ERASE)).status == 200


async def test_answer_kept_for_a_repeated_request_loses_the_number_too(rig):
    """For a day a repeated `POST` is answered with what was answered."""
    body = json.dumps({"id": "call_alice_1", "to": PERSON, "metadata": {"crm": PERSON}})

    def answered(conn):
        idempotency.claim(conn, ALICE, "k", "f", NOW)
        idempotency.finish(conn, ALICE, "k", 201, {}, body)

    await rig.store.write(answered)
    await rig.ask("POST", ERASE)
    kept = await rig.store.write(idempotency.claim, ALICE, "k", "f", NOW)
    assert kept.outcome == idempotency.REPLAY
    assert PERSON not in kept.body


# ---- periods -------------------------------------------------------------------------------------


async def test_tenants_periods_are_set_shown_and_taken_away(rig):
    """0 is kept, null is what the configuration says."""
    path = f"/v2/tenants/{ALICE}"
    given = {"retention": {"transcripts_days": 30, "numbers_days": 36}}
    changed = await rig.ask("PATCH", path, given, key="tdm_alice")
    assert changed.status == 200
    shown = {"transcripts_days": 30, "recordings_days": 0, "numbers_days": 36}
    assert changed.json["retention"] == shown
    assert (await rig.ask("GET", path)).json["retention"] == shown
    back = await rig.ask("PATCH", path, {"retention": {"transcripts_days": None}})
    assert back.json["retention"] == shown | {"transcripts_days": 0}


@pytest.mark.parametrize(
    "retention",
    [{"numbers_days": 35}, {"transcripts_days": -1}, {"recordings_days": "x"}, {"days": 1}, 5],
    ids=str,
)
async def test_period_that_cannot_be_is_422(rig, retention):
    """Caps look back 35 days: a number has to be known for longer."""
    answered = await rig.ask("PATCH", f"/v2/tenants/{ALICE}", {"retention": retention})
    assert answered.status == 422
    assert answered.fields()[0].startswith("retention")


async def test_tenant_may_not_keep_longer_than_the_operator(rig):
    """Earlier it may; the admin may do both."""
    limited = dataclasses.replace(SETTINGS, retention=RetentionSettings(transcripts_days=30))
    api, path = Rig(rig.store, settings=limited), f"/v2/tenants/{ALICE}"
    for days in (31, 0):
        asked = {"retention": {"transcripts_days": days}}
        assert (await api.ask("PATCH", path, asked, key="tdm_alice")).status == 403
        assert (await api.ask("PATCH", path, asked)).status == 200
    asked = {"retention": {"transcripts_days": 29}}
    assert (await api.ask("PATCH", path, asked, key="tdm_alice")).status == 200
    assert (await api.ask("PATCH", path, asked, key="tdm_bob")).status == 404
