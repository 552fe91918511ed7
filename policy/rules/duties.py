"""DISC-SCRIPT, REC-NOTICE: what the agent has to say. A missing line refuses; an allow carries the duty on."""

from __future__ import annotations

from policy.decision import Obligation
from policy.pack import states_of
from policy.rules.base import OUTBOUND, VOICE, Answer, Ask, Define
from policy.rules.consent import is_exempt

_WITHIN_MS = 2000
"""47 CFR 64.1200(a)(7), (b): identification within 2 s of the greeting's end, the opt-out within 2 s of it."""


def _script(ask: Ask) -> Answer:
    agent = ask.facts.agent
    if agent is None or agent.script is None:
        return ask.say.missing("agent.script")
    script = agent.script
    needed = {"ai_disclosure": script.ai_disclosure}
    with_opt_out = ask.is_marketing or is_exempt(ask)
    if ask.facts.direction == "outbound":
        needed["identification"] = script.identification
        if with_opt_out:
            needed |= {
                "opt_out_line": script.opt_out_line,
                "callback_number": script.callback_number,
            }
    lacking = sorted(name for name, there in needed.items() if not there)
    if lacking:
        return ask.say.deny("line_missing", lacking=lacking)
    duties = [Obligation("disclose_ai", {"position": 1})]
    if ask.facts.direction == "outbound":
        duties.insert(0, Obligation("identify", {"within_ms": _WITHIN_MS}))
        if with_opt_out:
            duties.append(Obligation("offer_opt_out", {"within_ms": _WITHIN_MS}))
            leaves = script.toll_free_opt_out
            duties.append(Obligation("voicemail", {"leave_message": leaves}))
    return ask.say.allow("script_complete", *duties)


def _recording(ask: Ask) -> Answer:
    """On every call that is kept or transcribed; the states' kinds of consent are recorded with it."""
    agent = ask.facts.agent
    if agent is None or agent.records_audio is None or agent.transcribes is None:
        return ask.say.missing("agent.records_audio, agent.transcribes")
    if not (agent.records_audio or agent.transcribes):
        return ask.say.allow("nothing_recorded")
    if agent.script is None:
        return ask.say.missing("agent.script")
    pack = ask.law.pack_at(ask.facts.at)
    place = ask.law.place(ask.facts)
    day = ask.facts.at.date()
    bound = sorted(states_of(pack.recording, day) & set(place.states))
    inputs = {"audio": agent.records_audio, "transcript": agent.transcribes, "all_party": bound}
    if not agent.script.recording_notice:
        return ask.say.deny("no_notice", **inputs)
    duty = Obligation(
        "recording_notice", {"before_first_question": True, "record_the_notice": True}
    )
    return ask.say.allow("notice_given", duty, **inputs)


_SPOKEN = OUTBOUND | {"inbound"}

RULES = (
    Define("DISC-SCRIPT", 1, _script, directions=_SPOKEN, channels=VOICE),
    Define("REC-NOTICE", 1, _recording, directions=_SPOKEN, channels=VOICE),
)
