"""`make demo`: the real daemon between the simulated providers, one inbound and one outbound call.

Recorded human speech both ways; the inbound caller talks over the agent once, the outbound call is ended by
the agent. Afterwards a second called party says "Please stop calling me", and is not called again. A live timeline while it runs, a summary at the end; recordings, transcripts and records stay in
`demo-out/`. Exits 0 only when everything that the summary claims was so.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from rich.console import Console
from rich.table import Table

from bench.rig import Rig, open_rig
from bench.sim_elevenlabs import AgentScript, Utterance, prompt
from bench.sim_elevenlabs.record import ConversationRecord
from bench.sim_twilio import Caller, HangsUp, Says, SimCall

OUT = Path("demo-out")
OUR_NUMBER = "+14155550199"
INBOUND_CALLER = "+14155550100"
OUTBOUND_CALLEE = "+14155550123"
UNWILLING_CALLEE = "+14155550124"
CALLS_TIMEOUT_S = 50.0
POLL_S = 0.2

SUPPORT = AgentScript(
    name="Support line",
    first_message=Utterance.of("agent_hold"),
    replies=(Utterance.of("agent_long"), Utterance.of("agent_goodbye")),
    transcripts=(prompt("caller_complaint").text, prompt("caller_barge_in").text),
    alignment=True,
    response_latency_s=0.3,
)
REMINDER = AgentScript(
    name="Reminder call",
    first_message=Utterance.of("agent_greeting"),
    replies=(Utterance.of("agent_goodbye"),),
    transcripts=(prompt("caller_sorry").text,),
    end_call_after_reply=1,
    response_latency_s=0.3,
)
OFFER = AgentScript(
    name="Offer",
    first_message=Utterance.of("agent_greeting"),
    replies=(Utterance.of("agent_long"),),
    understands=("caller_complaint", "caller_sorry", "caller_stop_calling"),
    response_latency_s=0.3,
)
CALLER = Caller(
    says=[
        Says(
            audio=prompt("caller_complaint").ulaw,
            after_agent_silence_s=0.5,
            latest_s=10.0,
            label="says",
        ),
        Says(
            audio=prompt("caller_barge_in").ulaw,
            after_agent_speaking_s=2.0,
            utterance=2,
            latest_s=18.0,
            label="talks over the agent",
        ),
    ],
    hangs_up=HangsUp(after_agent_silence_s=0.8, latest_s=32.0),
)
CALLEE = Caller(
    answer_after_s=1.0,
    says=[
        Says(
            audio=prompt("caller_sorry").ulaw,
            after_agent_silence_s=0.5,
            latest_s=12.0,
            label="says",
        )
    ],
)
UNWILLING = Caller(
    answer_after_s=1.0,
    says=[
        Says(
            audio=prompt("caller_stop_calling").ulaw,
            after_agent_speaking_s=1.0,
            latest_s=6.0,
            label="says that calls shall stop",
        )
    ],
)
INBOUND_HEARD = (
    Utterance.of("agent_hold").encoded("ulaw_8000"),
    Utterance.of("agent_long").encoded("ulaw_8000")[: 8 * 1_500],  # it is interrupted later
    Utterance.of("agent_goodbye").encoded("ulaw_8000"),
)
OUTBOUND_HEARD = (
    Utterance.of("agent_greeting").encoded("ulaw_8000"),
    Utterance.of("agent_goodbye").encoded("ulaw_8000"),
)


@dataclass
class DemoCall:
    """One of the two calls, from all three sides."""

    name: str
    colour: str
    sim: SimCall
    call_id: str
    heard_whole: tuple[bytes, ...]
    """Agent speech that the caller hears without a gap or a changed byte."""
    conversation: ConversationRecord | None = None
    record: dict[str, Any] | None = None
    shown: int = 0


class Claims:
    """What the demo promises; each is checked, and a broken one fails the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.broken = 0

    def check(self, held: bool, claim: str) -> None:
        mark = "[green]✓[/]" if held else "[red]✗[/]"
        self._console.print(f" {mark} {claim}")
        self.broken += not held


