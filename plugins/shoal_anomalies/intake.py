"""Points in request bodies: JSON, NDJSON, or InfluxDB line protocol."""

import sys
from datetime import UTC, datetime
from typing import Any

from shoal import (
    Batch,
    Event,
    Malformed,
    TenantContext,
    read_rows,
    split_lines,
    validate_rows,
)

from .line_protocol import Precision, parse_line
from .points import MAX_LABELS, MAX_NAME_LENGTH, Point, parse_point

MAX_POINTS = 50_000
EVENTS_AT_ONCE = 1000
MAX_NAMED = 20  # rows that an error names
JSON = "application/json"
POINT_SCHEMA = {
    "type": "object",
    "required": ["metric", "value"],
    "additionalProperties": False,
    "properties": {
        "metric": {"type": "string", "maxLength": MAX_NAME_LENGTH},
        "value": {"type": "number", "minimum": -sys.float_info.max, "maximum": sys.float_info.max},
        "time": {"type": "string", "format": "date-time"},
        "labels": {
            "type": "object",
            "maxProperties": MAX_LABELS,
            "propertyNames": {"maxLength": MAX_NAME_LENGTH},
            "additionalProperties": {"type": "string", "maxLength": MAX_NAME_LENGTH},
        },
        "kind": {"enum": ["gauge", "counter"]},
        "start": {"type": "string", "format": "date-time"},
    },
}


def named_faults(batch: Batch[Any], what: str, first: int) -> list[dict[str, str]]:
    """The errors of a batch's first rejected rows.

    Args:
        batch: Some accepted and rejected rows.
        what: A row, such as `line`.
        first: The number of the first row.
    """
    return [
        {"location": f"{what} {index + first}", "message": error}
        for index, error in list(batch.rejected.items())[:MAX_NAMED]
    ]


def read_points(body: bytes, content_type: str, precision: Precision) -> Batch[list[Point]]:
    """Read the points of a request body.

    Args:
        body: The bytes of the request.
        content_type: `text/plain` for line protocol, NDJSON, else JSON.
        precision: The unit of line protocol's timestamps.

    Returns:
        The points of the valid rows (a line may have several), and the errors of the
        others.

    Raises:
        Malformed: The body as a whole is not what the content type says.
        Invalid: There are too many rows.
    """
    now = datetime.now(UTC)
    if content_type == "text/plain":
        lines = _read_lines(body)
        return validate_rows(
            lines, lambda line: [parse_point(r, now) for r in parse_line(line, precision)]
        )
    rows = read_rows(body, content_type, limit=MAX_POINTS)
    return validate_rows(rows, lambda row: [parse_point(row, now)])


def _read_lines(body: bytes) -> list[str]:
    try:
        return [line.decode() for line in split_lines(body, MAX_POINTS)]
    except UnicodeDecodeError as error:
        raise Malformed("line protocol must be UTF-8") from error


def point_event(point: Point) -> Event:
    """The event of a point. Equal points give equal ids, so clients may retry."""
    data: dict[str, Any] = {
        "metric": point.metric,
        "value": point.value,
        "labels": dict(point.labels),
        "kind": point.kind,
    }
    if point.start is not None:
        data["start"] = point.start.isoformat()
    return Event(
        id=f"{point.series}/{point.time.isoformat()}/{point.value!r}",
        source="shoal/anomalies",
        type="metric",
        time=point.time,
        data=data,
    )


async def append_points(ctx: TenantContext, points: list[Point]) -> None:
    """Append points to the tenant's events, which the stream scores.

    Raises:
        QuotaExceeded: They are over the tenant's quota.
    """
    ctx.usage.require("events", len(points))
    for first in range(0, len(points), EVENTS_AT_ONCE):
        part = points[first : first + EVENTS_AT_ONCE]
        await ctx.stores.events.append([point_event(point) for point in part])
    ctx.usage.add("events", len(points))
