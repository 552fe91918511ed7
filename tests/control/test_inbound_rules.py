"""Rules of inbound calls at the webhook: what they know of the called number's hours, and of who calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control.compliance import facts
from control.store import dnc, routes
from control.store.dnc import BlockRecord
from control.store.routes import NumberRoutesRecord
from policy import evaluate, load_rules
from tests.control.switchboard_rig import AGENT, NOW, OURS, THEIRS, name_of, open_rig
from tests.policy.worlds import nowhere

RULES = ("system", "inb_block", "inb_hours")
"""NOW is a Saturday, 9:00 in London and 4:00 in New York."""


def rule_of(record, rule_id):
    (found,) = [one for one in record.decision["rules"] if one["id"] == rule_id]
    return found


@pytest.mark.parametrize(
    ("hours", "zone", "reason", "is_open"),
    [
        (None, "Europe/London", "always_open", "yes"),
        ({"sat": ["09:00-12:00"]}, "Europe/London", "open", "yes"),
        ({"sat": ["09:00-12:00"]}, "America/New_York", "after_hours", "no"),
        ({"sat": ["08:00-09:00"]}, "Europe/London", "after_hours", "no"),
        ({"fri": ["22:00-09:01"]}, "Europe/London", "open", "yes"),
        ({"fri": ["22:00-09:00"]}, "Europe/London", "after_hours", "no"),
        ({"mon": ["09:00-12:00"]}, "Europe/London", "after_hours", "no"),
        ({"sat": []}, "Europe/London", "after_hours", "no"),
    ],
)
async def test_call_is_judged_by_the_opening_hours_of_the_called_number(
    tmp_path, hours, zone, reason, is_open
):
    """The agent takes the call all the same, and knows; the record says by what."""
    agent = replace(AGENT, hours=hours, timezone=zone)
    async with open_rig(tmp_path, agent=agent, rules=RULES) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        record = await rig.record(call_id)
        assert rule_of(record, "INB-HOURS")["reason"] == reason
        routed = {"kind": "route", "branch": "after_hours"} in record.decision["obligations"]
        assert routed is (is_open == "no")
        assert rig.pool.plans[-1].dynamic_variables["business_open"] == is_open


async def test_rule_and_route_go_by_the_same_hours_and_those_of_the_number_come_first(tmp_path):
    """The number's own hours close it though its agent's would not; the route for that takes the call."""
    agent = replace(AGENT, hours={"sat": ["00:00-24:00"]}, timezone="Europe/London")
    closed = [{"when": {"open": False}, "to": {"message": "We are closed."}}]

    def before(conn):
        hours = {"mon": ["09:00-17:00"]}
        routes.put(
            conn,
            NumberRoutesRecord(
                OURS, NOW, NOW, timezone="Europe/London", hours=hours, routes=closed
            ),
        )

    async with open_rig(tmp_path, agent=agent, rules=RULES, before=before) as rig:
        document = await rig.switchboard.answer(rig.form())
        assert "We are closed." in document
        record = await rig.only_record()
        assert rule_of(record, "INB-HOURS")["reason"] == "after_hours"


async def test_blocked_caller_is_rejected_as_the_first_verb(tmp_path):
    """Twilio does not bill that. Another caller gets through."""

    def before(conn):
        dnc.block(conn, BlockRecord(THEIRS, "threats", NOW - timedelta(days=1)))

    async with open_rig(tmp_path, rules=RULES, before=before) as rig:
        document = await rig.switchboard.answer(rig.form())
        assert document.partition("<Response>")[2].startswith("<Reject")
        record = await rig.only_record()
        assert (record.status, record.result) == ("blocked", "policy")
        assert rule_of(record, "INB-BLOCK")["reason"] == "blocked"
        assert THEIRS not in str(record.decision)
        other = await rig.switchboard.answer(rig.form(sid="CA" + "2" * 32, From="+14155550101"))
        assert "<Stream" in other


def test_store_that_cannot_be_read_lets_nobody_in():
    """Without facts the rules of inbound calls deny and name what they lack."""
    asked = facts.Asked("inbound", "answer", "tnt_default", "agt_1", THEIRS, OURS)
    decision = evaluate(load_rules(RULES, {}, nowhere), facts.bare(asked, NOW))
    found = {one.id: (one.outcome, one.inputs.get("missing")) for one in decision.rules}
    assert found["INB-BLOCK"] == ("deny", "inbound.is_blocked")
    assert found["INB-HOURS"] == ("deny", "inbound")
