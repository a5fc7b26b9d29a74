"""Rows in a request body: read JSON, NDJSON or CSV, with an error per invalid row.

No row, and no split of a body into rows, takes longer than some milliseconds, and
between rows Python may run other threads. So a large body that is read by `off_loop`
delays no other request.
"""

import asyncio
import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any, AnyStr, Concatenate, Generic, ParamSpec, TypeVar

import msgspec
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from .bounds import check_size
from .errors import Invalid, Malformed, TooLarge
from .faults import fault_location, fault_message
from .json_text import load_json

P = ParamSpec("P")
S = TypeVar("S", bound=Sized)
T = TypeVar("T")

DESCRIBED_ERRORS = 5
"""The largest number of errors described for one row."""
SMALL_BYTES = 32 * 2**10
"""A body up to this size is read on the event loop, within a millisecond."""
SMALL_ROWS = 50
"""And so many rows."""
ROW_BYTES = 512 * 2**10
"""The largest row of JSON."""
MAX_COMMAS = 500_000
"""Commas in a JSON array of rows, which bound the time to split it."""


@dataclass(frozen=True, slots=True)
class RowError:
    """Stands in for a row that could not be read."""

    error: str


class RejectedRow(BaseModel):
    """A row that was not accepted, by its index in the request."""

    model_config = ConfigDict(extra="forbid")

    index: int
    error: str


class BatchResult(BaseModel):
    """How many rows were accepted, and the errors of the others."""

    model_config = ConfigDict(extra="forbid")

    accepted: int
    rejected: list[RejectedRow]


@dataclass(slots=True)
class Batch(Generic[T]):
    """The valid and the invalid rows of one request, by their index."""

    accepted: dict[int, T] = field(default_factory=dict)
    rejected: dict[int, str] = field(default_factory=dict)

    def reject(self, index: int, error: str) -> None:
        """Reject a row, even if it was accepted before."""
        self.accepted.pop(index, None)
        self.rejected[index] = error

    def response(self) -> dict[str, Any]:
        """The body of the response.

        Returns:
            `{"accepted": 2, "rejected": [{"index": 1, "error": "id: missing"}]}`, with
            the rejected rows in the order of the request; see `BatchResult`.
        """
        return {
            "accepted": len(self.accepted),
            "rejected": [
                {"index": index, "error": self.rejected[index]} for index in sorted(self.rejected)
            ],
        }


async def off_loop(
    work: Callable[Concatenate[S, P], T], data: S, *args: P.args, **kwargs: P.kwargs
) -> T:
    """`work(data, …)`, in a thread when there are many data.

    Args:
        work: A function that does not use the event loop.
        data: The bytes of a body, or rows.
        *args: More arguments of the function.
        **kwargs: And those with names.

    Returns:
        What the function returned.
    """
    if len(data) <= (SMALL_BYTES if isinstance(data, bytes) else SMALL_ROWS):
        return work(data, *args, **kwargs)
    return await asyncio.to_thread(work, data, *args, **kwargs)


def read_rows(body: bytes, content_type: str, *, limit: int) -> list[Any]:
    """Read the rows of a request body.

    The content type chooses the format: NDJSON (`application/x-ndjson` or
    `application/jsonl`), CSV with a header (`text/csv`), else JSON: an array, or a
    single object as the only row. Blank lines are skipped. A CSV cell is text without
    surrounding blanks, or JSON if it begins with `[` or `{`; empty cells are omitted.

    An empty array, no lines, and a header alone are no rows, and no error.

    >>> read_rows(b'{"id": 1}\\n{"id":', "application/x-ndjson", limit=10)[0]
    {'id': 1}

    Args:
        body: The bytes of the request.
        content_type: The value of the Content-Type header.
        limit: The largest number of rows.

    Returns:
        The rows in order, with a `RowError` in place of each that could not be read:
        one that is not JSON, is larger than `ROW_BYTES`, or has a number that is NaN,
        infinite, or an integer beyond 64 bits; in CSV, one with more cells than the
        header.

    Raises:
        Malformed: The body as a whole is not what the content type says.
        Invalid: There are more than `limit` rows.
        TooLarge: A JSON array holds more than `MAX_COMMAS` values.
    """
    kind = content_type.partition(";")[0].strip().casefold()
    if kind == "text/csv":
        return _read_csv(body, limit)
    if "ndjson" in kind or "jsonl" in kind:
        return [_read_row(line, "line") for line in split_lines(body, limit)]
    if not body.lstrip().startswith(b"["):
        return [_read_single(body)]
    return _read_array(body, limit)


