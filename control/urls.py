"""The public addresses that Twilio is given: all built from `public.url`, never from a request. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

RETRY = "#rc=3&rp=5xx,ct,rt"
"""Connection overrides: without them Twilio does not repeat a callback that met a 5xx. The fragment is
neither sent nor signed. Source: Twilio docs, "Webhooks (HTTP callbacks): connection overrides"."""


@dataclass(frozen=True, slots=True)
class PublicUrls:
    """`public_url` is `https://host`, `media_url` is `wss://host`; neither ends with a slash."""

    public_url: str
    media_url: str

    def voice(self, call_id: str | None = None) -> str:
        return self._with_call("/twilio/voice", call_id)

    def fallback(self, call_id: str | None = None) -> str:
        return self._with_call("/twilio/voice/fallback", call_id)

    def status(self, call_id: str | None = None) -> str:
        return self._with_call("/twilio/status", call_id) + RETRY

    def machine(self, call_id: str) -> str:
        """Where Twilio tells who has answered."""
        return self._with_call("/twilio/amd", call_id) + RETRY

    def stream(self, call_id: str) -> str:
        return self._with_call("/twilio/stream", call_id) + RETRY

    def resume(self, call_id: str) -> str:
        """Where Twilio asks how to go on after a stream."""
        return self._with_call("/twilio/continue", call_id) + RETRY

    def dial_done(self, call_id: str) -> str:
        """Where Twilio asks how to go on after somebody was dialled."""
        return self._with_call("/twilio/dial", call_id) + RETRY

    def leg(self, call_id: str, transfer: int) -> str:
        """Where Twilio tells of the leg to a person; `transfer` is its number among those of the call."""
        return f"{self._with_call('/twilio/leg', call_id)}&transfer={transfer}{RETRY}"

    def message_left(self, call_id: str) -> str:
        """Where Twilio asks how to go on after a message was recorded."""
        return self._with_call("/twilio/message", call_id) + RETRY

    def recorded(self, call_id: str) -> str:
        """Where Twilio tells of the recording of a message."""
        return self._with_call("/twilio/recorded", call_id) + RETRY

    def sms(self) -> str:
        """Where messages to a number go."""
        return self._with_call("/twilio/sms", None) + RETRY

    def sms_status(self, message_id: str) -> str:
        """Where Twilio tells what became of a message."""
        return f"{self.public_url}/twilio/sms/status?message_id={quote(message_id, safe='')}{RETRY}"

    def media(self, ticket: str) -> str:
        return f"{self.media_url}/media/{quote(ticket, safe='')}"

    def _with_call(self, path: str, call_id: str | None) -> str:
        query = f"?call_id={quote(call_id, safe='')}" if call_id else ""
        return f"{self.public_url}{path}{query}"
