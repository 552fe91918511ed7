"""A row is played, and what it has cost is compared with what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from bench.checker import check, read_history
from bench.hearing import begins, share
from bench.sim_twilio import SimCall
from bench.sim_twilio.sound import RATE_HZ
from tests.faults.bed import Bed, until_heard
from tests.faults.rows import DISTURBANCES, GREETING, QUESTION, REPLY, Row

PAUSE_S = 1.0
"""Between the fault's end and the caller's words: an agent that greets anew is not talked over."""
SAY_AGAIN_S = 3.0
"""Nobody answers: the caller says it again."""
LOOK_EVERY_S = 0.2
UNRUNG_S = 180.0
"""A call whose dial request was not answered is looked for for two minutes."""
WHOLE = 0.9
"""Of what is said in one go. Less than all, because a late machine may leave a gap inside."""
PART = 0.4
"""Of a greeting, into which faults come, and callers."""
AT_ONCE = 3
"""Rows under way at a time: a simulator with more to do than its core gives is late itself."""
LATE_MAX_MS = 30.0
"""A simulator that was this late runs on a machine on which nobody's playout can be judged."""
ROW_LATE_MAX_MS = 250.0
"""Nor anything else, when it was that late: its frames and its goodbyes miss the deadlines of anybody."""
GREETING_ULAW = GREETING.encoded("ulaw_8000")
REPLY_ULAW = REPLY.encoded("ulaw_8000")


class MachineWasLate(Exception):
    """Something is not as it should be, but on a machine that kept nobody's time: nothing is proven."""


@dataclass(frozen=True, slots=True)
class Played:
    """What became of a row."""

    call: SimCall | None
    """None: Twilio made none."""
    record: dict[str, Any]
    fault_at: int
    """Where on the caller's line the fault began, in samples."""
    gap_s: float | None
    """Until the caller was answered; None: never."""


async def play(bed: Bed, row: Row) -> Played:
    """One row, from the call to its record."""
    if row.prepare is not None:
        row.prepare(bed, row)
    if not row.rings:
        await bed.order(row)
        return Played(None, await _unrung(bed, row), 0, None)
    async with trio.open_nursery() as nursery:
        if row.meanwhile is not None:
            nursery.start_soon(row.meanwhile, bed, row)
        call = await bed.call(row)
    await (until_heard(call) if row.hears else _until_joined(bed, row, call))
    fault_s = trio.current_time()
    if row.act is not None:
        await row.act(bed, row, call)
    gap_s = None
    if row.talks:
        await trio.sleep(PAUSE_S)
        if await _is_answered(bed, row, call, _place(call, trio.current_time())):
            gap_s = trio.current_time() - fault_s
        call.hang_up()
    await call.settled()
    record = await bed.rig.record_of(call.sid, timeout_s=40.0)
    return Played(call, record, _place(call, fault_s), gap_s)


async def _unrung(bed: Bed, row: Row) -> dict[str, Any]:
    """The record of a call that was ordered and never made, once it is closed."""
    agent_id = bed.rig.agents[row.name]
    with trio.fail_after(UNRUNG_S):
        while True:
            (item,) = (await bed.rig.get("/v2/calls", agent_id=agent_id))["items"]
            if item["ended_at"]:
                found: dict[str, Any] = await bed.rig.get(f"/v2/calls/{item['id']}")
                return found
            await trio.sleep(LOOK_EVERY_S)


async def _until_joined(bed: Bed, row: Row, call: SimCall) -> None:
    """Until the caller's voice reaches an agent who says nothing."""
    while not call.is_over and not any(talk.received for talk in bed.conversations(row)):
        await trio.sleep(0.02)


def _place(call: SimCall, at_s: float) -> int:
    first_s = call.first_stream_s
    return 0 if first_s is None else max(0, round((at_s - first_s) * RATE_HZ))


async def _is_answered(bed: Bed, row: Row, call: SimCall, since: int) -> bool:
    """Speak, and again if need be, until the reply is heard (or, if there is none, the agent has heard us)."""
    assert row.gap_max_s is not None
    with trio.move_on_after(row.gap_max_s + QUESTION.duration_s + PAUSE_S):
        while not call.is_over:
            call.say(QUESTION.ulaw)
            with trio.move_on_after(QUESTION.duration_s + SAY_AGAIN_S):
                while not _is_there(bed, row, call, since):
                    await trio.sleep(LOOK_EVERY_S)
                with trio.CancelScope(shield=True):
                    await trio.sleep(GREETING.duration_s + 0.3)  # hear it out
                return True
    return False


def _is_there(bed: Bed, row: Row, call: SimCall, since: int) -> bool:
    if row.answers:
        return begins(REPLY_ULAW, call.heard[since:]) is not None
    return any(share(QUESTION.ulaw, talk.received_ulaw) >= WHOLE for talk in bed.conversations(row))


# ---- the verdict ---------------------------------------------------------------------------------