def read_object(body: bytes, rows: str, *, limit: int) -> tuple[dict[str, Any], list[Any] | None]:
    """Read a JSON object, one of whose fields is an array of rows.

    Args:
        body: The bytes of the request.
        rows: The name of that field.
        limit: The largest number of rows.

    Returns:
        The other fields, and the rows as `read_rows` returns them; None where the
        field is missing or null.

    Raises:
        Malformed: The body is not JSON.
        Invalid: It is no object, the field no array, or there are more than `limit`
            rows.
        TooLarge: The rows hold more than `MAX_COMMAS` values, or the other fields more
            than `ROW_BYTES`.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        fault = {"location": "body", "message": "must be an object"}
        raise Invalid("body: must be an object", errors=[fault]) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    array = bytes(fields.pop(rows, b"null"))
    if array != b"null" and not array.startswith(b"["):
        fault = {"location": rows, "message": "must be an array"}
        raise Invalid(f"{rows}: must be an array", errors=[fault])
    if sum(map(len, fields)) + sum(len(bytes(value)) for value in fields.values()) > ROW_BYTES:
        raise TooLarge(f"the fields beside {rows} are over the limit of {ROW_BYTES:,} bytes")
    others = {name: _read_single(bytes(value)) for name, value in fields.items()}
    check_size(others)
    return others, None if array == b"null" else _read_array(array, limit)


def split_lines(body: bytes, limit: int) -> list[bytes]:
    """The lines that are not blank.

    Raises:
        Invalid: There are more than `limit` of them, or too many blank ones.
    """
    lines: list[bytes] = []
    for number, line in enumerate(_lines(body, b"\n")):
        if line := line.strip():
            lines.append(line)
        if len(lines) > limit or number > 2 * limit + 1_000:
            raise _too_many_rows(limit)
    return lines


def rows_body(
    schema: dict[str, Any], limit: int, *more: str, media: str = "application/json"
) -> dict[str, Any]:
    """The OpenAPI of a body that `read_rows` reads, for `openapi_extra`.

    Args:
        schema: The JSON schema of one row, such as `Item.model_json_schema()`.
        limit: The largest number of rows.
        *more: Other media types that are accepted, such as `text/csv`.
        media: The media type of JSON.
    """
    row = _inline(schema, schema.get("$defs", {}))
    text = {"type": "string", "maxLength": limit * ROW_BYTES}
    content = {
        media: {"schema": {"anyOf": [{"type": "array", "maxItems": limit, "items": row}, row]}},
        "application/x-ndjson": {"schema": text},
        **{kind: {"schema": text} for kind in more},
    }
    return {"requestBody": {"required": True, "content": content}}


def validate_rows(rows: Iterable[Any], validate: Callable[[Any], T]) -> Batch[T]:
    """Validate each row by itself, so that an invalid one does not stop the others.

    Args:
        rows: The rows, as `read_rows` returns them.
        validate: Converts one row, such as `Item.model_validate`. It rejects a row by
            raising ValueError (pydantic's ValidationError is one) or `Invalid`.

    Returns:
        The converted rows and the errors of the others, each by its index in `rows`.
    """
    batch: Batch[T] = Batch()
    for index, row in enumerate(rows):
        if isinstance(row, RowError):
            batch.rejected[index] = row.error
            continue
        try:
            batch.accepted[index] = validate(row)
        except ValidationError as error:
            batch.rejected[index] = describe_validation_error(error)
        except (ValueError, Invalid) as error:
            batch.rejected[index] = str(error)
    return batch


def describe_validation_error(error: ValidationError) -> str:
    """One line that describes a row's errors: `title: Field required; size: …`."""
    return "; ".join(
        f"{fault['location']}: {fault['message']}" if fault["location"] else fault["message"]
        for fault in validation_errors(error)[:DESCRIBED_ERRORS]
    )


def validation_errors(error: ValidationError, prefix: str = "") -> list[dict[str, str]]:
    """The errors that pydantic found, as the `errors` of a `ShoalError`.

    Args:
        error: What pydantic raised.
        prefix: What each location begins with, such as `variants.treatment.`.

    Returns:
        `[{"location": "items.3.text", "message": "Field required"}, …]`, without the
        values that were sent.
    """
    return [
        {
            "location": prefix + fault_location(fault),
            "message": fault_message(fault),
        }
        for fault in error.errors(include_url=False, include_input=False)
    ]


def _too_many_rows(limit: int) -> Invalid:
    message = f"more than {limit:,} rows in one request; send them in parts"
    return Invalid(message, errors=[{"location": "body", "message": message}])


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """A JSON schema with its definitions in place of the references to them."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
        return {k: _inline(v, definitions) for k, v in schema.items() if k != "$defs"}
    return [_inline(part, definitions) for part in schema] if isinstance(schema, list) else schema


def _read_array(body: bytes, limit: int) -> list[Any]:
    if body.count(b",") > MAX_COMMAS:
        raise TooLarge(
            f"the rows hold more than {MAX_COMMAS:,} values; send them in parts, or as NDJSON"
        )
    try:
        rows = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        value = _load_leniently(body)
        if not isinstance(value, list):
            raise Malformed(f"the body is not JSON: {error}") from None
        if len(value) > limit:
            raise _too_many_rows(limit) from None
        return [_check_strictly(row) for row in value]
    if len(rows) > limit:
        raise _too_many_rows(limit)
    return [_read_row(bytes(row)) for row in rows]


def _read_single(body: bytes) -> Any:
    if len(body) > ROW_BYTES:
        raise TooLarge(f"a single row is over the limit of {ROW_BYTES:,} bytes")
    try:
        value = load_json(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    check_size(value)
    return value


def _read_row(line: bytes, what: str = "row") -> Any:
    if len(line) > ROW_BYTES:
        return RowError(f"the {what} is over the limit of {ROW_BYTES:,} bytes")
    try:
        value = load_json(line)
    except Invalid as error:
        return RowError(error.detail)
    except orjson.JSONDecodeError as error:
        value = _load_leniently(line)
        if value is None:
            return RowError(f"the {what} is not JSON: {error}")
        return _check_strictly(value)
    if len(line) > SMALL_BYTES:
        try:
            check_size(value)
        except TooLarge as error:
            return RowError(error.detail)
    return value


def _load_leniently(data: bytes) -> Any:
    """Parse JSON with NaN or infinite numbers, so that the error can name their row."""
    if len(data) > ROW_BYTES or (b"NaN" not in data and b"Infinity" not in data):
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _check_strictly(row: Any) -> Any:
    for path, number in _numbers(row):
        if not math.isfinite(number):
            error = f"{number} is not a JSON number"
            location = _location(path)
            return RowError(f"{location}: {error}" if location else error)
    try:
        orjson.dumps(row)
    except TypeError as error:
        return RowError(f"not JSON: {error}")
    return row


def _numbers(row: Any) -> Iterator[tuple[Any, float]]:
    """The floating-point numbers in a row, each with its path: (parent's path, key)."""
    pending: list[tuple[Any, Any]] = [(None, row)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, float):
            yield path, value
        elif isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += [((path, key), inner) for key, inner in items]


def _location(path: Any) -> str:
    parts: list[str] = []
    while path is not None:
        path, key = path
        parts.append(str(key)[:128])
    return ".".join(reversed(parts))


def _lines(text: AnyStr, end: AnyStr) -> Iterator[AnyStr]:
    """The lines, one at a time, so that other threads may run between them."""
    start = 0
    while start < len(text):
        after = text.find(end, start) + 1 or len(text)
        yield text[start:after]
        start = after


def _csv_lines(body: bytes) -> Iterator[str]:
    for line in _lines(body.decode("utf-8-sig"), "\n"):
        if len(line) > ROW_BYTES:
            raise TooLarge(f"a line of the CSV is over the limit of {ROW_BYTES:,} characters")
        yield line


def _read_csv(body: bytes, limit: int) -> list[Any]:
    rows: list[Any] = []
    try:
        for row in csv.DictReader(_csv_lines(body), strict=True):
            rows.append(_read_cells(row))
            if len(rows) > limit:
                raise _too_many_rows(limit)
    except (csv.Error, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not CSV: {error}") from None
    return rows


def _read_cells(row: dict[str | Any, str | Any]) -> dict[str, Any] | RowError:
    if None in row:
        return RowError("the row has more cells than the header")
    values: dict[str, Any] = {}
    for name, cell in row.items():
        text = (cell or "").strip()
        if text.startswith(("[", "{")):
            try:
                values[name.strip()] = load_json(text.encode())
            except Invalid as error:
                return RowError(f"{name.strip()}.{error.detail}")
            except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
                return RowError(f"{name.strip()}: not JSON: {error}")
        elif text:
            values[name.strip()] = text
    return values
