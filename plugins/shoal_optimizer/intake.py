"""Records as they arrive: read from a request's body, validated and stored."""

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shoal import (
    Batch,
    Invalid,
    Malformed,
    RowError,
    TenantContext,
    off_loop,
    read_rows,
    validate_rows,
    validation_errors,
)

from .assignments import check_assignments
from .exchange import read_todos
from .outcomes import hidden_outcomes, store_outcomes, with_id
from .records import DEFAULT_LEVEL, Outcome, Person, Task
from .store import Kind, RecordStore, encode
from .tasks import is_writable, merge_stored, replace_tasks

MAX_ROWS = 10_000
STORED_AT_ONCE = 100
"""Records between which other requests get their turn."""
DECIMAL_COMMA = re.compile(r"^(\s*-?\d+),(\d+\s*)$")
UNKNOWN_BOARD = "board_id: no such board that you may see"
M = TypeVar("M", bound=BaseModel)
AnyRecord = Person | Task | Outcome
MODELS: dict[Kind, type[AnyRecord]] = {"people": Person, "tasks": Task, "outcomes": Outcome}


def read_records(body: bytes, content_type: str) -> list[Any]:
    """Read the rows of a request's body, see `shoal.read_rows`.

    A calendar's to-dos are rows of tasks. In CSV skills may be written
    `Python:4; Rust:2` and people `ana; bo`. A header with semicolons separates cells
    by semicolons, as spreadsheets do where the comma is the decimal mark.
    """
    media_type = content_type.partition(";")[0].strip().casefold()
    if media_type == "text/calendar":
        return list(read_todos(body, MAX_ROWS))
    if media_type != "text/csv":
        return read_rows(body, content_type, limit=MAX_ROWS)
    header = body.partition(b"\n")[0]
    if b";" in header and b"," not in header:
        body = _with_commas(body)
    rows = read_rows(body, content_type, limit=MAX_ROWS)
    return [row if isinstance(row, RowError) else _split_lists(row) for row in rows]


def validate_record(model: type[M], row: Any, id: str | None = None) -> M:
    """Validate one record.

    Args:
        model: The record's model.
        row: What `read_records` returned.
        id: The id in the path, which the record gets.

    Raises:
        Malformed: The row could not be read.
        Invalid: It is not a valid record; the errors say where.
    """
    if isinstance(row, RowError):
        raise Malformed(row.error)
    if not isinstance(row, dict):
        raise Invalid.at("body", "a record must be an object")
    if id is not None and str(row.get("id") or id) != id:
        raise Invalid.at("id", f"it must be that of the path, {id!r}")
    try:
        return model.model_validate(row if id is None else {**row, "id": id})
    except ValidationError as error:
        errors = validation_errors(error)
        detail = "; ".join(f"{fault['location']}: {fault['message']}" for fault in errors[:3])
        raise Invalid(detail, errors=errors) from None


async def store_records(ctx: TenantContext, kind: Kind, rows: Sequence[Any]) -> Batch[AnyRecord]:
    """Store the valid rows; of several with the same id the last one.

    Args:
        ctx: The caller's context.
        kind: What the rows are.
        rows: What `read_records` returned.

    Returns:
        The stored records and the errors of the other rows, by index.
    """

    def validate(row: Any) -> AnyRecord:
        record = MODELS[kind].model_validate(row)
        if isinstance(record, Outcome):
            record = with_id(record)
        if not record.id:
            raise Invalid("id: a record needs an id")
        if isinstance(record, Task) and not is_writable(ctx, record.board_id):
            raise Invalid(UNKNOWN_BOARD)
        return record

    batch = await off_loop(validate_rows, rows, validate)
    records = {record.id: record for record in batch.accepted.values()}
    errors: dict[str, str] = {}
    remaining = iter(records.items())
    while part := dict(islice(remaining, STORED_AT_ONCE)):
        errors |= await _store_part(ctx, kind, part)
    for index, record in list(batch.accepted.items()):
        if record.id in errors:
            batch.reject(index, errors[record.id])
    return batch


async def _store_part(
    ctx: TenantContext, kind: Kind, records: dict[str, AnyRecord]
) -> dict[str, str]:
    """Store some records; the errors of those that were not, by id."""
    if kind == "tasks":
        tasks = {id: record for id, record in records.items() if isinstance(record, Task)}
        return await _store_tasks(ctx, tasks)
    if kind == "outcomes":
        outcomes = {id: record for id, record in records.items() if isinstance(record, Outcome)}
        return await _store_visible_outcomes(ctx, outcomes)
    await put_people(ctx, {id: encode(record) for id, record in records.items()})
    return {}


async def put_people(ctx: TenantContext, people: dict[str, bytes]) -> None:
    """Store people, and mark the assignments that this breaks."""
    await RecordStore(ctx).put("people", people)
    await check_assignments(ctx, people)


async def delete_person(ctx: TenantContext, id: str) -> bool:
    """Delete a person, and mark their assignments; whether there was one."""
    existed = await RecordStore(ctx).delete("people", id)
    if existed:
        await check_assignments(ctx, [id])
    return existed


async def _store_tasks(ctx: TenantContext, tasks: dict[str, Task]) -> dict[str, str]:
    """Store tasks; the errors of those that were not, by id."""
    stored = await replace_tasks(ctx, list(tasks), lambda id, old: merge_stored(tasks[id], old))
    return {id: UNKNOWN_BOARD for id in tasks if id not in stored}


async def _store_visible_outcomes(
    ctx: TenantContext, outcomes: dict[str, Outcome]
) -> dict[str, str]:
    """Store outcomes; the errors of those that were not, by id."""
    hidden = await hidden_outcomes(ctx, outcomes)
    await store_outcomes(ctx, [outcome for id, outcome in outcomes.items() if id not in hidden])
    return {id: f"task: {outcomes[id].task!r} not found" for id in hidden}


def _with_commas(body: bytes) -> bytes:
    """CSV with commas from CSV with semicolons; a number's decimal comma is a point."""
    written = io.StringIO()
    to = csv.writer(written, lineterminator="\n")
    try:
        for row in csv.reader(
            io.StringIO(body.decode("utf-8-sig"), ""), delimiter=";", strict=True
        ):
            to.writerow([DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in row])
    except (csv.Error, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not CSV: {error}") from None
    return written.getvalue().encode()


def _split_lists(row: dict[str, Any]) -> dict[str, Any] | RowError:
    """A row of CSV with its lists, which are separated by semicolons."""
    lists = {
        name: [part.strip() for part in row[name].split(";") if part.strip()]
        for name in ("skills", "people", "team")
        if isinstance(row.get(name), str)
    }
    if "skills" in lists:
        pairs = (
            part.rpartition(":") if ":" in part else (part, "", DEFAULT_LEVEL)
            for part in lists["skills"]
        )
        if any(":" in part.rpartition(":")[0] for part in lists["skills"]):
            return RowError(f"skills: {row['skills']!r} is not of the form 'Python:4; Rust:2'")
        return {**row, **lists, "skills": {skill.strip(): level for skill, _, level in pairs}}
    return {**row, **lists}
