"""Points in request bodies: JSON, NDJSON, or InfluxDB line protocol."""

from datetime import UTC, datetime
from typing import Any

from shoal import Batch, Event, Invalid, Malformed, TooLarge, read_rows, validate_rows

from .line_protocol import parse_line
from .points import Point, parse_point

MAX_POINTS = 50_000
JSON, NDJSON = "application/json", "application/x-ndjson"


def read_points(body: bytes, content_type: str, precision: str) -> Batch[list[Point]]:
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
        TooLarge: There are too many rows.
    """
    now = datetime.now(UTC)
    if not body.strip():
        raise Malformed("the body is empty")
    if content_type == "text/plain":
        lines = _read_lines(body)
        return validate_rows(
            lines, lambda line: [parse_point(r, now) for r in parse_line(line, precision)]
        )
    try:
        rows = read_rows(body, content_type, limit=MAX_POINTS)
    except Invalid as error:
        raise TooLarge(error.detail) from None
    return validate_rows(rows, lambda row: [parse_point(row, now)])


def _read_lines(body: bytes) -> list[str]:
    try:
        lines = body.decode().splitlines()
    except UnicodeDecodeError as error:
        raise Malformed("line protocol must be UTF-8") from error
    if len(lines) > MAX_POINTS:
        raise TooLarge(f"{len(lines):,} lines in one request; at most {MAX_POINTS:,} are accepted")
    return lines


def point_event(point: Point) -> Event:
    """The event of a point. Equal points give equal ids, so clients may retry."""
    data: dict[str, Any] = {
        "metric": point.metric,
        "value": point.value,
        "labels": dict(point.labels),
        "kind": point.kind,
    }
    return Event(
        id=f"{point.series}/{point.time.isoformat()}/{point.value!r}",
        source="shoal/anomalies",
        type="metric",
        time=point.time,
        data=data,
    )
