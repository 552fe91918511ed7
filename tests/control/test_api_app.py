"""What holds for every route: the key, the errors, the limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.refusals import CallNotFound
from control.store import StoreUnavailable
from tests.control.api_rig import KEY, Rig, call, open_rig

OPEN = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"]


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


@pytest.mark.parametrize("path", OPEN)
async def test_open_path_without_key_is_answered(rig: Rig, path: str) -> None:
    """Probes, scrapers and readers need no key."""
    assert (await rig.ask("GET", path, key=None)).status == 200


async def test_every_other_route_without_key_is_401(rig: Rig) -> None:
    """No route of the map is forgotten, with no key, a wrong one, or the wrong scheme."""
    tried = 0
    for rule in rig.app.url_map.iter_rules():
        if rule.rule in OPEN:
            continue
        path = rule.rule.replace("<", "x").replace(">", "")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": f"Basic {KEY}"},
                {"Authorization": "Bearer "},
                {"Authorization": f"Bearer {KEY} x"},
                {"Authorization": "Bearer kéy".encode().decode("latin-1")},
            ):
                answered = await rig.ask(method, path, key=None, headers=headers)
                assert answered.status == 401, (method, path, headers)
                assert answered.headers["WWW-Authenticate"].startswith("Bearer ")
                answered.problem()
                tried += 1
    assert tried > 60


async def test_key_with_scheme_in_other_case_is_accepted(rig: Rig) -> None:
    """The scheme's name is case-insensitive (RFC 9110)."""
    answered = await rig.ask(
        "GET", "/v2/agents", key=None, headers={"Authorization": f"bearer {KEY}"}
    )
    assert answered.status == 200


async def test_unknown_path_is_404_problem(rig: Rig) -> None:
    """With the key; without it nothing is told apart."""
    assert "/v2/nonsense" in (await rig.ask("GET", "/v2/nonsense")).problem()["detail"]
    assert (await rig.ask("GET", "/v2/nonsense")).status == 404
    assert (await rig.ask("GET", "/v2/nonsense", key=None)).status == 401


async def test_wrong_method_is_405_problem_with_allow(rig: Rig) -> None:
    """The answer says what would be allowed."""
    answered = await rig.ask("PUT", "/v2/agents", {})
    assert answered.status == 405
    answered.problem()
    assert {"GET", "POST"} <= set(answered.headers["Allow"].replace(" ", "").split(","))


BODIES = ["/v2/agents", "/v2/calls/initiate", "/v2/policy/check", "/v2/opt-outs"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"{'a': 1}", b'{"a": NaN}', b"\xff\xfe", b"a=1&b=2", b"[" * 5000],
    ids=["empty", "cut", "quotes", "nan", "bytes", "form", "deep"],
)
async def test_body_that_is_no_json_is_400(rig: Rig, path: str, raw: bytes) -> None:
    """Every creating route refuses it before anything happens."""
    answered = await rig.ask("POST", path, raw=raw)
    assert answered.status == 400
    assert answered.fields() == ["body"]
    assert rig.switchboard.asked == []


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [[], "text", 7, None, True], ids=repr)
async def test_body_that_is_no_object_is_422(rig: Rig, path: str, body: Any) -> None:
    """JSON of another shape names the body as what is wrong."""
    raw = b"null" if body is None else None
    answered = await rig.ask("POST", path, body, raw=raw)
    assert answered.status == 422
    assert answered.fields() == ["body"]


