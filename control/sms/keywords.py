"""Words by which somebody stops, resumes or asks about messages. Pure.

The whole message is the word, in any case; marks around it do not matter. `OptOutType` is Twilio's own verdict
where Advanced Opt-Out is switched on; either is enough, so that no setting at Twilio can lose an opt-out.

Source: Twilio, "Twilio support for opt-out keywords", "Advanced Opt-Out".
"""

from __future__ import annotations

from typing import Literal

STOP = frozenset(
    ("STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "REVOKE", "OPTOUT", "OPT OUT")
)
START = frozenset(("START", "YES", "UNSTOP"))
HELP = frozenset(("HELP", "INFO"))
_MARKS = " \t\r\n.,!?'\"-\u2018\u2019\u201c\u201d"

Keyword = Literal["stop", "start", "help"]


def keyword(body: str, opt_out_type: str = "") -> Keyword | None:
    """What a message asks for, if it is one of the words. STOP wins over what Twilio says."""
    word = " ".join(body.split()).strip(_MARKS).upper()
    kind = opt_out_type.strip().upper()
    if word in STOP or kind == "STOP":
        return "stop"
    if word in START or kind == "START":
        return "start"
    if word in HELP or kind == "HELP":
        return "help"
    return None