async def run() -> int:
    console = Console(highlight=False)
    shutil.rmtree(OUT, ignore_errors=True)
    console.print(
        "[bold]Tandem demo[/]: the daemon between a simulated Twilio and a simulated ElevenLabs\n"
    )
    agents = {"agent_support": SUPPORT, "agent_reminder": REMINDER}
    agents["agent_offer"] = OFFER
    numbers = (OUR_NUMBER, "+14155550188", "+14155550177")
    async with open_rig(OUT, agents=agents, numbers=numbers, rules=("base",)) as rig:
        console.print(f"daemon ready: control API {rig.api.base_url}, public {rig.public_url}")
        await rig.create_agent(OUR_NUMBER, "agent_support", record=True)
        await rig.create_agent(numbers[1], "agent_reminder", record=True)
        await rig.create_agent(numbers[2], "agent_offer", record=True)
        console.print("three agents live, each on its own number\n")
        calls = await _place_calls(rig)
        with trio.fail_after(CALLS_TIMEOUT_S):
            await _follow(rig, calls, console)
        opt_out = await _place_opt_out(rig)
        with trio.fail_after(CALLS_TIMEOUT_S):
            await _follow(rig, [opt_out], console)
        for call in (*calls, opt_out):
            call.record = await rig.record_of(call.sim.sid)
            await _save(rig, call)
        refused = await _call_again(rig)
        entries = (await rig.get("/v2/opt-outs"))["items"]
    return _summary(
        calls, rig, console, lambda claims: _check_opt_out(opt_out, claims, refused, entries)
    )


async def _place_calls(rig: Rig) -> list[DemoCall]:
    inbound = await rig.twilio.call_in(INBOUND_CALLER, OUR_NUMBER, CALLER)
    rig.twilio.destinations[OUTBOUND_CALLEE] = CALLEE
    answer = await rig.post(
        "/v2/calls/initiate",
        {
            "agent_id": rig.agents["agent_reminder"],
            "to": OUTBOUND_CALLEE,
            "variables": {"customer": "Ana"},
            "metadata": {"crm_id": "4711"},
        },
    )
    outbound = rig.twilio.calls[answer["metadata"]["twilio_call_sid"]]
    inbound_id = ""
    with trio.fail_after(10.0):
        while not inbound_id:
            items = (await rig.get("/v2/calls", direction="inbound"))["items"]
            inbound_id = items[0]["id"] if items else ""
            await trio.sleep(0.02)
    return [
        DemoCall("inbound", "cyan", inbound, inbound_id, INBOUND_HEARD),
        DemoCall("outbound", "magenta", outbound, answer["id"], OUTBOUND_HEARD),
    ]


async def _place_opt_out(rig: Rig) -> DemoCall:
    rig.twilio.destinations[UNWILLING_CALLEE] = UNWILLING
    body = {"agent_id": rig.agents["agent_offer"], "to": UNWILLING_CALLEE}
    answer = await rig.post("/v2/calls/initiate", body)
    sim = rig.twilio.calls[answer["metadata"]["twilio_call_sid"]]
    return DemoCall("opt-out", "green", sim, answer["id"], ())


async def _call_again(rig: Rig) -> dict[str, Any]:
    """The answer to one more request for who opted out; also in `opt-out-refused.json`."""
    body = {"agent_id": rig.agents["agent_offer"], "to": UNWILLING_CALLEE}
    answered = await rig.api.post("/v2/calls/initiate", json=body)
    refused = {"http_status": answered.status_code, **answered.json()}
    (OUT / "opt-out-refused.json").write_text(json.dumps(refused, indent=2))
    return refused


# ---- the live timeline


async def _follow(rig: Rig, calls: list[DemoCall], console: Console) -> None:
    began_s = trio.current_time()
    said = {call.name: 0 for call in calls}
    while not all(call.sim.is_over for call in calls):
        await trio.sleep(POLL_S)
        for call in calls:
            timeline = await rig.get(f"/v2/calls/{call.call_id}/timeline")
            for entry in timeline["items"][call.shown :]:
                _show(console, call, entry, began_s)
            call.shown = len(timeline["items"])
            for at_s, label in call.sim.behaviour.said[said[call.name] :]:
                console.print(
                    f"[dim]{at_s:7.2f} s[/] [{call.colour}]{call.name:8}[/] [yellow]caller {label}[/]"
                )
            said[call.name] = len(call.sim.behaviour.said)
    for call in calls:
        await call.sim.settled()


