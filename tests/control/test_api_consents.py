"""`/v2/consents`, files of lists, and what operators grant tenants."""

import pytest

from control.compliance import profile
from control.store import consents, dnc, opt_outs
from tests.control.api_rig import open_rig

NUMBER = "+15550100456"
GRANT = {
    "e164": NUMBER,
    "seller": "Acme",
    "channels": ["voice_ai"],
    "purposes": ["informational"],
    "level": "express",
    "occurred_at": "2026-11-01T10:00:00Z",
}
POLICY = "/v2/tenants/tnt_default/policy"


@pytest.fixture
def rig():
    with open_rig() as opened:
        yield opened


async def test_consent_is_recorded_listed_and_its_withdrawal_kept(rig):
    """DELETE says when it was withdrawn; the grant stays evidence. A second one changes nothing."""
    made = await rig.ask("POST", "/v2/consents", GRANT | {"location": {"postcode": "10001"}})
    assert made.status == 201
    assert made.json["location"] == {"postcode": "10001"}
    path = f"/v2/consents/{made.json['id']}"
    assert (await rig.ask("DELETE", path)).status == 204
    rig.clock.forward(60)
    assert (await rig.ask("DELETE", path)).status == 204
    (item,) = (await rig.ask("GET", f"/v2/consents?e164=%2B{NUMBER[1:]}")).json["items"]
    assert item["revoked_at"] == "2026-11-21T09:00:00Z"
    assert (await rig.ask("DELETE", "/v2/consents/cns_none")).status == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"level": "oral"}, "level"),
        ({"channels": []}, "channels"),
        ({"purposes": ["sales"]}, "purposes.0"),
        ({"occurred_at": "2027-11-01T10:00:00Z"}, "occurred_at"),
        ({"last_verified_at": "2027-11-01T10:00:00Z"}, "last_verified_at"),
        ({"occurred_at": "2026-11-01T10:00:00"}, "occurred_at"),
        ({"expires_at": "2026-10-01T10:00:00Z"}, "expires_at"),
        ({"level": "written_signed"}, "disclosure_text"),
        ({"e164": "15550100456"}, "e164"),
    ],
)
async def test_consent_that_proves_nothing_is_refused(rig, change, field):
    """The field is named; nothing is recorded."""
    answered = await rig.ask("POST", "/v2/consents", GRANT | change)
    assert answered.status == 422
    assert [one["field"] for one in answered.json["errors"]] == [field]
    assert (await rig.ask("GET", "/v2/consents")).json["items"] == []


async def test_opt_outs_go_in_and_out_as_csv(rig):
    """Every wrong line named and nothing imported; then all of it, and out again."""
    bad = b"e164,reason\n+15550100456,ok\nnonsense,x\n"
    answered = await rig.ask("POST", "/v2/opt-outs/import", raw=bad)
    assert answered.status == 422
    assert answered.json["errors"][0]["field"] == "line 3: e164"
    assert await rig.store.read(opt_outs.get, "tnt_default", NUMBER) is None
    good = b"e164,reason\n+15550100456,ok\n+15550100457,\n"
    assert (await rig.ask("POST", "/v2/opt-outs/import", raw=good)).json == {"lines": 2, "added": 2}
    assert (await rig.ask("POST", "/v2/opt-outs/import", raw=good)).json["added"] == 0
    text = (await rig.ask("GET", "/v2/opt-outs/export")).raw.decode()
    assert text.splitlines()[1].startswith("+15550100456,ok,import,2026-11-21T09:00:00Z")


