"""What a request may say of the called party and of the call's purpose; shared by a call and a question about one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, field_validator

from control.api.reading import Body
from policy import packaged
from policy.facts import Purpose


class AboutCall(Body):
    """Purpose and place. Without a purpose the agent's own counts, and without that `marketing`."""

    purpose: Purpose | None = Field(None, description="The agent's own when left out.")
    postcode: str | None = Field(
        None, pattern="^[A-Za-z0-9][A-Za-z0-9 -]{1,15}$", description="Of the called party."
    )
    state: str | None = Field(
        None, pattern="^[A-Z]{2}$", description="US state of the called party; adds its rules."
    )
    timezone: str | None = Field(
        None,
        max_length=64,
        description="IANA zone of the called party, when it is known; goes before postcode and number.",
        examples=["America/New_York"],
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, given: str | None) -> str | None:
        if given is not None and packaged().zone(given) is None:
            raise ValueError("is no time zone of the IANA database")
        return given

    def meaning(self, at: datetime) -> dict[str, Any]:
        """As the call's metadata keeps it: `purpose`, and `called_party` with the moment it was said."""
        place = {
            name: value
            for name in ("postcode", "state", "timezone")
            if (value := getattr(self, name)) is not None
        }
        kept: dict[str, Any] = {"purpose": self.purpose} if self.purpose else {}
        return kept | ({"called_party": place | {"as_of": at.isoformat()}} if place else {})
