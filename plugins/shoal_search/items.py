"""Items as they come in: what is taken, and what is said of the rest."""

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from shoal import Identifier, Invalid, Malformed

Type = Literal["item", "update", "doc", "file"]

TEXT_BYTES = 60_000
"""UTF-8 bytes of one item's text: about 10,000 words."""
METADATA_BYTES = 16_000
ITEMS = 10_000
"""Items in one request."""
METADATA_LEVELS = 32
"""Of objects and arrays within each other."""
EPOCH, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
NUMBER = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?")


def _text(value: str) -> str:
    """In Unicode's composed form, so that one word has one spelling."""
    if (at := value.find("\0")) >= 0:
        raise ValueError(f"holds a NUL character, at position {at}")
    value = unicodedata.normalize("NFC", value)
    if (size := len(value.encode())) > TEXT_BYTES:
        raise ValueError(
            f"is {size:,} bytes long; {TEXT_BYTES:,} is the most. Split it into several items"
        )
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def no_number(value: Any) -> Any:
    """For times: pydantic takes a number, as a number or as text, for seconds since
    1970.
    """
    if isinstance(value, int | float) or (
        isinstance(value, str) and NUMBER.fullmatch(value.strip())
    ):
        raise ValueError("is a number; a time is text such as 2026-11-23T09:30:00Z")
    return value


def _since_1970(value: datetime) -> datetime:
    if value < EPOCH:
        raise ValueError("is before 1970")
    if (
        value >= END
    ):  # rounded to a millisecond it might be in the year 10000, which no datetime can say
        raise ValueError("is after 9999-12-30")
    return value


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    _finite(value)
    if (size := len(dumped(value))) > METADATA_BYTES:
        raise ValueError(f"is {size:,} bytes of JSON; {METADATA_BYTES:,} is the most")
    return value


def _finite(value: Any, path: str = "", level: int = 0) -> None:
    if level > METADATA_LEVELS:
        raise ValueError(f"is nested more than {METADATA_LEVELS} levels deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path or 'the value'} is {value}, which is no JSON number")
    if isinstance(value, dict):
        for key, inner in value.items():
            _finite(inner, f"{path}.{key}".lstrip("."), level + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _finite(inner, f"{path}.{index}".lstrip("."), level + 1)


class Item(BaseModel):
    """Something that can be found. `text` is required and not blank; `title` may be
    empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Identifier
    board_id: Identifier
    type: Type
    title: Annotated[str, AfterValidator(_text), Field(max_length=2_000)]
    text: Annotated[str, AfterValidator(_text), AfterValidator(_not_blank)]
    updated_at: Annotated[AwareDatetime, BeforeValidator(no_number), AfterValidator(_since_1970)]
    url: Annotated[str, AfterValidator(_text), Field(max_length=2_000)] | None = None
    metadata: Annotated[dict[str, Any], AfterValidator(_metadata)] | None = None

    @property
    def updated_ms(self) -> int:
        return round(self.updated_at.timestamp() * 1000)

    @property
    def passage(self) -> str:
        """What stands for its meaning, and what its words are looked for in."""
        return f"{self.title}\n{self.text}" if self.title else self.text


class Broken(str):
    """A row that is not even JSON, as what is wrong with it."""


def rows(body: bytes, content_type: str = "application/json") -> list[Any]:
    """The rows of a request: of a JSON array or of NDJSON, a single object being one
    row. `NaN` and `Infinity` are let through so that their row can be named. Malformed
    where nothing can be told apart; Invalid for too many rows.
    """
    if "ndjson" in content_type or "jsonl" in content_type:
        found = [_line(line) for line in body.splitlines() if line.strip()]
    else:
        value = _json(body)
        if isinstance(value, Broken):
            raise Malformed(f"the body is not JSON: {value}")
        found = value if isinstance(value, list) else [value]
    if not found:
        raise Invalid("there is no item in the body")
    if len(found) > ITEMS:
        raise Invalid(f"{len(found):,} items in one request; {ITEMS:,} is the most")
    return found


def _line(line: bytes) -> Any:
    value = _json(line)
    return Broken(f"the line is not JSON: {value}") if isinstance(value, Broken) else value


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as fault:
        if b"NaN" in data or b"Infinity" in data:
            try:
                return json.loads(data)
            except (ValueError, RecursionError):
                pass
        return Broken(str(fault))


def checked(rows: Iterable[Any]) -> tuple[list[tuple[int, Item]], list[dict[str, Any]]]:
    """(index, item) of the good rows, and `{"index", "error"}` of each bad one. Of two
    rows with one id the later is bad.
    """
    good: list[tuple[int, Item]] = []
    bad: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        try:
            if isinstance(row, Broken):
                raise ValueError(str(row))
            item = Item.model_validate(row)
            if first.setdefault(item.id, index) != index:
                raise ValueError(
                    f"id: {item.id!r} is already in row {first[item.id]} of this batch"
                )
        except ValidationError as error:
            bad.append({"index": index, "error": explained(error)})
        except ValueError as error:
            bad.append({"index": index, "error": str(error)})
        else:
            good.append((index, item))
    return good, bad


def explained(error: ValidationError) -> str:
    """What is wrong with a row, field by field, in one line."""
    parts = []
    for fault in error.errors(include_url=False, include_input=False)[:5]:
        message = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"]
        where = ".".join(str(part) for part in fault["loc"])
        parts.append(f"{where}: {message}" if where else message)
    return "; ".join(parts)


def dumped(value: Any) -> bytes:
    """JSON. ValueError for what it cannot hold: nesting without end, integers beyond 64
    bits, halves of surrogate pairs.
    """
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"cannot be stored as JSON: {error}") from None
