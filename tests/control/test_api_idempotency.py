"""`Idempotency-Key` on the requests that create."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from control.refusals import CallOver, DialRefused, NotAdmitted, PolicyRefused
from control.store import StoreUnavailable, idempotency
from tests.control.api_rig import DENY, Answered, Rig, call, open_rig

BODY: dict[str, Any] = {"agent_id": "agt_0001", "to": "+15550100456"}
PATH = "/v2/calls/initiate"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def dial(rig: Rig, body: dict[str, Any] | None = None, key: str = "k1") -> Answered:
    return await rig.ask("POST", PATH, body or BODY, headers={"Idempotency-Key": key})


async def test_key_repeated_gets_the_first_answer_and_dials_once(rig: Rig) -> None:
    """Status, body and Location are the stored ones, and the answer says that it is a repeat."""
    rig.switchboard.result = call(1)
    first = await dial(rig)
    rig.switchboard.result = call(2)
    again = await dial(rig)
    assert (again.status, again.json) == (201, first.json)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Content-Type"] == "application/json"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert len(rig.switchboard.asked) == 1
    assert (await dial(rig, key="k2")).json["id"] == "call_0002"


async def test_key_with_another_body_is_422_and_dials_nothing(rig: Rig) -> None:
    """Also on another path; but another spelling of the same JSON is the same request."""
    rig.switchboard.result = call(1)
    await dial(rig)
    answered = await dial(rig, BODY | {"to": "+15550100457"})
    assert answered.status == 422
    assert answered.fields() == ["Idempotency-Key"]
    other = await rig.ask(
        "POST", "/v2/opt-outs", {"e164": BODY["to"]}, headers={"Idempotency-Key": "k1"}
    )
    assert other.status == 422
    spelt = b'{ "to": "+15550100456",\n"agent_id": "agt_0001" }'
    same = await rig.ask("POST", PATH, raw=spelt, headers={"Idempotency-Key": "k1"})
    assert same.status == 201
    assert len(rig.switchboard.asked) == 1


async def test_key_in_flight_is_409(rig: Rig) -> None:
    """A repeat that comes before the first answer does not dial."""
    asked, go_on = trio.Event(), trio.Event()

    async def slow(_asked: dict[str, Any]) -> Any:
        asked.set()
        await go_on.wait()
        return call(1)

    rig.switchboard.result = slow
    answers: list[Answered] = []

    async def first() -> None:
        answers.append(await dial(rig))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await asked.wait()
            again = await dial(rig)
            assert again.status == 409
            again.problem()
            go_on.set()
    assert answers[0].status == 201
    assert (await dial(rig)).json == answers[0].json


async def test_key_of_client_that_went_away_has_its_answer_kept(rig: Rig) -> None:
    """The request is cancelled as the framework does it; its repeat finds the call, and one only."""
    asked, go_on = trio.Event(), trio.Event()

    async def slow(_asked: dict[str, Any]) -> Any:
        asked.set()
        await go_on.wait()
        return call(1)

    rig.switchboard.result = slow
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial, rig)
            await asked.wait()
            nursery.cancel_scope.cancel()
            go_on.set()
    answered = await dial(rig)
    assert (answered.status, answered.json["id"]) == (201, "call_0001")
    assert answered.headers["Idempotent-Replayed"] == "true"
    assert len(rig.switchboard.asked) == 1


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (PolicyRefused(DENY, "call_1"), 403),
        (DialRefused(21211, "bad"), 502),
        (CallOver("hung up before it was dialled"), 409),
    ],
    ids=["policy", "twilio", "hung-up"],
)
async def test_key_of_recorded_refusal_repeats_the_refusal(
    rig: Rig, refusal: Exception, status: int
) -> None:
    """A refusal that left a record is the answer."""
    rig.switchboard.result = refusal
    first = await dial(rig)
    rig.switchboard.result = call(1)
    again = await dial(rig)
    assert (first.status, again.status) == (status, status)
    assert again.json == first.json
    assert again.headers["Content-Type"] == "application/problem+json"


async def test_key_of_request_without_effect_may_be_tried_again(rig: Rig) -> None:
    """No room, or a wrong body: nothing happened, so the key is free."""
    rig.switchboard.result = NotAdmitted("full")
    assert (await dial(rig)).status == 503
    assert (await dial(rig, {"agent_id": "agt_0001"})).status == 422
    rig.switchboard.result = call(1)
    assert (await dial(rig)).status == 201


async def test_key_of_request_that_broke_stays_taken(rig: Rig) -> None:
    """When nobody knows what was done, a repeat must not do it again."""
    for number, failure in enumerate((StoreUnavailable("gone"), ZeroDivisionError())):
        rig.switchboard.result = failure
        assert (await dial(rig, key=f"k{number}")).status in (503, 500)
        rig.switchboard.result = call(1)
        assert (await dial(rig, key=f"k{number}")).status == 409
    assert len(rig.switchboard.asked) == 2


async def test_key_is_new_after_its_time(rig: Rig) -> None:
    """A day later it is forgotten."""
    rig.switchboard.result = call(1)
    await dial(rig)
    rig.clock.forward(idempotency.KEEP.total_seconds() + 1)
    assert "Idempotent-Replayed" not in (await dial(rig)).headers
    assert len(rig.switchboard.asked) == 2


async def test_key_answer_is_given_although_it_could_not_be_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call was made: the client is told so, and a repeat does not make another."""
    rig.switchboard.result = call(1)
    write = rig.store.write

    async def forgetful(fn: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(fn, "func", fn) is idempotency.finish:
            raise StoreUnavailable("gone")
        return await write(fn, *args, **kwargs)

    monkeypatch.setattr(rig.store, "write", forgetful)
    assert (await dial(rig)).status == 201
    assert (await dial(rig)).status == 409
    assert len(rig.switchboard.asked) == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é"])
async def test_key_that_is_none_is_422(rig: Rig, key: str) -> None:
    """Refused before anything is done."""
    header = key.encode().decode("latin-1")
    answered = await rig.ask("POST", PATH, BODY, headers={"Idempotency-Key": header})
    assert answered.status == 422
    assert answered.fields() == ["Idempotency-Key"]
    assert rig.switchboard.asked == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v2/agents",
            {"name": "x", "number": {"e164": "+15550100123"}, "elevenlabs_agent_id": "a"},
        ),
        ("/v2/opt-outs", {"e164": "+15550100123"}),
    ],
)
async def test_key_is_honoured_by_every_creating_route(
    rig: Rig, path: str, body: dict[str, Any]
) -> None:
    """Agents and opt-outs as well: the second answer is the first one."""
    headers = {"Idempotency-Key": "k1"}
    first = await rig.ask("POST", path, body, headers=headers)
    again = await rig.ask("POST", path, body, headers=headers)
    assert (again.status, again.json) == (first.status, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
