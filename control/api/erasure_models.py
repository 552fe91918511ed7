"""How the erasure of a call is shown."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from control.api.answers import Answer
from control.store.records import CallRecord


class ErasureShown(Answer):
    """What of a call was erased, and when."""

    call_id: str
    asked_at: datetime | None = Field(description="When somebody asked for it.")
    transcripts_at: datetime | None = Field(
        description="Transcript, summary, extractions, variables, metadata, messages."
    )
    recordings_at: datetime | None = Field(description="null also where there was none.")
    numbers_at: datetime | None
    is_done: bool = Field(description="Nothing is left that could be erased.")


def erasure_of(record: CallRecord) -> ErasureShown:
    """What of a call was erased."""
    has_recording = record.recording is not None and record.recording_erased_at is None
    return ErasureShown(
        call_id=record.id,
        asked_at=record.erase_asked_at,
        transcripts_at=record.texts_erased_at,
        recordings_at=record.recording_erased_at,
        numbers_at=record.numbers_erased_at,
        is_done=bool(record.texts_erased_at and record.numbers_erased_at and not has_recording),
    )


def erasure_if_any(record: CallRecord) -> ErasureShown | None:
    """The same, once anything was erased or asked for."""
    is_touched = any(
        (
            record.erase_asked_at,
            record.texts_erased_at,
            record.recording_erased_at,
            record.numbers_erased_at,
        )
    )
    return erasure_of(record) if is_touched else None
