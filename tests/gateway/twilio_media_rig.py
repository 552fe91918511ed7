"""The samples of Twilio's messages, and JSON near them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from hypothesis import strategies as st

SAMPLES = json.loads(
    (Path(__file__).parents[1] / "data" / "twilio_messages.json").read_text("utf-8")
)
FROM_TWILIO = SAMPLES["from_twilio"]
BY_ABOUT = {row["about"]: row for row in FROM_TWILIO}
SID = "MZ5f1d0c77aa0b4e6c9d2e81b3f4a69c02"

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(
    ["event", "streamSid", "sequenceNumber", "media", "start", "dtmf", "mark", "stop", "payload",
     "timestamp", "chunk", "track", "name", "digit", "mediaFormat", "customParameters", "tracks"]
)  # fmt: skip
near_messages = st.recursive(
    any_json | st.sampled_from([SID, "media", "inbound", "start", "7", "dtmf"]),
    lambda inner: st.dictionaries(field_names, inner, max_size=6),
    max_leaves=15,
)


def paths(message, prefix=""):
    for key, value in message.items():
        yield prefix + key
        if isinstance(value, dict) and key != "customParameters":
            yield from paths(value, prefix + key + ".")


def changed(message, path, value=None, *, remove=False):
    message = copy.deepcopy(message)
    *parents, last = path.split(".")
    place = message
    for parent in parents:
        place = place[parent]
    if remove:
        del place[last]
    else:
        place[last] = value
    return message


def compact(message):
    return json.dumps(message, separators=(",", ":")).encode()
