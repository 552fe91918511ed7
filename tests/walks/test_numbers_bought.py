"""Numbers through the real daemon: a tenant's own, bought in its subaccount over HTTP and found again."""

from __future__ import annotations

from pathlib import Path

import trio

from bench.rig import open_rig

PATIENCE_S = 300.0


async def test_numbers_of_a_tenant_are_bought_in_its_subaccount(tmp_path: Path) -> None:
    """Search, purchase, list; a second tenant has none of it."""
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={}) as rig:
            tenant = await rig.post("/v2/tenants", {"name": "Coastal Group"})
            other = await rig.post("/v2/tenants", {"name": "Other"})
            wish = {"area_code": "843", "tenant_id": tenant["id"]}
            (offer,) = (await rig.get("/v2/numbers/available", limit=1, **wish))["items"]
            number = await rig.post("/v2/numbers", wish)
            assert number["e164"] == offer["e164"]
            owned = rig.twilio.numbers[number["e164"]]
            assert owned.account_sid not in ("", rig.twilio.account_sid)
            assert owned.voice_url.endswith("/twilio/voice")
            assert owned.sms_url.partition("#")[0].endswith("/twilio/sms")
            mine = await rig.get("/v2/numbers", tenant_id=tenant["id"])
            theirs = await rig.get("/v2/numbers", tenant_id=other["id"])
            assert [one["id"] for one in mine["items"]] == [number["id"]]
            assert theirs["items"] == []