def judge(bed: Bed, row: Row, played: Played) -> Iterator[str]:
    """Everything in which a row has cost something else than it says."""
    call, record = played.call, played.record
    if call is None and (made := bed.dialled()):
        yield f"Twilio has made {made} calls"
    for key in ("status", "result", "blame", "reason"):
        if record[key] != getattr(row, key):
            yield f"{key} is {record[key]!r}, not {getattr(row, key)!r}"
    if (found := _heard(call)) != row.hears:
        yield f"the caller heard {sorted(found)}, not {sorted(row.hears)}"
    yield from _timeline(row, [line["name"] for line in record["timeline"]])
    if row.talks:
        yield from _talk(bed, row, played)


def _heard(call: SimCall | None) -> frozenset[str]:
    found: set[str] = set()
    if call is None:
        return frozenset(found)
    if share(GREETING_ULAW, call.heard) >= PART or share(REPLY_ULAW, call.heard) >= WHOLE:
        found.add("agent")
    if call.heard_texts:
        found.add("apology")
    return frozenset(found)


def _timeline(row: Row, names: list[str]) -> Iterator[str]:
    rest = iter(names)
    for wanted in row.timeline:
        if wanted not in rest:  # consumes as far as the line that it finds
            yield f"the timeline has no {wanted!r} in its place: {names}"
            return
    if more := (DISTURBANCES & set(names)) - set(row.timeline):
        yield f"the timeline has {sorted(more)}"


def _talk(bed: Bed, row: Row, played: Played) -> Iterator[str]:
    assert played.call is not None
    if played.gap_s is None:
        yield "nobody answered the caller after the fault"
        return
    spoken_s = PAUSE_S + QUESTION.duration_s + GREETING.duration_s + 0.3
    bed.gaps_s[row.name] = gap_s = max(0.0, played.gap_s - spoken_s)
    if row.gap_max_s is not None and gap_s > row.gap_max_s:
        yield f"the caller was answered after {gap_s:.1f} s, not {row.gap_max_s:g} s"
    if row.answers and (part := share(REPLY_ULAW, played.call.heard[played.fault_at :])) < WHOLE:
        yield f"the caller heard {part:.0%} of the agent's reply"
    parts = [share(QUESTION.ulaw, talk.received_ulaw) for talk in bed.conversations(row)]
    if max(parts, default=0.0) < WHOLE:
        yield f"the agent heard {max(parts, default=0.0):.0%} of the caller"


async def play_all(bed: Bed, rows: Sequence[Row]) -> dict[str, str]:
    """All rows, some at once; what is wrong, by row, and for `bystanders` and `checker`.

    Raises MachineWasLate when all that is wrong may be the machine's fault.
    """
    played: dict[str, Played] = {}
    await bed.listen(min(row.bystanders for row in rows))

    few = trio.CapacityLimiter(AT_ONCE)

    async def one(row: Row) -> None:
        async with few:
            played[row.name] = await play(bed, row)

    async with trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(one, row)
    failures = {row.name: "; ".join(judge(bed, row, played[row.name])) for row in rows}
    for row in rows:
        if row.then is not None and (problem := await row.then(bed, played[row.name].record["id"])):
            failures[row.name] = "; ".join(filter(None, (failures[row.name], problem)))
    unproven = {row.name for row in rows if _late_ms(played[row.name].call) > ROW_LATE_MAX_MS}
    failures["bystanders"], is_conclusive = await _bystanders(bed)
    failures["faults"] = ", ".join(bed.rig.twilio.faults.unused)
    history = read_history(bed.rig.twilio, bed.rig.elevenlabs, bed.rig.folder / "tandem.db")
    failures["checker"] = "; ".join(check(history))
    unproven |= {"checker"} if unproven else set()  # the simulators' own watches run late, too
    unproven |= set() if is_conclusive else {"bystanders"}
    found = {name: text for name, text in failures.items() if text}
    if found and not found.keys() - unproven:
        raise MachineWasLate("; ".join(f"{name}: {text}" for name, text in found.items()))
    return {name: text for name, text in found.items() if name not in unproven}


def _late_ms(call: SimCall | None) -> float:
    """How late the simulator ever was with this call's frames."""
    if call is None:
        return 0.0
    return max((stream.times.late_max_ms for stream in call.streams), default=0.0)


async def _bystanders(bed: Bed) -> tuple[str, bool]:
    """What the faults of others have cost them, and whether the machine lets us say so."""
    problems, late_ms = [], 0.0
    for call in bed.bystanders:
        assert call.stream is not None
        late_ms = max(late_ms, _late_ms(call))
        if call.is_over or len(call.streams) != 1 or call.heard_texts:
            return "their calls did not go on undisturbed", True
        if not call.stream.playout.queued_bytes:
            return "their agents had nothing more to say", True
        call.hang_up()
        await call.settled()
        audio = (await bed.rig.record_of(call.sid, timeout_s=40.0))["media"]["agent_audio"]
        if count := audio["late_underruns"] + audio["underruns"]:
            ms = audio["late_underrun_ms"] + audio["underrun_ms"]
            problems.append(f"{count} underruns of {ms:g} ms")
        # What the daemon does not know of: the caller's ear, as far as the simulator itself was in time.
        problems += [f"a gap of {gap.ms:g} ms" for gap in call.underruns if gap.ms > late_ms]
    if not problems:
        return "", True
    return f"{'; '.join(problems)} (simulator late by {late_ms:.0f} ms)", late_ms <= LATE_MAX_MS