def _show(console: Console, call: DemoCall, entry: dict[str, Any], began_s: float) -> None:
    data = ", ".join(f"{key}={value}" for key, value in entry["data"].items())
    console.print(
        f"[dim]{entry['ms'] / 1000:7.2f} s[/] [{call.colour}]{call.name:8}[/] "
        f"{entry['name']}[dim]  {data[:70]}[/]"
    )


# ---- what stays


async def _save(rig: Rig, call: DemoCall) -> None:
    assert call.record is not None
    conversation_id = call.record["metadata"]["elevenlabs_conversation_id"]
    call.conversation = rig.elevenlabs.conversations[conversation_id]
    name = OUT / call.name
    Path(f"{name}-record.json").write_text(json.dumps(call.record, indent=2))
    lines = [
        f"{turn['ms'] / 1000:7.2f} s  {turn['role']:5}  {turn['text']}"
        + (f"\n{'':19}heard: {turn['heard']}" if turn.get("interrupted") else "")
        for turn in call.record["transcript"]
    ]
    Path(f"{name}-transcript.txt").write_text("\n".join(lines) + "\n")
    recording = await rig.api.get(f"/v2/calls/{call.call_id}/recording")
    Path(f"{name}-recording.wav").write_bytes(recording.content)
    call.sim.write_wav(f"{name}-at-twilio.wav")


# ---- the summary


def _summary(
    calls: list[DemoCall],
    rig: Rig,
    console: Console,
    check_opt_out: Callable[[Claims], None],
) -> int:
    table = Table(title="\nWhat was measured", title_justify="left", title_style="bold")
    table.add_column("")
    for call in calls:
        table.add_column(call.name, justify="right")
    rows: list[tuple[str, Callable[[DemoCall], str]]] = [
        ("answer to first agent word at Twilio", lambda c: _ms(_answer_to_first_word_ms(c))),
        (
            "… of it inside the gateway, from Twilio's `start`",
            lambda c: _ms(_media(c)["first_audio_ms"]),
        ),
        ("barge-in to `clear` at Twilio", lambda c: _ms(_barge_in_ms(c))),
        (
            "… of it inside the gateway",
            lambda c: _ms(_media(c)["clear_latency_ms"]["max_ms"]) if c.sim.clears else "-",
        ),
        ("underruns heard by the caller", lambda c: str(len(c.sim.underruns))),
        ("caller frames in / sent to the agent", _frames),
        (
            "agent audio sent / heard",
            lambda c: (
                f"{_media(c)['agent_audio']['sent_ms'] / 1000:.2f} / "
                f"{_media(c)['agent_audio']['heard_ms'] / 1000:.2f} s"
            ),
        ),
        (
            "added latency caller → agent, p50 / p99",
            lambda c: (
                f"{_media(c)['uplink_latency_ms']['p50_ms']:.2f} / "
                f"{_media(c)['uplink_latency_ms']['p99_ms']:.2f} ms"
            ),
        ),
        ("result", lambda c: f"{(c.record or {})['result']}"),
    ]
    for title, cell in rows:
        table.add_row(title, *[cell(call) for call in calls])
    console.print(table)
    console.print("\n[bold]What was claimed and checked[/]")
    claims = Claims(console)
    for call in calls:
        _check_call(call, claims)
    inbound = calls[0]
    claims.check(len(inbound.sim.clears) == 1, "the barge-in cleared Twilio's buffer once")
    cut = [turn for turn in _record(inbound)["transcript"] if turn.get("interrupted")]
    claims.check(
        len(cut) == 1 and 0 < len(cut[0]["heard"]) < len(cut[0]["text"]),
        "the transcript says which words of the interrupted reply were heard",
    )
    check_opt_out(claims)
    claims.check(not rig.elevenlabs.violations, "no message broke ElevenLabs' protocol")
    console.print(f"\nRecordings, transcripts and records: [bold]{OUT}/[/]")
    return 1 if claims.broken else 0


