"""The signature of ElevenLabs' webhooks."""

from __future__ import annotations

import pytest

from control.hooks.elevenlabs import parse_secrets, signed

BODY = (
    b'{"type":"post_call_transcription","event_timestamp":1760000000,"data":{"agent_id":"agent_x",'
    b'"conversation_id":"conv_x","status":"done"}}'
)
T = 1760000000
V0 = "0ecc5d9a7e0eddd02c1d6582af076920a8cb0c1a021889bae0c4c39287c479bf"


@pytest.mark.parametrize(
    ("header", "now_s", "good"),
    [
        (f"t={T},v0={V0}", T + 5, True),
        (f"t={T}, v0={V0}, v1=later", T + 5, True),
        (f"t={T},v0=00,v0={V0}", T + 5, True),
        (f"t={T},v0={V0}", T + 1799, True),
        (f"t={T},v0={V0}", T + 1801, False),
        (f"t={T},v0={V0}", T - 301, False),
        (f"t={T + 1},v0={V0}", T, False),
        (f"t={T},t={T},v0={V0}", T, False),
        (f"v0={V0}", T, False),
        (f"t={T}", T, False),
        ("t=x,v0=y", T, False),
        ("t=\u00b2,v0=y", T, False),
        ("", T, False),
        (None, T, False),
    ],
)
def test_signature_is_checked_with_its_age(header: str | None, now_s: float, good: bool) -> None:
    """Against a fixed vector; thirty minutes back, five ahead."""
    assert signed(header, BODY, parse_secrets("newer, wsec_test"), now_s) is good
    assert not signed(header, BODY, parse_secrets("other"), now_s)
    assert not signed(header, BODY, (), now_s)
    assert not signed(header, BODY + b" ", parse_secrets("wsec_test"), now_s)
