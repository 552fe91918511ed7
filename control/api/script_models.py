"""What a request says of an agent's own words: which of the lines that it owes are in them."""

from __future__ import annotations

from pydantic import Field

from control.api.reading import Body


class Script(Body):
    """Lines that the agent says itself. They are believed: whoever declares one that is not said breaks the law."""

    identification: bool = Field(False, description="Who calls, by the registered name.")
    ai_disclosure: bool = Field(False, description="That it is an AI, in the first sentence.")
    opt_out_line: bool = Field(False, description="How to opt out, right behind that.")
    recording_notice: bool = Field(
        False, description="That the call is recorded, transcribed and processed by an AI service."
    )
    callback_number: bool = Field(False, description="A number at which the business is reached.")
    toll_free_opt_out: bool = Field(
        False,
        description="A toll-free number for the opt-out: needed to leave marketing on a machine.",
    )
