"""One sentence for people for each rule that may refuse. Pure text; the codes are the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SENTENCES = {
    "SYS-STORE": "The lists and counters could not be read, and nothing is allowed without them.",
    "SYS-CLOCK": "This machine's clock is not known to be right, so nobody can say what time it is at the other end.",
    "SYS-TZDATA": "The time-zone data may be older than the law that it has to serve.",
    "SYS-RULES": "The rule pack is not in force at that time.",
    "SYS-RETRY": "There is no moment in the coming weeks at which every rule would allow it.",
    "TEN-STATE": "The tenant or its agent is not in a state in which it may call.",
    "TEN-REG": "Marketing into that state needs a seller's registration, and none is on file.",
    "NUM-INVALID": "This is no valid telephone number.",
    "NUM-EMERG": "Emergency and service numbers are never called.",
    "NUM-PREMIUM": "Premium-rate numbers are never called.",
    "NUM-TOLLFREE": "The called party would pay for a call to a toll-free number.",
    "NUM-NONGEO": "The number belongs to no place, so no law and no time of day can be found for it.",
    "NUM-OWN": "The number is one of our own: the call would be a loop.",
    "CID-OWN": "The caller id is not an active number of this tenant.",
    "CON-NONE": "There is no consent of this person to be contacted by this seller in this way.",
    "CON-WRITTEN": "Marketing by an artificial voice needs a signed, written consent.",
    "CON-SCOPE": "The consent does not cover this seller, channel, purpose or an automated voice.",
    "CON-EVID": "The evidence of the consent is incomplete; somebody has to look at it.",
    "CON-REVOKED": "The person took the consent back.",
    "DNC-INT": "The number is on the tenant's own do-not-call list.",
    "DNC-PLAT": "The number is blocked on the whole platform.",
    "DNC-NAT": "The number is in the national do-not-call registry.",
    "DNC-STALE": "The copy of the national registry is too old.",
    "DNC-STATE": "The number is on a state's do-not-call list.",
    "RND-YES": "The number was disconnected after the consent was given; it may be somebody else's now.",
    "RND-STALE": "Nobody checked lately whether the number still belongs to who consented.",
    "TIME-FED": "It is too early or too late where the called party may be.",
    "TIME-ST": "The called party's state does not allow it at this hour.",
    "TIME-HOL": "The called party's state does not allow it on this day.",
    "TIME-CC": "The called party's country does not allow it at this hour.",
    "TIME-UNK": "Nobody can say what time it is where the called party is.",
    "TIME-TEN": "It is outside of the tenant's own hours.",
    "TIME-MARGIN": "The permitted hours end too soon for the call to be placed safely.",
    "FREQ-ST": "The state's limit of attempts to one person is reached.",
    "FREQ-CC": "The country's limit of attempts to one person is reached.",
    "FREQ-EXEMPT": "The limit of exempt calls without consent is reached.",
    "FREQ-DEBT": "The limit of attempts to collect this debt is reached.",
    "FREQ-TEN": "The limit of attempts to one number is reached.",
    "FREQ-INFLIGHT": "Another call to this number is queued or live.",
    "FRD-GEO": "The tenant may not call that region.",
    "FRD-TWGEO": "The provider's dialing permissions are not set as they have to be.",
    "FRD-PREFIX": "The number lies in a range that fraud uses.",
    "FRD-CPS": "The tenant starts calls faster than it may.",
    "FRD-CONC": "The tenant has as many calls at once as it may.",
    "FRD-VEL": "The tenant calls more numbers in an hour than it may.",
    "FRD-NEW": "An operator has to approve the first call to that region or range.",
    "FRD-SPEND": "The tenant's limit of cost is reached.",
    "FRD-XFER": "The target of the transfer is not on the agent's list.",
    "FRD-KILL": "All outbound calls are stopped.",
    "FRD-TRIG": "The provider's spend alarm rang; an operator has to clear it.",
    "HEALTH": "The tenant's traffic looks unhealthy, so marketing waits.",
    "DISC-SCRIPT": "The agent does not say what the law makes it say.",
    "REC-NOTICE": "The call would be recorded or transcribed without a notice.",
    "SMS-SENDER": "The sender is not registered with the carriers.",
    "SMS-STOP": "The person sent STOP to this sender.",
    "SMS-TEXT": "A first message has to name its sender and how to opt out.",
    "SMS-REPLY": "The confirmation of a stop request is late.",
    "INB-BLOCK": "The caller is blocked.",
}
_FAULTS = {
    "rule_error": "A rule failed, and a rule that fails refuses.",
    "rule_invalid": "A rule gave no proper answer, and such a rule refuses.",
    "not_known": "Something that the rule has to know is not known",
}


def describe(rule_id: str, reason: str, inputs: Mapping[str, Any]) -> str:
    """The sentence of the rule, or of its family (`TIME-ST-FL` → `TIME-ST`); else id and code."""
    fault = _FAULTS.get(reason.partition(":")[0])
    if reason == "not_known":
        return f"{fault}: {inputs.get('missing', '?')} ({rule_id})."
    if fault is not None:
        return f"{fault} ({rule_id})"
    name = rule_id
    while name:
        if name in _SENTENCES:
            return f"{_SENTENCES[name]} ({rule_id})"
        name = name.rpartition("-")[0]
    return f"Rule {rule_id} refuses: {reason}."
