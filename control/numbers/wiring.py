"""Which settings a number has to have at Twilio. Pure."""

from __future__ import annotations

from control.twilio.numbers import WIRED, Webhooks
from control.urls import PublicUrls


def wanted(urls: PublicUrls) -> Webhooks:
    """Calls, messages and their statuses lead to us; no application and no trunk goes before them."""
    return Webhooks(
        voice_url=urls.voice(),
        voice_fallback_url=urls.fallback(),
        status_callback=urls.status(),
        sms_url=urls.sms(),
        # The same address once more: there is one place that knows who has opted out.
        sms_fallback_url=urls.sms(),
    )


def differences(found: Webhooks, wanted: Webhooks) -> tuple[str, ...]:
    """The settings that are not as wanted."""
    return tuple(name for name in WIRED if getattr(found, name) != getattr(wanted, name))
