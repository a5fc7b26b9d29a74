"""Rows in a request body: read JSON, NDJSON or CSV, with an error per invalid row."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
from pydantic import ValidationError

from .errors import Invalid, Malformed
from .faults import fault_location, fault_message

T = TypeVar("T")

DESCRIBED_ERRORS = 5
"""The largest number of errors described for one row."""


@dataclass(frozen=True, slots=True)
class RowError:
    """Stands in for a row that could not be read."""

    error: str


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
            the rejected rows in the order of the request.
        """
        return {
            "accepted": len(self.accepted),
            "rejected": [
                {"index": index, "error": self.rejected[index]} for index in sorted(self.rejected)
            ],
        }


def read_rows(body: bytes, content_type: str, *, limit: int) -> list[Any]:
    """Read the rows of a request body.

    The content type chooses the format: NDJSON (`application/x-ndjson` or
    `application/jsonl`), CSV with a header (`text/csv`), else JSON: an array, or a
    single object as the only row. Blank lines are skipped. A CSV cell is text without
    surrounding blanks, or JSON if it begins with `[` or `{`; empty cells are omitted.

    >>> read_rows(b'{"id": 1}\\n{"id":', "application/x-ndjson", limit=10)[0]
    {'id': 1}

    Args:
        body: The bytes of the request.
        content_type: The value of the Content-Type header.
        limit: The largest number of rows.

    Returns:
        The rows in order, with a `RowError` in place of each that could not be read:
        an NDJSON line that is not JSON, a row with a number that is NaN or infinite, a
        CSV row with more cells than the header.

    Raises:
        Malformed: The body as a whole is not what the content type says.
        Invalid: There are more than `limit` rows.
    """
    kind = content_type.partition(";")[0].strip().casefold()
    if kind == "text/csv":
        rows = _read_csv(body)
    elif "ndjson" in kind or "jsonl" in kind:
        rows = [_read_line(line) for line in body.splitlines() if line.strip()]
    else:
        rows = _read_json(body)
    if len(rows) > limit:
        raise Invalid.at(
            "body", f"{len(rows):,} rows in one request; at most {limit:,} are accepted"
        )
    return rows


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
            "location": prefix + fault_location(fault["loc"]),
            "message": fault_message(fault),
        }
        for fault in error.errors(include_url=False, include_input=False)
    ]


def _read_json(body: bytes) -> list[Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _load_leniently(body)
        if not isinstance(value, list):
            raise Malformed(f"the body is not JSON: {error}") from None
        return [_check_strictly(row) for row in value]
    return value if isinstance(value, list) else [value]


def _read_line(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        value = _load_leniently(line)
        if value is None:
            return RowError(f"the line is not JSON: {error}")
        return _check_strictly(value)


def _load_leniently(data: bytes) -> Any:
    """Parse JSON with NaN or infinite numbers, so that the error can name their row."""
    if b"NaN" not in data and b"Infinity" not in data:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _check_strictly(row: Any) -> Any:
    for location, number in _numbers(row):
        if not math.isfinite(number):
            error = f"{number} is not a JSON number"
            return RowError(f"{location}: {error}" if location else error)
    try:
        orjson.dumps(row)
    except TypeError as error:
        return RowError(f"not JSON: {error}")
    return row


def _numbers(row: Any) -> Iterator[tuple[str, float]]:
    """The floating-point numbers in a row, with their locations."""
    pending = [("", row)]
    while pending:
        location, value = pending.pop()
        if isinstance(value, float):
            yield location, value
        elif isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += [(f"{location}.{key}".lstrip("."), inner) for key, inner in items]


def _read_csv(body: bytes) -> list[Any]:
    try:
        lines = io.StringIO(body.decode("utf-8-sig"), newline="")
        return [_read_cells(row) for row in csv.DictReader(lines, strict=True)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not CSV: {error}") from None


def _read_cells(row: dict[str | Any, str | Any]) -> dict[str, Any] | RowError:
    if None in row:
        return RowError("the row has more cells than the header")
    values: dict[str, Any] = {}
    for name, cell in row.items():
        text = (cell or "").strip()
        if text.startswith(("[", "{")):
            try:
                values[name.strip()] = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                return RowError(f"{name.strip()}: not JSON: {error}")
        elif text:
            values[name.strip()] = text
    return values
