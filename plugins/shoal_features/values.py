"""How one value is written online: event time and created time (µs since 1970, 7 bytes
each, big-endian), a byte for the type, and the value as JSON.

The times come first and at fixed places, so that a Lua script compares them and a
reader skips them without parsing; the JSON last, so that a response is put together
from the stored bytes.
"""

import base64
import math
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

CODES = {
    "int64": b"l", "int32": b"i", "float64": b"d", "float32": b"f",
    "string": b"s", "bool": b"b", "unix_timestamp": b"t", "bytes": b"y",
}  # fmt: skip
"""A list of a type has its code in upper case."""

WINDOW = b"w"
"""The code of a marker: the value is counted from the sliding window at the time of
asking.
"""

LATEST = 2**53
"""Times are below this (in the year 2255): Lua counts in doubles."""

TIMES, JSON = 14, 15
"""Where the type begins, and the JSON."""

_BITS = {"int32": 31, "int64": 63}
_FLOAT32 = struct.Struct("<f")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stored:
    """A decoded value. Times are microseconds since 1970."""

    event: int
    created: int
    code: bytes
    json: bytes


def micros(time: datetime) -> int:
    """Microseconds since 1970, exactly. Raises ValueError for a time without a zone."""
    if time.tzinfo is None:
        raise ValueError(
            f"the time {time.isoformat()} has no zone; write it like 2026-11-23T10:00:00+00:00"
        )
    return (time - EPOCH) // timedelta(microseconds=1)


def moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def pack(dtype: str, value: Any, event: int, created: int) -> bytes:
    """The stored form of a value of type `dtype`. Raises ValueError when it is not of
    that type, or a time is before 1970 or after 2255.
    """
    code = CODES[dtype.removesuffix("[]")]
    return (
        stamp(event, created)
        + (code.upper() if dtype.endswith("[]") else code)
        + to_json(dtype, value)
    )


def stamp(event: int, created: int) -> bytes:
    """The two times of a stored value. Raises ValueError when one cannot be stored."""
    for time in (event, created):
        if not 0 <= time < LATEST:
            raise ValueError(f"the time {time} µs is not between 1970 and 2255")
    return event.to_bytes(7, "big") + created.to_bytes(7, "big")


def unpack(raw: bytes) -> Stored:
    return Stored(
        int.from_bytes(raw[:7], "big"),
        int.from_bytes(raw[7:TIMES], "big"),
        raw[TIMES:JSON],
        raw[JSON:],
    )


def to_json(dtype: str, value: Any) -> bytes:
    """A value of type `dtype` as JSON: times as RFC 3339, bytes as base64, NaN and None
    as null, float32 rounded to one, so that it is the same online and offline.
    ValueError when it is not of that type (an integral float counts as an integer).
    """
    if dtype.endswith("[]"):
        if value is None:
            return b"null"
        if not isinstance(value, list | tuple):
            raise ValueError(f"{_show(value)} is not a list")
        return b"[" + b",".join(to_json(dtype[:-2], v) for v in value) + b"]"
    return orjson.dumps(_plain(dtype, value))


def fitted(dtype: str, json: bytes) -> bytes:
    """A number computed in double precision as a value of its feature's type: rounded
    to an integer (half to even) or to a float32, null where it does not fit.
    `aggregation._fitted` says the same in SQL.
    """
    number = orjson.loads(json) if dtype in ("int32", "int64", "float32") else None
    if number is None:
        return json
    try:
        return to_json(dtype, round(number) if dtype in _BITS else number)
    except ValueError:
        return b"null"


def _plain(dtype: str, value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        dtype in _BITS
        and number
        and value == int(value)
        and -(2 ** _BITS[dtype]) <= value < 2 ** _BITS[dtype]
    ):
        return int(value)
    if dtype in ("float32", "float64") and number and math.isfinite(value):
        try:
            return float(value) if dtype == "float64" else _FLOAT32.unpack(_FLOAT32.pack(value))[0]
        except OverflowError:
            raise ValueError(f"{_show(value)} is too large for a {dtype}") from None
    if dtype == "bool" and isinstance(value, bool):
        return value
    if dtype == "string" and isinstance(value, str):
        return value
    if dtype == "unix_timestamp":
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return moment(micros(value)).isoformat()
    if dtype == "bytes":
        if isinstance(value, str):
            value = base64.b64decode(value, validate=True)
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
    raise ValueError(f"{_show(value)} is not {'an' if dtype[0] in 'aeiou' else 'a'} {dtype}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
