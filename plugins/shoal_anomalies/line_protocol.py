"""InfluxDB's line protocol, so that Telegraf can write.

    measurement,tag=value,… field=value,… [timestamp]

A line becomes a point per numeric field: the metric is `measurement.field`
(`measurement` alone for a field named `value`), the tags are the labels. Text fields
are skipped, booleans are 0 and 1. The line is refused as a whole when any of it is
wrong.

Source: https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from .points import BadPoint, Labels

DIVISORS = {
    "ns": 1_000_000_000,
    "n": 1_000_000_000,
    "us": 1_000_000,
    "u": 1_000_000,
    "ms": 1_000,
    "s": 1,
    "m": 1 / 60,
    "h": 1 / 3600,
}
_FIELD = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def records(line: str, precision: str = "ns") -> list[dict[str, Any]]:
    """The records, as `points.parse_point` reads them, of one line; none for a blank
    line or a comment. Raises BadPoint.
    """
    line = line.strip()
    if not line or line.startswith("#"):
        return []
    parts = [part for part in _split(line, " ") if part]
    if len(parts) not in (2, 3):
        raise BadPoint("", "a line is `measurement,tag=value field=value timestamp`")
    measurement, *tags = _split(parts[0], ",")
    labels = dict(_pair(tag, "tag") for tag in tags)
    time = _time(parts[2], precision) if len(parts) == 3 else None
    found = []
    for item in _split(parts[1], ","):
        name, text = _pair(item, "field")
        value = _number(name, text)
        if value is None:
            continue
        metric = _plain(measurement) if name == "value" else f"{_plain(measurement)}.{name}"
        record: dict[str, Any] = {"metric": metric, "value": value, "labels": labels}
        if time is not None:
            record["time"] = time
        found.append(record)
    return found


def line_of(measurement: str, labels: Labels, fields: Mapping[str, float], nanoseconds: int) -> str:
    """The line of one point: the inverse of `records`, for writing."""
    tags = "".join(f",{_escaped(key)}={_escaped(labels[key])}" for key in sorted(labels))
    values = ",".join(f"{_escaped(name)}={value!r}" for name, value in fields.items())
    return f"{_escaped(measurement, ', ')}{tags} {values} {nanoseconds}"


def _escaped(text: str, special: str = ",= ") -> str:
    return "".join(f"\\{c}" if c in special else c for c in text)


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that are neither escaped nor within double quotes."""
    parts, start, quoted, i = [], 0, False, 0
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        if text[i] == '"':
            quoted = not quoted
        elif text[i] == separator and not quoted:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    parts.append(text[start:])
    return parts


def _plain(text: str) -> str:
    return re.sub(r"\\([,= \\\"])", r"\1", text)


def _pair(text: str, what: str) -> tuple[str, str]:
    halves = _split(text, "=")
    if len(halves) != 2 or not halves[0] or not halves[1]:
        raise BadPoint(what, f"{text[:60]!r} is not name=value")
    return _plain(halves[0]), halves[1] if what == "field" else _plain(halves[1])


def _number(name: str, text: str) -> float | None:
    if text.startswith('"'):
        return None
    if text in ("t", "T", "true", "True", "TRUE"):
        return 1.0
    if text in ("f", "F", "false", "False", "FALSE"):
        return 0.0
    digits = text[:-1] if text[-1] in "iu" else text
    if not _FIELD.match(digits):
        raise BadPoint(f"field {name}", f"{text[:60]!r} is not a finite number")
    number = float(digits)
    if not math.isfinite(number):
        raise BadPoint(f"field {name}", "must be finite")
    return number


def _time(text: str, precision: str) -> datetime:
    if precision not in DIVISORS:
        raise BadPoint("precision", f"one of {', '.join(DIVISORS)}")
    if not re.fullmatch(r"-?\d{1,30}", text):
        raise BadPoint("timestamp", f"{text[:60]!r} is not a whole number")
    try:
        return _EPOCH + timedelta(microseconds=int(text) * 1_000_000 / DIVISORS[precision])
    except OverflowError as fault:
        raise BadPoint("timestamp", "is out of the calendar's range") from fault


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """(line number from 0, line) of a body."""
    yield from enumerate(text.splitlines())
