"""The few permissions that an operator may turn on for a tenant, on the word of the tenant's counsel.

Everything else can only narrow. A decision that used one names it in the inputs of the rule.
"""

from __future__ import annotations

ORAL_CONSENT_FIFTH_CIRCUIT = "oral_consent_fifth_circuit"
"""CON-WRITTEN: spoken consent is enough for marketing to numbers of LA, MS and TX."""
VOICE_IS_NO_DEVICE = "voice_is_no_device"
"""TIME-ST, FREQ-ST: rows for automatic dialing-announcing devices do not reach an interactive voice."""
TOLL_FREE_DESTINATIONS = "toll_free_destinations"
"""NUM-TOLLFREE: toll-free destinations, where the consent names the number."""
REGISTRATION_WARNS = "registration_warns"
"""TEN-REG: a missing seller registration is recorded and does not refuse."""
EXEMPT_LANDLINES = "exempt_landlines"
"""CON-NONE: exempt informational calls to landlines without consent, three in thirty days."""
EMERGENCY_CALLS = "emergency_calls"
"""CON-*, TIME-*: the purpose `emergency`, which needs no consent and keeps no hours. Without it: marketing."""
STATE_HOURS_FOR_ALL = "state_hours_for_all"
"""TIME-ST, TIME-HOL: state hours bind informational calls too. This one narrows."""

ALL = frozenset(
    {
        ORAL_CONSENT_FIFTH_CIRCUIT,
        VOICE_IS_NO_DEVICE,
        TOLL_FREE_DESTINATIONS,
        REGISTRATION_WARNS,
        EXEMPT_LANDLINES,
        EMERGENCY_CALLS,
        STATE_HOURS_FOR_ALL,
    }
)