async def test_body_over_64_kib_is_413(rig: Rig) -> None:
    """Refused by its declared length; one byte less is read."""
    rest = b'{"e164": "+15550100456", "reason": ""}'
    fits = rest[:-2] + b" " * 0 + b'"' + b" " * (64 * 1024 - len(rest)) + b"}"
    assert len(fits) == 64 * 1024
    assert (await rig.ask("POST", "/v2/opt-outs", raw=fits)).status == 201
    answered = await rig.ask("POST", "/v2/opt-outs", raw=fits + b" ")
    assert answered.status == 413
    assert answered.fields() == ["body"]


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/v2/calls/call_nope", ["call_id"]),
        ("GET", "/v2/agents/agt_nope", ["agent_id"]),
        ("GET", "/v2/tenants/tnt_nope", ["tenant_id"]),
        ("DELETE", "/v2/tenants/tnt_default/keys/key_nope", ["key_id"]),
        ("DELETE", "/v2/opt-outs/+15550100456", ["e164"]),
        ("DELETE", "/v2/webhooks/whk_nope", ["webhook_id"]),
        ("POST", "/v2/calls/call_nope/hangup", ["call_id"]),
        ("GET", "/v2/webhooks/whk_nope/deliveries", ["webhook_id"]),
    ],
)
async def test_what_is_not_there_is_404_naming_the_part_of_the_path(
    rig: Rig, method: str, path: str, fields: list[str]
) -> None:
    """By its name in the OpenAPI document, as a wrong field of a body is named."""
    rig.switchboard.result = CallNotFound("call_nope")
    answered = await rig.ask(method, path)
    assert answered.status == 404
    assert answered.fields() == fields


