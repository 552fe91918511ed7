"""What is sent to ElevenLabs, against what ElevenLabs documents; and that it says all that calls rely on."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.sim_elevenlabs import fields
from control import verticals
from control.elevenlabs import agent_body
from control.elevenlabs.agent_body import VARIABLES, Attached, Defaults
from control.provisioning.client_tools import definitions
from control.routing import callers
from control.store.records import AgentRecord

AT = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
DEFAULTS = Defaults("gemini-2.5-flash", "eleven_flash_v2_5", "voice_1")
ATTACHED = Attached(["tool_1"], ("kb_1", "site"))
SPECS = os.environ.get("TANDEM_SPECS", "")
"""A folder with ElevenLabs' REST models as JSON Schema: `elevenlabs/rest_models*.json`."""


def agent(**more: Any) -> AgentRecord:
    """One with everything."""
    columns: dict[str, Any] = {
        "location": {"city": "Paris"},
        "timezone": "Europe/Paris",
        "hours": {"mon": ["09:00-17:00"]},
        "variables": {"office": "Main"},
        "settings": {"language": "fr", "max_call_s": 600},
    }
    return AgentRecord("agt_1", "Coastal", AT, AT, **columns | more)


def bodies() -> list[dict[str, Any]]:
    made = [
        agent_body.whole(agent(vertical=name), vertical, DEFAULTS, ATTACHED)
        for name, vertical in verticals.load().items()
    ]
    own = {"prompt": "You are {business}, {{mood}}.", "first_message": "Hi", "voice_id": "v"}
    return [*made, agent_body.adopted(agent(settings=own, extractions={"a": "string"}))]


@pytest.mark.parametrize("body", bodies(), ids=lambda body: body.get("name", "adopted")[-20:])
def test_body_has_only_fields_and_values_that_are_documented(body: dict[str, Any]) -> None:
    """As the simulator knows them."""
    assert list(fields.unknown(body, fields.CREATE_AGENT)) == []
    assert list(fields.wrong_values(body)) == []


@pytest.mark.parametrize("body", bodies(), ids=lambda body: body.get("name", "adopted")[-20:])
def test_body_fits_the_services_own_models(body: dict[str, Any]) -> None:
    """Types, enumerations, and not one field that the models do not have."""
    models = _models()
    jsonschema = pytest.importorskip("jsonschema")
    for part, model in (
        ("conversation_config", "ConversationalConfig"),
        ("platform_settings", "AgentPlatformSettingsRequestModel"),
    ):
        schema = {"$ref": f"#/$defs/{model}", "$defs": models["$defs"]}
        if part in body:
            jsonschema.Draft202012Validator(schema).validate(body[part])
            assert _strangers(body[part], schema, models["$defs"], part) == []


def test_tools_of_the_gateway_are_ones_that_the_service_takes() -> None:
    """Documented fields, a name, a description, a time-out within its bounds."""
    for config in definitions():
        assert list(fields.unknown({"tool_config": config}, fields.CREATE_TOOL)) == []
        assert config["name"].isidentifier()
        assert config["description"]
        assert 1 <= config["response_timeout_secs"] <= 120


def test_variables_that_a_prompt_may_use_are_those_that_calls_bring() -> None:
    """All that is known of a caller, and nothing that nobody fills."""
    assert set(callers.NAMES) < set(VARIABLES)
    assert "caller_calls_before" not in VARIABLES


def test_dynamic_variables_all_have_a_value_to_fall_back_on() -> None:
    """A name without one would end every conversation before it began."""
    own = {"prompt": "{{mood}} {{ spaced }} {{system__time}} {{office}}", "first_message": "{{hi}}"}
    body = agent_body.whole(agent(settings=own), verticals.load()["generic"], DEFAULTS, Attached())
    placeholders = body["conversation_config"]["agent"]["dynamic_variables"][
        "dynamic_variable_placeholders"
    ]
    assert placeholders.keys() >= {"mood", "spaced", "hi", "gw_call_id", "location"}
    assert placeholders["office"] == "Main"
    assert not any(name.startswith("system__") for name in placeholders)


def test_voice_is_the_requests_then_the_verticals_then_the_configurations() -> None:
    """And none at all leaves it to the service."""
    generic = verticals.load()["generic"]
    spoken = generic.model_copy(update={"voice": verticals.Voice(voice_id="v_vertical")})

    def voice(record: AgentRecord, vertical: verticals.Vertical, defaults: Defaults) -> Any:
        body = agent_body.whole(record, vertical, defaults, Attached())
        return body["conversation_config"]["tts"].get("voice_id")

    assert voice(agent(settings={"voice_id": "v_own"}), spoken, DEFAULTS) == "v_own"
    assert voice(agent(settings={}), spoken, DEFAULTS) == "v_vertical"
    assert voice(agent(settings={}), generic, DEFAULTS) == "voice_1"
    assert voice(agent(settings={}), generic, Defaults("llm", "tts")) is None


def _models() -> Any:
    found = sorted(Path(SPECS, "elevenlabs").glob("rest_models*.json")) if SPECS else []
    if not found:
        pytest.skip("TANDEM_SPECS names no folder with ElevenLabs' models")
    models = json.loads(found[-1].read_text())
    # The file that was derived from the package has lost this reference: it allows null alone there.
    reference = {"$ref": "#/$defs/DynamicVariablesConfig"}
    models["$defs"]["AgentConfig"]["properties"]["dynamic_variables"] = reference
    return models


def _strangers(value: Any, schema: Any, defs: Any, path: str) -> list[str]:
    """Fields that no model names; where a value may be of several, one of them has to know it."""
    if isinstance(value, list):
        items = [schema.get("items", {}) for schema in _resolved(schema, defs)]
        return [
            one
            for number, item in enumerate(value)
            for one in min(
                (_strangers(item, inner, defs, f"{path}.{number}") for inner in items),
                key=len,
                default=[],
            )
        ]
    if not isinstance(value, dict):
        return []
    return min(
        (_strange_fields(value, one, defs, path) for one in _resolved(schema, defs)),
        key=len,
        default=[],
    )


def _strange_fields(value: Any, model: Any, defs: Any, path: str) -> list[str]:
    properties = model.get("properties")
    found = []
    for name, inner in value.items():
        place = f"{path}.{name}"
        if properties is None:
            further = model.get("additionalProperties")
            schema = further if isinstance(further, dict) else {}
        elif name not in properties:
            found.append(place)
            continue
        else:
            schema = properties[name]
        found += _strangers(inner, schema, defs, place)
    return found


def _resolved(schema: Any, defs: Any) -> list[Any]:
    if "$ref" in schema:
        return _resolved(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return [one for inner in schema["anyOf"] for one in _resolved(inner, defs)]
    return [schema]
