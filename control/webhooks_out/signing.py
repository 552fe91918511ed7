"""The signature of a push, and its key. Pure.

    webhook-id          the event's id: the same at every attempt and every replay
    webhook-timestamp   Unix seconds of this attempt
    webhook-signature   v1,<base64 of HMAC-SHA256 over "{id}.{timestamp}.{body}">

Source: Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks), "Signature scheme".
"""

from __future__ import annotations

import base64
import hmac
import secrets

PREFIX = "whsec_"
KEY_BYTES = 32


def new_secret() -> str:
    """A key as Standard Webhooks writes it, to be shown once."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def headers(secret: str, event_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of one attempt."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{event_id}.{timestamp_s}.".encode() + body
    digest = hmac.digest(key, signed, "sha256")
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
