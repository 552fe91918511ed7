"""How a row of the fault table is played: a daemon, a number and an agent for each row, bystanders beside them.

What the caller hears is read from the simulator's playback, what the record says from the API.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from bench.checker import check, read_history
from bench.rig import Rig, open_rig
from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_twilio import Caller, SimCall

HOLD = Utterance.of("agent_hold")
SHORT = Utterance("Hello.", HOLD.pcm16[: 2 * 8_000])
"""One second of speech."""
LONG = Utterance("Hello, and a long story.", (HOLD.pcm16 * 4)[: 2 * 8_000 * 12])
GREETER = AgentScript(first_message=SHORT)
THEM = "+14155550100"
PATIENCE_S = 120.0
BYSTANDER = AgentScript(first_message=LONG)
TALK_S = 9.0
"""How long a bystander's call lasts; all rows of a group happen within it."""
MEDIA = {
    "agent_first_message_timeout_s": 1.5,
    "agent_handshake_timeout_s": 2.0,
    "stream_start_timeout_s": 2.0,
    "workers": 1,
}
PIECE_BYTES = 80
LATE_MAX_MS = 30.0
WIRES = ("public", "twilio", "elevenlabs", "agent", "post_call")

Act = Callable[["Bed", "Row", SimCall], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault. `hears` holds of: `agent` (her words), `apology` (Twilio's voice), `nothing` (neither)."""

    name: str
    what: str
    """What is done, and when."""
    hears: frozenset[str]
    result: str
    blame: str | None
    status: str = "completed"
    reason: str = ""
    """Stands in the record's reason."""
    script: AgentScript = GREETER
    prepare: Callable[[Bed, Row], None] | None = None
    """Before the call."""
    act: Act | None = None
    """Once the caller hears the agent."""
    caller_stays_s: float = 6.0
    extra_underruns_max: int = 0
    """Of the bystanders."""


@dataclass
class Bed:
    """A running rig, and who lies in it."""

    rig: Rig
    numbers: dict[str, str]
    bystanders: list[SimCall] = field(default_factory=list)

    def about(self, row: Row) -> bytes:
        """How the agent's conversation sockets of a row are known on the wire."""
        return f"agent_id={row.name}&".encode()

    def media(self, call: SimCall) -> bytes:
        """How the media stream of a call is known on the wire."""
        assert call.stream is not None
        return call.stream.url.partition("/media/")[2].encode()

    async def call(self, row: Row) -> SimCall:
        """Somebody calls the row's number."""
        patience = Caller(hangs_up_after_answer_s=row.caller_stays_s)
        return await self.rig.twilio.call_in(THEM, self.numbers[row.name], patience)

    async def listen(self) -> None:
        """Begin two calls that have nothing to do with any fault."""
        for name in ("bystander_1", "bystander_2"):
            caller = Caller(hangs_up_after_answer_s=TALK_S)
            call = await self.rig.twilio.call_in(THEM, self.numbers[name], caller)
            self.bystanders.append(call)
        for call in self.bystanders:
            await until_heard(call)


async def until_heard(call: SimCall) -> None:
    """Until the first agent audio of a call is there, or the call is over."""
    while not call.media_messages and not call.is_over:
        await trio.sleep(0.02)


@contextlib.asynccontextmanager
async def open_bed(folder: Path, rows: Sequence[Row], media: dict[str, Any] | None = None):
    """A rig with an agent for each row and for two bystanders."""
    scripts = {row.name: row.script for row in rows}
    scripts |= {"bystander_1": BYSTANDER, "bystander_2": BYSTANDER}
    numbers = {name: f"+1415555{2000 + index}" for index, name in enumerate(scripts)}
    with trio.fail_after(PATIENCE_S):
        async with open_rig(
            folder,
            agents=scripts,
            numbers=tuple(numbers.values()),
            media=MEDIA | (media or {}),
            wires=WIRES,
        ) as rig:
            async with trio.open_nursery() as nursery:
                for name, number in numbers.items():
                    nursery.start_soon(rig.create_agent, number, name)
            yield Bed(rig, numbers)


def heard(call: SimCall, row: Row) -> frozenset[str]:
    """What the caller of a row heard, in the words of `Row.hears`."""
    found = set()
    words = row.script.first_message
    if words is not None and words.encoded("ulaw_8000")[:4_000] in call.heard:
        found.add("agent")
    if call.heard_texts:
        found.add("apology")
    return frozenset(found or {"nothing"})


def _are_in(words: bytes, line: bytes) -> bool:
    """Whether at least a tenth of a second of the words was heard, in pieces of ten milliseconds."""
    pieces = (words[at : at + PIECE_BYTES] for at in range(0, len(words), PIECE_BYTES))
    return sum(len(set(piece)) > 20 and piece in line for piece in pieces) >= 10


async def play(bed: Bed, row: Row, outcomes: dict[str, tuple[Any, ...]]) -> None:
    """One row, from the call to its record."""
    if row.prepare is not None:
        row.prepare(bed, row)
    call = await bed.call(row)
    if row.act is not None:
        await until_heard(call)
        await row.act(bed, row, call)
    await call.settled()
    record = await bed.rig.record_of(call.sid)
    said = row.reason if row.reason in (record["reason"] or "") else record["reason"]
    outcomes[row.name] = (
        heard(call, row),
        record["status"],
        record["result"],
        record["blame"],
        said,
    )


def expected(row: Row) -> tuple[Any, ...]:
    """What `play` has to find."""
    return (row.hears, row.status, row.result, row.blame, row.reason)


async def play_all(bed: Bed, rows: Sequence[Row]) -> dict[str, str]:
    """All rows at once; the failures by row, and `bystanders` and `checker`."""
    outcomes: dict[str, tuple[Any, ...]] = {}
    await bed.listen()
    async with trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(play, bed, row, outcomes)
    for call in bed.bystanders:
        await call.settled()
        await bed.rig.record_of(call.sid)
    failures = {
        row.name: f"expected {expected(row)}, found {outcomes[row.name]}"
        for row in rows
        if outcomes[row.name] != expected(row)
    }
    underruns = sum(len(call.underruns) for call in bed.bystanders)
    late_ms = max(call.stream.times.late_max_ms for call in bed.bystanders)
    # A machine on which the simulator itself comes late says nothing about the daemon's playout.
    if late_ms <= LATE_MAX_MS and underruns > min(row.extra_underruns_max for row in rows):
        failures["bystanders"] = f"{underruns} underruns"
    if any(call.heard_texts for call in bed.bystanders):
        failures["bystanders"] = "they heard an apology"
    history = read_history(bed.rig.twilio, bed.rig.elevenlabs, bed.rig.folder / "tandem.db")
    if problems := check(history):
        failures["checker"] = "; ".join(problems)
    return failures
