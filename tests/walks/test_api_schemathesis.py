"""The daemon's API against its own OpenAPI document, with requests that schemathesis makes up.

No 5xx but the documented ones, no undocumented status, media type or shape. The simulated providers stand
behind it, so that what a request sets going is done, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings

from bench.rig import Rig, open_rig
from bench.sim_elevenlabs import AgentScript

schemathesis = pytest.importorskip("schemathesis")
FailureGroup = pytest.importorskip("schemathesis.core.failures").FailureGroup
conformance = pytest.importorskip("schemathesis.specs.openapi.checks")
pytestmark = pytest.mark.filterwarnings("default")

CHECKS = [
    pytest.importorskip("schemathesis.checks").not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
]
EXAMPLES = 12
"""Requests for each route: the whole stays under half a minute."""
TIMEOUT_S = 20.0
UNTRIED = frozenset(
    {
        # Answers of any length, and no parameter to try.
        "metrics",
        "docs",
        "openapi",
    }
)


async def test_api_answers_what_its_document_says(tmp_path: Path) -> None:
    """Every operation, with valid and broken parameters and bodies."""
    async with open_rig(tmp_path, agents={"agent_1": AgentScript()}) as rig:
        await rig.create_agent("+14155550199", "agent_1")
        tried = await trio.to_thread.run_sync(_try_all, rig, rig.api.headers["Authorization"])
    assert tried > 25


async def test_api_answers_a_tenant_what_its_document_says(tmp_path: Path) -> None:
    """The same with a tenant's key: what is not its own is a documented refusal on every route."""
    async with open_rig(tmp_path, agents={"agent_1": AgentScript()}) as rig:
        tenant = await rig.post("/v2/tenants", {"name": "Coastal Group"})
        path = f"/v2/tenants/{tenant['id']}"
        limits = {"limits": {"requests_per_s": 1000.0}}
        assert (await rig.api.patch(path, json=limits)).status_code == 200
        key = (await rig.post(f"{path}/keys"))["key"]
        await rig.create_agent("+14155550199", "agent_1")  # of the default tenant: not its own
        tried = await trio.to_thread.run_sync(_try_all, rig, f"Bearer {key}")
        alive = await rig.api.get("/v2/agents", headers={"Authorization": f"Bearer {key}"})
        assert alive.status_code == 200  # or all of it was tried with a key that counts no more
    assert tried > 25


def _try_all(rig: Rig, authorization: str) -> int:
    base = str(rig.api.base_url).rstrip("/")
    headers = {"Authorization": authorization}
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    tried, wrong = 0, []
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.definition.raw["operationId"] in UNTRIED:
            continue
        try:
            _try(operation, base, headers)
        except (
            AssertionError,
            FailureGroup,
        ) as error:  # every route is tried, then all that failed is told
            wrong.append(f"{operation.method} {operation.path}: {_words(error)}")
        tried += 1
    assert not wrong, "\n".join(wrong)
    return tried


def _words(error: BaseException) -> str:
    inner = getattr(error, "exceptions", ())
    return "\n".join([str(error)[:1500], *(str(one)[:1500] for one in inner)])


def _try(operation: Any, base: str, headers: dict[str, str]) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def each(case: Any) -> None:
        response = case.call(base_url=base, headers=headers, timeout=TIMEOUT_S)
        case.validate_response(response, checks=CHECKS)

    each()
