"""`/v2/opt-outs`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control.store import opt_outs
from tests.control.api_rig import Rig, open_rig

NUMBER = "+15550100456"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def test_opt_out_added_is_in_force_and_listed(rig: Rig) -> None:
    """201 with the entry; the store has it when the answer is there."""
    answered = await rig.ask("POST", "/v2/opt-outs", {"e164": NUMBER, "reason": "letter"})
    assert answered.status == 201
    entry = answered.json
    assert entry == {
        "e164": NUMBER,
        "tenant_id": "tnt_default",
        "source": "api",
        "reason": "letter",
        "created_at": "2026-11-21T09:00:00Z",
        "call_id": None,
        "evidence": None,
        "scope": None,
    }
    assert await rig.store.read(opt_outs.get, "tnt_default", NUMBER) is not None
    assert (await rig.ask("GET", "/v2/opt-outs")).json == {"items": [entry], "next_cursor": None}


async def test_opt_out_added_again_is_200_with_the_first(rig: Rig) -> None:
    """The first date stays."""
    first = (await rig.ask("POST", "/v2/opt-outs", {"e164": NUMBER})).json
    rig.clock.forward(60)
    again = await rig.ask("POST", "/v2/opt-outs", {"e164": NUMBER, "reason": "other"})
    assert (again.status, again.json) == (200, first)


@pytest.mark.parametrize("path", [f"/v2/opt-outs/{NUMBER}", f"/v2/opt-outs/%2B{NUMBER[1:]}"])
async def test_opt_out_removed_is_204_then_404(rig: Rig, path: str) -> None:
    """With the plus sign escaped or not."""
    await rig.ask("POST", "/v2/opt-outs", {"e164": NUMBER})
    answered = await rig.ask("DELETE", path)
    assert (answered.status, answered.raw) == (204, b"")
    again = await rig.ask("DELETE", path)
    assert again.status == 404
    again.problem()


async def test_opt_out_with_wrong_number_is_422(rig: Rig) -> None:
    """In the body as in the path."""
    assert (await rig.ask("POST", "/v2/opt-outs", {"e164": "911"})).fields() == ["e164"]
    assert (await rig.ask("DELETE", "/v2/opt-outs/911")).fields() == ["e164"]
    body = {"e164": NUMBER, "tenant_id": "tnt_other"}
    assert (await rig.ask("POST", "/v2/opt-outs", body)).fields() == ["tenant_id"]


async def test_opt_outs_listed_in_pages(rig: Rig) -> None:
    """In order of number, each once."""
    numbers = [f"+155501{n:05}" for n in range(5)]
    for number in numbers:
        await rig.ask("POST", "/v2/opt-outs", {"e164": number})
    seen: list[str] = []
    cursor = ""
    for _ in range(3):
        page = (await rig.ask("GET", f"/v2/opt-outs?limit=2{cursor}")).json
        seen += [item["e164"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == numbers
    assert page["next_cursor"] is None