def _check_opt_out(
    call: DemoCall, claims: Claims, refused: dict[str, Any], entries: list[dict[str, Any]]
) -> None:
    """From the words in the telephone to the refusal of the next call."""
    said = prompt("caller_stop_calling")
    assert call.conversation is not None
    turns = [turn["text"] for turn in _record(call)["transcript"] if turn["role"] == "user"]
    claims.check(
        said.ulaw in call.conversation.received_ulaw and turns == [said.text],
        f'opt-out: the agent heard and understood "{said.text}"',
    )
    lines = {line["name"]: line for line in _record(call)["timeline"]}
    recorded = lines.get("opt_out_recorded")
    took_ms = recorded["ms"] - lines["opt_out_requested"]["ms"] if recorded else None
    claims.check(
        took_ms is not None and took_ms <= 1000,
        f"opt-out: committed {_ms(took_ms)} after the words, then the call ended",
    )
    denied = [
        rule
        for rule in refused.get("decision", {}).get("rules", ())
        if rule["outcome"] == "deny" and rule["inputs"].get("opt_out_source") == "spoken"
    ]
    evidence = entries[0]["evidence"] if len(entries) == 1 else {}
    claims.check(
        refused["http_status"] == 403
        and [rule["id"] for rule in denied] == ["DNC-INT"]
        and evidence.get("words") == said.text
        and evidence.get("call_id") == call.call_id,
        "opt-out: the next call to that number is refused (DNC-INT), with those words as evidence",
    )


def _check_call(call: DemoCall, claims: Claims) -> None:
    record, name = _record(call), call.name
    conversation = call.conversation
    assert conversation is not None
    claims.check(record["status"] == "completed", f"{name}: ended in order ({record['reason']})")
    claims.check(not call.sim.underruns, f"{name}: the caller heard no gap in the agent's speech")
    claims.check(not call.sim.warnings, f"{name}: nothing in Twilio's debugger")
    said = bytes(call.sim.said)
    got = conversation.received_ulaw
    # Behind the agent's goodbye the caller may go on talking; a quarter of a second may be on its way.
    listened_s = (conversation.ended_at_s or 0.0) - (call.sim.first_stream_s or 0.0)
    claims.check(
        said.startswith(got) and len(got) >= min(len(said), int(8000 * (listened_s - 0.25))) > 0,
        f"{name}: caller audio reached the agent bit for bit ({len(got) // 160} frames)",
    )
    heard = call.sim.heard
    claims.check(
        all(speech in heard for speech in call.heard_whole),
        f"{name}: agent audio reached the caller's ear bit for bit",
    )
    claims.check(
        record["metadata"]["twilio_call_sid"] == call.sim.sid and bool(record["decision"]),
        f"{name}: record keyed to {call.sim.sid[:8]}…, with its decision",
    )


def _record(call: DemoCall) -> dict[str, Any]:
    assert call.record is not None
    return call.record


def _media(call: DemoCall) -> dict[str, Any]:
    media: dict[str, Any] = _record(call)["media"]
    return media


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _frames(call: DemoCall) -> str:
    counts = _media(call)["caller_audio"]
    return f"{counts['frames']} / {counts['sent_frames']}"


def _answer_to_first_word_ms(call: DemoCall) -> float | None:
    """From Twilio's answer to the first agent audio that arrived at Twilio (stream set-up included)."""
    stream = call.sim.stream
    if stream is None or call.sim.answered_s is None or call.sim.first_stream_s is None:
        return None
    first_s = stream.times.t_first_media_received_s
    since_created_s = call.sim.now_s() - (trio.current_time() - call.sim.first_stream_s)
    return None if first_s is None else (since_created_s + first_s - call.sim.answered_s) * 1000


def _barge_in_ms(call: DemoCall) -> float | None:
    """From the moment ElevenLabs sent `interruption` to the moment Twilio had `clear`, both on one clock."""
    stream = call.sim.stream
    if stream is None or not call.sim.clears or call.conversation is None:
        return None
    began_s = stream.times.t_start_sent or 0.0
    sent_s = call.conversation.times("interruption_sent")[0]
    return (began_s + call.sim.clears[0].at_s - sent_s) * 1000


if __name__ == "__main__":
    sys.exit(trio.run(run))
