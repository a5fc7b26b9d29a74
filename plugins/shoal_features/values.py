"""The stored form of a value in the online store.

Event time and created time come first (µs since 1970, 7 bytes each, big-endian), then
four bytes for the feature (`View.identity`), then the value as JSON. Lua scripts
compare these at their fixed places, and responses are put together from the stored JSON
without parsing it.
"""

import base64
import math
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson

TIME_LIMIT = 2**53
"""Times are below this (in the year 2255), since Lua's numbers are doubles."""

IDENTITY_AT, JSON_AT = 14, 18
"""Offsets of the feature's identity and of the JSON."""

_BITS = {"int32": 31, "int64": 63}
_FLOAT32 = struct.Struct("<f")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A decoded value. `event` and `created` are µs since 1970."""

    event: int
    created: int
    identity: bytes
    json: bytes


def to_micros(time: datetime) -> int:
    """Microseconds since 1970, exactly.

    Raises:
        ValueError: For a time without a zone.
    """
    if time.tzinfo is None:
        raise ValueError(
            f"the time {time.isoformat()} has no zone; write it like 2026-11-23T10:00:00+00:00"
        )
    return (time - EPOCH) // timedelta(microseconds=1)


def from_micros(us: int) -> datetime:
    """The UTC time that is `us` microseconds after 1970."""
    return EPOCH + timedelta(microseconds=us)


def format_time(time: datetime) -> str:
    """A time as every answer and every stored value has it: RFC 3339 in UTC, with Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: Any, zone: ZoneInfo | None = None) -> datetime:
    """A time in ISO 8601 with a zone, such as RFC 3339's, in UTC.

    What is finer than a microsecond is cut off.

    Args:
        text: The time.
        zone: Where a time without a zone is; None where it must have one.

    Raises:
        ValueError: When it is not a time, has no zone, is not in the years 1 to 9999,
            or is one that `zone` has twice or never, as its clocks change.
    """
    if not isinstance(text, str):
        raise ValueError(f"a time must be a text like 2026-11-23T10:00:00Z, not {text!r:.60}")
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r:.60} is not a time like 2026-11-23T10:00:00Z") from None
    if time.tzinfo is None and zone is not None:
        time = time.replace(tzinfo=zone)
        if time.utcoffset() != time.replace(fold=1).utcoffset():
            raise ValueError(f"{text} is when clocks change in {zone.key}: write its offset")
    to_micros(time)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the time {text} is out of range") from None


def pack(identity: bytes, dtype: str, value: Any, event: int, created: int) -> bytes:
    """Encode a value for the online store.

    Args:
        identity: The feature's (`View.identity`).
        dtype: The feature's type.
        value: As JSON or Python gives it; None for null.
        event: Event time, µs since 1970.
        created: Created time, µs since 1970.

    Raises:
        ValueError: When the value is not of the type, or a time is before 1970 or after
            2255.
    """
    return pack_times(event, created) + identity + to_json(dtype, value)


def pack_times(event: int, created: int) -> bytes:
    """The first 14 bytes of a stored value.

    Raises:
        ValueError: When a time is before 1970 or after 2255.
    """
    for time in (event, created):
        if not 0 <= time < TIME_LIMIT:
            raise ValueError(f"the time {time} µs is not between 1970 and 2255")
    return event.to_bytes(7, "big") + created.to_bytes(7, "big")


def unpack(raw: bytes) -> StoredValue:
    """Decode a stored value."""
    return StoredValue(
        int.from_bytes(raw[:7], "big"),
        int.from_bytes(raw[7:IDENTITY_AT], "big"),
        raw[IDENTITY_AT:JSON_AT],
        raw[JSON_AT:],
    )


def to_json(dtype: str, value: Any) -> bytes:
    """Encode a value as JSON, the same for the online store and the offline table.

    Times become RFC 3339, bytes base64, NaN and None null. A float32 is rounded to
    single precision, and an integral float counts as an integer.

    Raises:
        ValueError: When the value is not of the type.
    """
    if dtype.endswith("[]"):
        if value is None:
            return b"null"
        if not isinstance(value, list | tuple):
            raise ValueError(f"{_shorten(value)} is not a list")
        return b"[" + b",".join(to_json(dtype[:-2], v) for v in value) + b"]"
    return orjson.dumps(_to_plain(dtype, value))


def fit_number(dtype: str, json: bytes) -> bytes:
    """Convert a number computed in double precision to its feature's type.

    It is rounded to an integer (half to even) or to a float32, and null where it does
    not fit. `aggregation` does the same in SQL.
    """
    number = orjson.loads(json) if dtype in ("int32", "int64", "float32") else None
    if number is None:
        return json
    try:
        return to_json(dtype, round(number) if dtype in _BITS else number)
    except ValueError:
        return b"null"


def _to_plain(dtype: str, value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _to_number(dtype, value)
    if dtype == "bool" and isinstance(value, bool):
        return value
    if dtype == "string" and isinstance(value, str):
        return value
    if dtype == "unix_timestamp":
        if isinstance(value, str):
            value = parse_time(value)
        if isinstance(value, datetime):
            return format_time(from_micros(to_micros(value)))
    if dtype == "bytes":
        if isinstance(value, str):
            value = base64.b64decode(value, validate=True)
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
    raise _type_error(dtype, value)


def _to_number(dtype: str, value: int | float) -> int | float:
    if dtype in _BITS and value == int(value):
        limit = 2 ** _BITS[dtype]
        if -limit <= value < limit:
            return int(value)
    if dtype in ("float32", "float64") and math.isfinite(value):
        try:
            if dtype == "float64":
                return float(value)
            single: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
            return single
        except OverflowError:
            raise ValueError(f"{_shorten(value)} is too large for a {dtype}") from None
    raise _type_error(dtype, value)


def _type_error(dtype: str, value: Any) -> ValueError:
    return ValueError(f"{_shorten(value)} is not {'an' if dtype[0] in 'aeiou' else 'a'} {dtype}")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
