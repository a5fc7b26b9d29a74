"""InfluxDB's line protocol, which Telegraf writes.

    measurement,tag=value,… field=value,… [timestamp]

A line becomes a point per numeric field: the metric is `measurement.field`
(`measurement` alone for a field named `value`), the tags are the labels. Text fields
are skipped, booleans are 0 and 1. A line with any error is refused as a whole.

Source: https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from .points import InvalidPoint, Labels, time_from_epoch

Precision = Literal["ns", "n", "us", "u", "ms", "s", "m", "h"]
"""The unit of a timestamp."""
UNITS_PER_SECOND: dict[Precision, float] = {
    "ns": 1_000_000_000,
    "n": 1_000_000_000,
    "us": 1_000_000,
    "u": 1_000_000,
    "ms": 1_000,
    "s": 1,
    "m": 1 / 60,
    "h": 1 / 3600,
}
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")


def parse_line(line: str, precision: Precision = "ns") -> list[dict[str, Any]]:
    """Read one line.

    Args:
        line: The line; a blank line or a comment has no records.
        precision: The unit of the timestamp.

    Returns:
        Records for `points.parse_point`.

    Raises:
        InvalidPoint: The line is not valid.
    """
    line = line.strip()
    if not line or line.startswith("#"):
        return []
    parts = [part for part in _split(line, " ") if part]
    if len(parts) not in (2, 3):
        raise InvalidPoint("", "a line is `measurement,tag=value field=value timestamp`")
    measurement, *tags = _split(parts[0], ",")
    labels = dict(_parse_pair(tag, "tag") for tag in tags)
    time = _parse_time(parts[2], precision) if len(parts) == 3 else None
    records = []
    for item in _split(parts[1], ","):
        name, text = _parse_pair(item, "field")
        value = _parse_value(name, text)
        if value is None:
            continue
        metric = _unescape(measurement) if name == "value" else f"{_unescape(measurement)}.{name}"
        record: dict[str, Any] = {"metric": metric, "value": value, "labels": labels}
        if time is not None:
            record["time"] = time
        records.append(record)
    return records


def format_line(
    measurement: str, labels: Labels, fields: Mapping[str, float], nanoseconds: int
) -> str:
    """One point as a line; the inverse of `parse_line`."""
    tags = "".join(f",{_escape(key)}={_escape(labels[key])}" for key in sorted(labels))
    values = ",".join(f"{_escape(name)}={value!r}" for name, value in fields.items())
    return f"{_escape(measurement, ', ')}{tags} {values} {nanoseconds}"


def _escape(text: str, special: str = ",= ") -> str:
    return "".join(f"\\{c}" if c in special else c for c in text)


def _unescape(text: str) -> str:
    return re.sub(r"\\([,= \\\"])", r"\1", text)


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


def _parse_pair(text: str, kind: str) -> tuple[str, str]:
    halves = _split(text, "=")
    if len(halves) != 2 or not halves[0] or not halves[1]:
        raise InvalidPoint(kind, f"{text[:60]!r} is not name=value")
    return _unescape(halves[0]), halves[1] if kind == "field" else _unescape(halves[1])


def _parse_value(name: str, text: str) -> float | None:
    if text.startswith('"'):
        return None
    if text in ("t", "T", "true", "True", "TRUE"):
        return 1.0
    if text in ("f", "F", "false", "False", "FALSE"):
        return 0.0
    digits = text[:-1] if text[-1] in "iu" else text
    number = float(digits) if _NUMBER.match(digits) else math.inf
    if not math.isfinite(number):
        raise InvalidPoint(f"field {name}", f"{text[:60]!r} is not a finite number")
    return number


def _parse_time(text: str, precision: Precision) -> datetime:
    if not re.fullmatch(r"-?\d{1,30}", text):
        raise InvalidPoint("timestamp", f"{text[:60]!r} is not a whole number")
    return time_from_epoch(int(text), UNITS_PER_SECOND[precision])
