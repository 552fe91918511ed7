"""Calls of which Twilio told while nobody listened."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta

import pytest

from control import unseen
from control.store import calls as table
from control.store import nodes
from control.twilio.rest import CallSeen, TwilioRefused, TwilioUnreachable
from tests.control.switchboard_rig import NOW, OURS, SID, THEIRS, open_rig

ENDED_AT = NOW - timedelta(seconds=50)
DIED_AT = NOW - timedelta(seconds=90)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nobody waits for callbacks that are under way."""
    monkeypatch.setattr(unseen, "WAIT_S", 0.0)
    monkeypatch.setattr(unseen, "AGAIN_S", 0.0)


def missed(sid: str = SID, **more: object) -> CallSeen:
    given = {"status": "completed", "direction": "inbound", "ended_at": ENDED_AT} | more
    return CallSeen(sid, to=OURS, from_=THEIRS, created_at=NOW, duration_s=7, **given)


def dead_since(at: datetime | None):
    """A former process was heard last at this time."""
    name = _node_name()
    return lambda conn: nodes.beat(conn, name, at or NOW, 0, at)


def _node_name() -> str:
    return f"{socket.gethostname()}|127.0.0.1:8080"


async def heard_until(rig) -> datetime | None:
    return await rig.store.read(nodes.heard_until, rig.switchboard.node)


async def test_call_that_rang_while_the_daemon_was_dead_is_written_down(tmp_path):
    """Complete, at its own time, once; what was refused, what is known, and calls of ours are not."""
    async with open_rig(tmp_path, before=dead_since(DIED_AT)) as rig:
        rig.twilio.ended_answers = [
            [
                missed(),
                missed("CA" + "2" * 32, status="busy"),
                missed("CA" + "3" * 32, direction="outbound-api"),
            ]
        ]
        await rig.until(lambda: rig.switchboard._unseen.heard_until)
        record = await rig.only_record()
        assert (record.twilio_call_sid, record.result, record.blame) == (
            SID,
            "gateway_fault",
            "gateway",
        )
        assert (record.ended_at, record.cost) == (ENDED_AT, {"duration_s": 7})
        ((since, until),) = rig.twilio.looked_back
        assert since == DIED_AT - unseen.MARGIN
        assert until <= rig.switchboard._office.clock.now() - unseen.FRESH
        await rig.status(None, "completed", Direction="inbound", From=THEIRS, To=OURS)
        assert len((await rig.store.read(table.list_calls))[0]) == 1


async def test_call_that_is_going_on_or_written_down_is_not_missed(tmp_path):
    """Twilio's list may be older than what we know."""
    async with open_rig(tmp_path, before=dead_since(DIED_AT)) as rig:
        await rig.switchboard.answer(rig.form())
        rig.switchboard._unseen.deaf()
        rig.twilio.ended_answers = [[missed()], [missed()]]
        await rig.until(lambda: rig.switchboard._unseen.heard_until)
        assert (await rig.only_record()).result is None
        await rig.status(None, "completed")
        rig.expire((await rig.only_record()).id)
        await rig.ended((await rig.only_record()).id)
        rig.twilio.ended_answers = [[missed()]]
        rig.switchboard._unseen.deaf()
        await rig.until(lambda: rig.switchboard._unseen.heard_until)
        assert (await rig.only_record()).result != "gateway_fault"


@pytest.mark.parametrize(
    ("error", "is_asked_again"),
    [(TwilioUnreachable("down"), True), (TwilioRefused(403, 20005, "suspended"), False)],
)
async def test_account_that_does_not_answer_is_asked_again(tmp_path, error, is_asked_again):
    """One that refuses takes no calls either."""
    async with open_rig(tmp_path, before=dead_since(DIED_AT)) as rig:
        rig.twilio.ended_answers = [error, [missed()]]
        await rig.until(lambda: rig.switchboard._unseen.heard_until)
        assert len(rig.twilio.looked_back) == 1 + is_asked_again
        assert len((await rig.store.read(table.list_calls))[0]) == is_asked_again


async def test_sign_of_life_says_until_when_everything_was_heard(tmp_path, monkeypatch):
    """Not before the past has been looked at; not while the store is away."""
    async with open_rig(tmp_path, before=dead_since(DIED_AT)) as rig:
        await rig.until(lambda: rig.switchboard._unseen.heard_until)
        await rig.switchboard._cluster._beat_once()
        assert (await heard_until(rig)) >= NOW
        monkeypatch.setattr(unseen, "WAIT_S", 3_600.0)
        rig.switchboard._unseen.deaf()
        before = await heard_until(rig)
        await rig.switchboard._cluster._beat_once()
        assert await heard_until(rig) == before


async def test_daemon_that_is_here_for_the_first_time_looks_back_to_its_start(tmp_path):
    """Killed at once, it has nevertheless left word of when it began."""
    async with open_rig(tmp_path) as rig:
        assert (await heard_until(rig)) >= NOW
