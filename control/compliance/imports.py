"""Lists from CSV files and back: everything is read and checked first, then written in one transaction.

A file with one wrong line imports nothing, and every wrong line is named. Nothing here ever clears a suppression.
"""

from __future__ import annotations

import csv
import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy import Connection

from control import ids
from control.compliance import number_file
from control.compliance.suppression import suppress
from control.instant import Instant
from control.store import consents, dnc, opt_outs
from control.store.records import OptOutRecord
from policy.facts import Purpose

CLOCK_MARGIN = timedelta(minutes=5)
ERRORS_MAX = 1000
"""Wrong lines that are named; the others are counted."""
E164 = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$")]
LIST_SEPARATOR = "|"
"""Between several values of one field."""


class LineError(NamedTuple):
    """What is wrong in a line; the header is line 1."""

    line: int
    field: str
    reason: str


class ImportRefused(Exception):
    """Nothing was imported."""

    def __init__(self, errors: list[LineError], count: int) -> None:
        super().__init__(f"{count} wrong lines; nothing was imported")
        self.errors = errors
        self.count = count


class _Line(BaseModel):
    """Base of a line. An empty field is one that was not given."""

    model_config = ConfigDict(extra="forbid")


class OptOutLine(_Line):
    e164: E164
    reason: str | None = Field(None, max_length=1000)
    source: str = Field("import", min_length=1, max_length=32)
    created_at: Instant | None = None


class BlockLine(_Line):
    e164: E164
    reason: str | None = Field(None, max_length=1000)
    source: str = Field("import", min_length=1, max_length=32)
    created_at: Instant | None = None


class ReassignedLine(_Line):
    e164: E164
    answer: str = Field(pattern="^(yes|no|no_data|error)$")
    for_date: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    asked_at: Instant


class ConsentLine(_Line):
    """A grant. Without a disclosure text and its date it is `express` at best (see `level`)."""

    e164: E164
    seller: str = Field(min_length=1, max_length=200)
    channels: list[Annotated[str, Field(pattern="^(voice_ai|voice_live|sms)$")]] = Field(
        min_length=1
    )
    purposes: list[Purpose] = Field(min_length=1)
    level: str = Field(pattern="^(express_oral|express|written_signed)$")
    occurred_at: Instant
    method: str | None = Field(None, max_length=32)
    expires_at: Instant | None = None
    names_automated_voice: bool = False
    says_not_a_condition: bool = False
    names_toll_free: bool = False
    disclosure_id: str | None = Field(None, max_length=200)
    disclosure_text: str | None = Field(None, max_length=20_000)
    signature: str | None = Field(None, max_length=32)
    evidence_ref: str | None = Field(None, max_length=1000)
    evidence_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    last_verified_at: Instant | None = None
    revoked_at: Instant | None = None
    revoked_reason: str | None = Field(None, max_length=1000)
    zone: str | None = Field(None, max_length=64)
    postcode: str | None = Field(None, max_length=16)
    state: str | None = Field(None, pattern="^[A-Z]{2}$")
    country: str | None = Field(None, pattern="^[A-Z]{2}$")

    @field_validator("channels", "purposes", mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        return [one.strip() for one in given.split(LIST_SEPARATOR) if one.strip()]

    def record(self, tenant_id: str, now: datetime, actor: str) -> consents.ConsentRecord:
        """The row; `location` and the disclosure's digest are made here."""
        location = {
            name: value
            for name in ("zone", "postcode", "state", "country")
            if (value := getattr(self, name)) is not None
        }
        level = self.level
        if (
            level == "written_signed"
            and self.disclosure_text is None
            and self.disclosure_id is None
        ):
            level = "express"  # nobody could show what was signed
        text = self.disclosure_text
        own = self.model_dump(exclude={"zone", "postcode", "state", "country", "level"})
        return consents.ConsentRecord(
            id=ids.new_id("cns", now),
            recorded_at=now,
            actor=actor,
            tenant_id=tenant_id,
            level=level,
            location=location or None,
            disclosure_sha256=hashlib.sha256(text.encode()).hexdigest() if text else None,
            **own,
        )


LINES: dict[str, type[_Line]] = {
    "opt-outs": OptOutLine,
    "consents": ConsentLine,
    "platform-blocks": BlockLine,
    "reassigned": ReassignedLine,
}
"""Kinds of files of the store's own rows."""
DNC = "dnc"
KINDS = (*LINES, DNC)


@dataclass(slots=True)
class _Errors:
    errors: list[LineError] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, name: str, reason: str) -> None:
        self.count += 1
        if len(self.errors) < ERRORS_MAX:
            self.errors.append(LineError(line, name, reason))

    def refuse(self) -> None:
        if self.count:
            raise ImportRefused(self.errors, self.count)


def read(kind: str, lines: Iterable[str], now: datetime) -> list[_Line]:
    """Every line of a CSV file, checked, also for what has not happened yet. Raises ImportRefused, which names each
    wrong one."""
    model, errors, found = LINES[kind], _Errors(), []
    reader = csv.DictReader(lines, strict=True)
    try:
        names = reader.fieldnames or ()
        for name in names:
            if name not in model.model_fields:
                errors.add(1, str(name), "unknown column")
        for name, item in model.model_fields.items():
            if item.is_required() and name not in names:
                errors.add(1, name, "this column is missing")
        errors.refuse()
        for row in reader:
            line = _checked(model, row, reader.line_num, errors)
            if line is not None:
                _check_past(line, reader.line_num, now, errors)
                found.append(line)
    except csv.Error as error:
        errors.add(reader.line_num, "line", str(error))
    errors.refuse()
    return found