async def test_consents_go_in_and_out_as_csv(rig):
    """What comes out can go in again."""
    head = "e164,seller,channels,purposes,level,occurred_at"
    line = f"{NUMBER},Acme,voice_ai|sms,informational,express,2026-11-01T10:00:00Z"
    raw = f"{head}\n{line}\n".encode()
    assert (await rig.ask("POST", "/v2/consents/import", raw=raw)).json == {"lines": 1, "added": 1}
    exported = (await rig.ask("GET", "/v2/consents/export")).raw
    assert (await rig.ask("POST", "/v2/consents/import", raw=exported)).json["added"] == 1
    one, two = await rig.store.read(consents.of_number, "tnt_default", NUMBER)
    assert (one.channels, one.purposes) == (two.channels, two.purposes)


async def test_withdrawn_consent_does_not_come_back_with_a_file(rig):
    """Neither from our own export nor from a list that still has it; a later grant is another one."""
    made = await rig.ask("POST", "/v2/consents", GRANT)
    await rig.ask("DELETE", f"/v2/consents/{made.json['id']}")
    exported = (await rig.ask("GET", "/v2/consents/export")).raw
    assert (await rig.ask("POST", "/v2/consents/import", raw=exported)).status == 200
    head = "e164,seller,channels,purposes,level,occurred_at"
    same = (
        f"{head}\n{NUMBER},ACME,voice_ai|sms,informational,express,2026-11-02T10:00:00Z\n".encode()
    )
    assert (await rig.ask("POST", "/v2/consents/import", raw=same)).json["added"] == 1
    assert (await rig.ask("POST", "/v2/consents", GRANT)).json["revoked_at"] is not None
    listed = (await rig.ask("GET", "/v2/consents")).json["items"]
    assert len(listed) == 4
    assert {one["revoked_at"] for one in listed} == {"2026-11-21T09:00:00Z"}
    rig.clock.forward(60)
    for change in (
        {"seller": "Other"},
        {"channels": ["sms"]},
        {"occurred_at": "2026-11-21T09:00:30Z"},
    ):
        fresh = await rig.ask("POST", "/v2/consents", GRANT | change | {"e164": NUMBER})
        expected = None if "channels" not in change else "2026-11-21T09:00:00Z"
        assert fresh.json["revoked_at"] == expected, change


async def test_file_with_what_has_not_happened_yet_is_refused(rig):
    """The line and the field are named."""
    head = "e164,seller,channels,purposes,level,occurred_at,last_verified_at"
    lines = [
        f"{NUMBER},Acme,voice_ai,informational,express,2026-11-01T10:00:00Z,",
        f"{NUMBER},Acme,voice_ai,informational,express,2026-11-22T10:00:00Z,",
        f"{NUMBER},Acme,voice_ai,informational,express,2026-11-01T10:00:00Z,2027-11-01T10:00:00Z",
    ]
    raw = "\n".join([head, *lines]).encode()
    answered = await rig.ask("POST", "/v2/consents/import", raw=raw)
    assert answered.status == 422
    fields = [one["field"] for one in answered.json["errors"]]
    assert fields == ["line 3: occurred_at", "line 4: last_verified_at"]
    assert (await rig.ask("GET", "/v2/consents")).json["items"] == []


async def test_operator_grants_a_tenant_and_a_wrong_grant_names_its_field(rig):
    """What is not known of is refused: a misspelt switch must not look granted."""
    given = {"seller": "Acme LLC", "regions": ["US", "CA"], "registrations": ["TX"]}
    answered = await rig.ask("PUT", POLICY, {"profile": given})
    assert answered.status == 200
    kept = profile.read(await rig.store.read(dnc.get_profile, "tnt_default"))
    facts = profile.as_facts(kept, "active", "Default")
    assert (facts.seller, facts.regions) == ("Acme LLC", frozenset({"US", "CA"}))
    assert (await rig.ask("GET", POLICY)).json["profile"]["regions"] == ["CA", "US"]
    wrong = await rig.ask("PUT", POLICY, {"profile": {"switches": ["anything_goes"]}})
    assert wrong.status == 422
    assert wrong.json["errors"][0]["field"] == "profile.switches"
    assert (await rig.ask("PUT", "/v2/tenants/tnt_none/policy", {"profile": {}})).status == 404
