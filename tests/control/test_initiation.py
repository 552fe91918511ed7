"""What a call that ElevenLabs carries is told at its beginning."""

from __future__ import annotations

from control.clock import Clock
from control.results.initiation import Initiation
from control.store import Store, agents
from control.store.records import AgentRecord


async def test_native_call_begins_with_the_agents_own_variables(store: Store) -> None:
    """As a call of ours would: place, own words, and every variable of a caller, known or not."""
    now = Clock().now()
    agent = AgentRecord(
        "agt_1", "Desk", now, now, status="live", elevenlabs_agent_id="agent_1",
        number_e164="+14155550199", variables={"office": "Main", "location": "Upstairs"},
    )  # fmt: skip
    await store.write(agents.insert, agent)
    asked = {"caller_id": "+14155550100", "agent_id": "agent_1", "called_number": "+14155550199"}
    told = await Initiation(store).data(asked)
    assert told is not None
    variables = told["dynamic_variables"]
    assert (variables["office"], variables["location"]) == ("Main", "Upstairs")
    assert (variables["caller_number"], variables["earlier_calls"]) == ("+14155550100", 0)
