"""Items: the model of what search finds, and the rows of a request body."""

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
)

from shoal import Batch, Identifier, JsonObject, read_rows, validate_rows

ItemType = Literal["item", "update", "doc", "file"]

MAX_TEXT_BYTES = 60_000
"""UTF-8 bytes of one item's text, about 10,000 words."""
MAX_METADATA_BYTES = 16_000
MAX_ITEMS = 10_000
"""Items in one request."""
EPOCH, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
WEB_URL = re.compile(
    r"https?://[^\s\x00-\x1f\x7f-\x9f/?#\\@]+([/?#][^\s\x00-\x1f\x7f-\x9f]*)?", re.I
)
NUMBER = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?")


def _normalize(value: str) -> str:
    """Unicode's composed form (NFC), so that one word has one spelling."""
    if (at := value.find("\0")) >= 0:
        raise ValueError(f"contains a NUL character, at position {at}")
    value = unicodedata.normalize("NFC", value)
    if (size := len(value.encode())) > MAX_TEXT_BYTES:
        raise ValueError(
            f"is {size:,} bytes long, over the limit of {MAX_TEXT_BYTES:,}. "
            "Split it into several items"
        )
    return value


def _reject_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _check_url(value: str) -> str:
    """Refuse what is no page's address: whoever shows a hit makes a link of it."""
    if not WEB_URL.fullmatch(value):
        raise ValueError(
            "must be the address of a page, https://host/… or http://host/…, without spaces "
            "or a user name; leave it out if there is none"
        )
    return value


def reject_number(value: Any) -> Any:
    """Refuse numbers as times, which pydantic would read as seconds since 1970."""
    if isinstance(value, int | float) or (
        isinstance(value, str) and NUMBER.fullmatch(value.strip())
    ):
        raise ValueError("is a number; write a time such as 2026-11-23T09:30:00Z")
    return value


def check_time(value: datetime) -> datetime:
    if value < EPOCH:
        raise ValueError("is before 1970")
    # Rounded up to a millisecond, a later time could fall into the year 10000.
    if value >= END:
        raise ValueError("is after 9999-12-30")
    return value


def _check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    _check_finite(value)
    if (size := len(dump_json(value))) > MAX_METADATA_BYTES:
        raise ValueError(f"is {size:,} bytes of JSON, over the limit of {MAX_METADATA_BYTES:,}")
    return value


def _check_finite(value: Any, path: str = "") -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path or 'the value'} is {value}, which is not a JSON number")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_finite(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_finite(inner, f"{path}.{index}".lstrip("."))


class Item(BaseModel):
    """Something that can be found. `text` must not be blank; `title` may be empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Identifier
    board_id: Identifier
    type: ItemType
    title: Annotated[str, AfterValidator(_normalize), Field(max_length=2_000)]
    text: Annotated[
        str,
        AfterValidator(_normalize),
        AfterValidator(_reject_blank),
        Field(max_length=MAX_TEXT_BYTES),
    ]
    updated_at: Annotated[AwareDatetime, BeforeValidator(reject_number), AfterValidator(check_time)]
    url: (
        Annotated[
            str, AfterValidator(_normalize), Field(max_length=2_000), AfterValidator(_check_url)
        ]
        | None
    ) = None
    metadata: Annotated[JsonObject, AfterValidator(_check_metadata)] | None = None

    @property
    def updated_ms(self) -> int:
        """Milliseconds since 1970."""
        return round(self.updated_at.timestamp() * 1000)

    @property
    def passage(self) -> str:
        """The text that is embedded and searched for words."""
        return f"{self.title}\n{self.text}" if self.title else self.text


ItemBatch = Batch[Item]


def read_items(body: bytes, content_type: str) -> ItemBatch:
    """Read and check the items of a request body.

    Args:
        body: A JSON array, one JSON object, or NDJSON.
        content_type: The value of the Content-Type header.

    Raises:
        Malformed: The body is not JSON.
        Invalid: It has more than `MAX_ITEMS`.
    """
    return check_items(read_rows(body, content_type, limit=MAX_ITEMS))


def check_items(rows: Iterable[Any]) -> ItemBatch:
    """Validate rows as items. Of two valid rows with one id, the second is rejected."""
    batch = validate_rows(rows, Item.model_validate)
    first: dict[str, int] = {}
    for index, item in list(batch.accepted.items()):
        if first.setdefault(item.id, index) != index:
            batch.reject(index, f"id: {item.id!r} is already in row {first[item.id]} of this batch")
    return batch


def dump_json(value: Any) -> bytes:
    """Serialize a value.

    Raises:
        ValueError: It cannot be JSON: endless nesting, integers beyond 64 bits, or
            halves of surrogate pairs.
    """
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"cannot be stored as JSON: {error}") from None
