"""What a request says of answering machines: of one call, or of all of an agent's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from control.api.reading import Body


class MachineDetection(Body):
    """Whether a machine answers, and what then. Twilio's word comes some seconds after the answer."""

    on_machine: Literal["hang_up", "leave_message", "continue"] = Field(
        description="What to do when a machine has answered. `leave_message` without `message` and "
        "`play_url` tells the agent to leave it."
    )
    mode: Literal["fast", "message_end"] = Field(
        "message_end",
        description="`fast` tells a machine from its first words, `message_end` waits until its greeting "
        "is over (needed to leave a message).",
    )
    message: str | None = Field(None, min_length=1, max_length=2000, description="To be spoken.")
    play_url: str | None = Field(
        None, max_length=1000, pattern=r"^https?://\S+$", description="To be played instead."
    )
    language: str | None = Field(
        None, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", description="Of `message`: `en-US`."
    )
    timeout_s: int | None = Field(None, ge=3, le=59)
    speech_threshold_ms: int | None = Field(None, ge=1000, le=6000)
    speech_end_threshold_ms: int | None = Field(None, ge=500, le=5000)
    silence_timeout_ms: int | None = Field(None, ge=2000, le=10000)

    @field_validator("message")
    @classmethod
    def _speakable(cls, message: str | None) -> str | None:
        if message is not None and not all(c.isprintable() or c in "\t\n" for c in message):
            raise ValueError("control characters cannot be spoken")
        return message

    @model_validator(mode="after")
    def _fits(self) -> MachineDetection:
        says = self.message is not None or self.play_url is not None
        if says and self.on_machine != "leave_message":
            raise ValueError("`message` and `play_url` go with on_machine `leave_message`")
        if self.message is not None and self.play_url is not None:
            raise ValueError("either `message` or `play_url`")
        if self.on_machine == "leave_message" and self.mode == "fast":
            raise ValueError("`leave_message` needs mode `message_end`")
        return self
