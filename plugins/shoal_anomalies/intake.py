"""Points in request bodies: JSON, NDJSON, or InfluxDB line protocol."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson

from shoal import Event, Malformed, TooLarge

from .line_protocol import parse_line
from .points import InvalidPoint, Point, parse_point

MAX_POINTS = 50_000
JSON, NDJSON = "application/json", "application/x-ndjson"


def read_points(
    body: bytes, content_type: str, precision: str
) -> tuple[list[Point], list[dict[str, Any]]]:
    """Read the points of a request body.

    Args:
        body: The bytes of the request.
        content_type: `text/plain` for line protocol, NDJSON, else JSON.
        precision: The unit of line protocol's timestamps.

    Returns:
        The valid points, and `{index, error}` of the others.

    Raises:
        Malformed: The body as a whole is not what the content type says.
        TooLarge: There are too many points.
    """
    rejected: list[dict[str, Any]] = []
    points: list[Point] = []
    now = datetime.now(UTC)
    items, parse = _split_body(body, content_type, precision)
    if len(items) > MAX_POINTS:
        raise TooLarge(f"{len(items)} points; at most {MAX_POINTS} at once")
    for index, item in enumerate(items):
        try:
            points += [parse_point(record, now) for record in parse(item)]
        except InvalidPoint as error:
            text = f"{error.location}: {error}" if error.location else str(error)
            rejected.append({"index": index, "error": text})
    return points, rejected


def _split_body(
    body: bytes, content_type: str, precision: str
) -> tuple[list[Any], Callable[[Any], list[Any]]]:
    """The items of a body, and the function that reads the records of an item."""
    if not body.strip():
        raise Malformed("the body is empty")
    if content_type == "text/plain":
        try:
            return body.decode().splitlines(), partial(parse_line, precision=precision)
        except UnicodeDecodeError as error:
            raise Malformed("line protocol must be UTF-8") from error
    if content_type == NDJSON:
        return [line for line in body.splitlines() if line.strip()], _parse_json_line
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    return document if isinstance(document, list) else [document], lambda item: [item]


def _parse_json_line(line: bytes) -> list[Any]:
    try:
        return [orjson.loads(line)]
    except orjson.JSONDecodeError as error:
        raise InvalidPoint("", f"not JSON: {error}") from error


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