async def test_body_over_64_kib_in_pieces_is_413(rig: Rig) -> None:
    """Without a declared length it is counted as it comes."""
    client = rig.app.test_client()
    headers = {"Authorization": f"Bearer {KEY}"}
    async with client.request("/v2/opt-outs", method="POST", headers=headers) as connection:
        for _ in range(70):
            await connection.send(b" " * 1024)
        await connection.send_complete()
    response = await connection.as_response()
    assert response.status_code == 413
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_store_that_is_away_is_503_problem(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever route meets it, with a hint when to come back."""

    async def away(*_args: Any, **_kwargs: Any) -> None:
        raise StoreUnavailable("disk on fire")

    monkeypatch.setattr(rig.store, "read", away)
    monkeypatch.setattr(rig.store, "write", away)
    for method, path, body in (
        ("GET", "/v2/calls", None),
        ("GET", "/v2/agents/agt_1", None),
        ("DELETE", "/v2/agents/agt_1", None),
        ("POST", "/v2/opt-outs", {"e164": "+15550100456"}),
    ):
        answered = await rig.ask(method, path, body)
        assert answered.status == 503
        assert "disk on fire" in answered.problem()["detail"]
        assert int(answered.headers["Retry-After"]) > 0


async def test_mistake_of_ours_is_500_problem_without_detail(rig: Rig) -> None:
    """An unexpected exception costs its request, says nothing of itself, and the next one works."""
    rig.switchboard.result = ZeroDivisionError("secret inside")
    answered = await rig.ask("POST", "/v2/calls/call_1/hangup")
    assert answered.status == 500
    assert b"secret" not in answered.raw
    answered.problem()
    assert (await rig.ask("GET", "/healthz")).status == 200


async def test_requests_are_counted_by_route_not_by_path(rig: Rig) -> None:
    """A client cannot make series by inventing paths or methods."""
    await rig.ask("GET", "/v2/calls/call_1")
    await rig.ask("GET", "/v2/calls/call_2")
    await rig.ask("GET", "/some/where")
    await rig.ask("BREW", "/v2/calls")
    page = rig.metrics.render().decode()
    assert (
        'tandem_api_requests_total{method="GET",route="/v2/calls/<call_id>",status="404"} 2.0'
        in page
    )
    assert 'route="other",status="404"} 1.0' in page
    assert "/some/where" not in page
    assert "BREW" not in page


async def test_answers_are_kept_out_of_caches(rig: Rig) -> None:
    """Records hold numbers and words of people."""
    assert (await rig.ask("GET", "/v2/calls")).headers["Cache-Control"] == "no-store"


async def test_readyz_with_everything_there_is_ready(rig: Rig) -> None:
    """Store, workers, not draining."""
    answered = await rig.ask("GET", "/readyz", key=None)
    assert answered.json == {"ready": True, "reasons": [], "workers": 1, "calls": 3}


async def test_readyz_with_things_missing_is_503_with_each_reason(tmp_path: Path) -> None:
    """All reasons at once; liveness stays what it is."""
    with open_rig(tmp_path / "t.db") as rig:
        rig.pool.workers = []
        rig.switchboard.draining = True

        async def away() -> None:
            raise StoreUnavailable("locked")

        rig.store.ping = away  # type: ignore[method-assign]
        answered = await rig.ask("GET", "/readyz", key=None)
        assert answered.status == 503
        assert [reason.split(":")[0] for reason in answered.json["reasons"]] == [
            "store",
            "workers",
            "draining",
        ]
        assert (await rig.ask("GET", "/healthz", key=None)).json == {"status": "ok"}


async def test_metrics_page_holds_live_calls_and_workers(rig: Rig) -> None:
    """What is current is asked for at the scrape; every name is ours."""
    answered = await rig.ask("GET", "/metrics", key=None)
    text = answered.raw.decode()
    assert answered.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "tandem_calls_live 3.0" in text
    assert 'tandem_media_wakes_total{worker="w1"} 7.0' in text
    names = {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}
    assert all(name.startswith("tandem_") for name in names)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'{"metadata": {"a": [1, 10000000000000000000000000]}}', "metadata.a.1"),
        (b'{"metadata": {"a": -9223372036854775809}}', "metadata.a"),
        (b'{"metadata": {"a": ' + b"9" * 60 + b"}}", "metadata.a"),
        (b'{"variables": {"a": 99999999999999999999}}', "variables.a"),
        (b'{"variables": {"a": "x\\u0000"}}', "variables.a"),
        (b'{"metadata": {"a\\u0000": 1}}', "metadata"),
    ],
)
async def test_value_that_no_database_has_is_422_with_its_place(
    rig: Rig, raw: bytes, field: str
) -> None:
    """JSON has integers of any length, and NUL characters; neither came back but as a mistake of ours."""
    body = b'{"agent_id": "agt_0001", "to": "+15550100456", ' + raw[1:]
    answered = await rig.ask("POST", "/v2/calls/initiate", raw=body)
    assert (answered.status, answered.fields()) == (422, [field])
    assert rig.switchboard.asked == []


async def test_value_at_the_edge_of_what_a_database_has_is_kept(rig: Rig) -> None:
    """64 bits, a long fraction, digits in a text, and the word for a NUL."""
    metadata = {"a": 2**63 - 1, "b": -(2**63), "c": 1e300, "d": "9" * 40, "e": "\\u0000"}
    rig.switchboard.result = call(1)
    body = {"agent_id": "agt_0001", "to": "+15550100456", "metadata": metadata}
    assert (await rig.ask("POST", "/v2/calls/initiate", body)).status == 201
    assert rig.switchboard.asked[0]["metadata"] == metadata


@pytest.mark.parametrize(
    ("path", "status", "fields"),
    [
        ("/v2/calls/call_%00", 404, []),
        ("/v2/agents/%00", 404, []),
        ("/v2/calls?agent_id=%00", 422, ["agent_id"]),
        ("/v2/calls?since=0001-01-01T00:00:00%2B23:59", 422, ["since"]),
        ("/v2/calls?until=9999-12-31T23:59:59-23:59", 422, ["until"]),
        ("/v2/stats?until=0001-01-01T00:00:00Z", 422, ["until"]),
    ],
)
async def test_path_and_query_that_no_database_takes_are_no_mistake_of_ours(
    rig: Rig, path: str, status: int, fields: list[str]
) -> None:
    """NUL characters, and moments that are out of range once their offset is counted in."""
    answered = await rig.ask("GET", path)
    assert answered.status == status
    if fields:
        assert answered.fields() == fields
    else:
        answered.problem()


async def test_moment_out_of_range_in_a_body_is_422(rig: Rig) -> None:
    """The policy would count in its zone."""
    for at in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z"):
        body = {"agent_id": "agt_0001", "to": "+15550100456", "at": at}
        answered = await rig.ask("POST", "/v2/policy/check", body)
        assert (answered.status, answered.fields()) == (422, ["at"])
