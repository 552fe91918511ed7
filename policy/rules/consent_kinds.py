"""Which of a person's consents count for a call. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from policy.facts import Consent, Facts

VOICE_CHANNEL = "voice_ai"
"""An AI voice is an artificial one; a consent to be called by people is another."""


def channel_of(facts: Facts) -> str:
    """The channel that a consent has to name."""
    return VOICE_CHANNEL if facts.channel == "voice" else "sms"


def last_stop(facts: Facts) -> datetime | None:
    """The latest request to stop; it reaches every seller, channel and purpose of the tenant."""
    return max((one.occurred_at for one in facts.revocations or ()), default=None)


def usable(facts: Facts) -> Iterator[Consent]:
    """Given, not expired, not withdrawn, and later than the last stop request (a tie goes to the stop)."""
    stop = last_stop(facts)
    for consent in facts.consents or ():
        if (
            consent.occurred_at <= facts.at
            and (consent.expires_at is None or facts.at < consent.expires_at)
            and (consent.revoked_at is None or facts.at < consent.revoked_at)
            and (stop is None or consent.occurred_at > stop)
        ):
            yield consent


def is_same_seller(consent: Consent, facts: Facts) -> bool:
    seller = facts.seller
    return seller is not None and consent.seller.casefold() == seller.casefold()


def for_channel(facts: Facts) -> list[Consent]:
    """Usable ones of this seller and channel, whatever their purpose."""
    channel = channel_of(facts)
    return [one for one in usable(facts) if is_same_seller(one, facts) and channel in one.channels]


def mismatch(consent: Consent, facts: Facts) -> str | None:
    """What the consent does not cover; None when it fits."""
    if not is_same_seller(consent, facts):
        return "other_seller"
    if channel_of(facts) not in consent.channels:
        return "other_channel"
    if facts.judged_purpose not in consent.purposes:
        return "other_purpose"
    is_marketing_voice = facts.judged_purpose == "marketing" and facts.channel == "voice"
    if is_marketing_voice and not consent.names_automated_voice:
        return "no_automated_voice"
    return None


def fitting(facts: Facts) -> list[Consent]:
    """Usable ones that cover this seller, channel and purpose."""
    return [one for one in usable(facts) if mismatch(one, facts) is None]


def verified_at(consent: Consent, facts: Facts) -> datetime:
    """When the number was last known to be this person's; a contact that lies ahead is none."""
    seen = consent.last_verified_at
    if seen is None or seen > facts.known_at:
        return consent.occurred_at
    return max(seen, consent.occurred_at)


def is_signed_writing(consent: Consent) -> bool:
    """Signed, with both disclosures (47 CFR 64.1200(f)(9))."""
    return (
        consent.level == "written_signed"
        and consent.names_automated_voice
        and consent.says_not_a_condition
    )