def _checked(
    model: type[_Line], row: dict[str | Any, Any], line: int, errors: _Errors
) -> _Line | None:
    if None in row:
        errors.add(line, "line", "has more fields than the header")
        return None
    try:
        return model.model_validate({name: value for name, value in row.items() if value})
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            name = str(one["loc"][0]) if one["loc"] else "line"
            errors.add(line, name, one["msg"][:1].lower() + one["msg"][1:])
        return None


def _check_past(line: _Line, number: int, now: datetime, errors: _Errors) -> None:
    """A consent of tomorrow would outlive a stop of today, and an answer of next year never grow old."""
    for name in ("occurred_at", "last_verified_at", "asked_at"):
        at = getattr(line, name, None)
        if at is not None and at > now + CLOCK_MARGIN:
            errors.add(number, name, "is in the future")


def write(
    conn: Connection, kind: str, found: list[_Line], tenant_id: str, now: datetime, actor: str
) -> int:
    """All of them, in the caller's transaction; how many are new."""
    added = 0
    grants = []
    for line in found:
        match line:
            case OptOutLine():
                at = line.created_at or now
                entry = OptOutRecord(line.e164, line.source, at, tenant_id, line.reason)
                added += suppress(conn, entry, now) is entry
            case ConsentLine():
                grants.append(line.record(tenant_id, now, actor))
            case BlockLine():
                at = line.created_at or now
                block = dnc.BlockRecord(line.e164, line.source, at, line.reason, tenant_id)
                added += dnc.block(conn, block)
            case ReassignedLine():
                answer = consents.ReassignedRecord(
                    tenant_id, line.e164, line.answer, line.asked_at, line.for_date
                )
                consents.add_answer(conn, answer)
                added += 1
            case _:
                raise TypeError(type(line).__name__)
    consents.insert_consents(conn, grants)
    return added + len(grants)


# ---- do-not-call files ---------------------------------------------------------------------------


def read_numbers(lines: Iterable[str]) -> array[int]:
    """Numbers of a do-not-call file: `+12125550123`, `2125550123` or `212,5550123` a line.

    Eight bytes a number are kept. Raises ImportRefused.
    """
    numbers, errors = array("Q"), _Errors()
    for line, text in enumerate(lines, start=1):
        given = text.strip().replace(",", "").replace('"', "")
        if not given or (line == 1 and not any(char.isdigit() for char in given)):
            continue  # the header
        digits = given[1:] if given.startswith("+") else given
        if not (digits.isascii() and digits.isdigit()):
            errors.add(line, "number", "is not a number")
        elif given.startswith("+"):
            if not 7 <= len(digits) <= 15 or digits[0] == "0":
                errors.add(line, "number", "is not in E.164 (+ and 7 to 15 digits)")
            else:
                numbers.append(int(digits))
        elif len(digits) != 10 or digits[0] in "01":
            errors.add(line, "number", "is neither E.164 nor ten digits of a US number")
        else:
            numbers.append(int("1" + digits))
    errors.refuse()
    return numbers


def stage_numbers(
    folder: Path, numbers: array[int], *, list_id: str, tenant_id: str, as_of: datetime, source: str
) -> dnc.DncListRecord:
    """Write the file; nobody looks at it before the record is put into the store. Blocks."""
    import numpy as np

    written = number_file.write(folder, np.frombuffer(numbers, dtype=np.uint64))
    return dnc.DncListRecord(
        tenant_id=tenant_id,
        list_id=list_id,
        as_of=as_of,
        source=source,
        file_name=written.file_name,
        sha256=written.sha256,
        entries=written.entries,
        imported_at=datetime.now(UTC),
    )


# ---- export --------------------------------------------------------------------------------------


class _Echo:
    def write(self, text: str) -> str:
        return text


def export(conn: Connection, kind: str, tenant_id: str) -> Iterator[str]:
    """Lines of a CSV file that `read` takes again, the header first."""
    names = list(LINES[kind].model_fields)
    writer = csv.DictWriter(_Echo(), names, extrasaction="ignore")
    yield str(writer.writeheader())
    for record in _pages(conn, kind, tenant_id):
        yield str(writer.writerow(_row(record, names)))


def _pages(conn: Connection, kind: str, tenant_id: str) -> Iterator[Any]:
    page: Callable[[str | None], tuple[list[Any], str | None]]
    if kind == "opt-outs":

        def page(cursor: str | None) -> tuple[list[Any], str | None]:
            return opt_outs.list_opt_outs(conn, tenant_id=tenant_id, limit=500, cursor=cursor)

    elif kind == "consents":

        def page(cursor: str | None) -> tuple[list[Any], str | None]:
            return consents.list_consents(conn, tenant_id=tenant_id, limit=500, cursor=cursor)

    elif kind == "platform-blocks":

        def page(cursor: str | None) -> tuple[list[Any], str | None]:
            return dnc.list_blocks(conn, limit=500, cursor=cursor)

    else:
        raise ValueError(f"{kind} cannot be exported")
    cursor: str | None = None
    while True:
        records, cursor = page(cursor)
        yield from records
        if cursor is None:
            return


def _row(record: Any, names: list[str]) -> dict[str, Any]:
    location = getattr(record, "location", None) or {}
    return {name: _cell(getattr(record, name, location.get(name))) for name in names}


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return LIST_SEPARATOR.join(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return str(value)
