"""Reading what clients send as points: JSON, NDJSON, or InfluxDB line protocol."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson

from shoal import Event, Malformed, TooLarge

from .line_protocol import records
from .points import BadPoint, Point, parse_point

MOST_POINTS = 50_000
JSON, NDJSON = "application/json", "application/x-ndjson"


def read_points(body: bytes, kind: str, precision: str) -> tuple[list[Point], list[dict[str, Any]]]:
    """(points, rejected) of a request's body. Malformed when it is not what its content
    type says.
    """
    rejected: list[dict[str, Any]] = []
    points: list[Point] = []
    parse: Callable[[Any], list[Any]]
    now = datetime.now(UTC)
    if not body.strip():
        raise Malformed("the body is empty")
    if kind == "text/plain":
        try:
            items: list[Any] = body.decode().splitlines()
        except UnicodeDecodeError as fault:
            raise Malformed("line protocol is UTF-8") from fault
        parse = partial(records, precision=precision)
    elif kind == NDJSON:
        items = [line for line in body.splitlines() if line.strip()]
        parse = _one_json
    else:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as fault:
            raise Malformed(f"the body is not JSON: {fault}") from fault
        items = document if isinstance(document, list) else [document]
        parse = _itself
    if len(items) > MOST_POINTS:
        raise TooLarge(f"{len(items)} points; at most {MOST_POINTS} at once")
    for index, item in enumerate(items):
        try:
            points += [parse_point(record, now) for record in parse(item)]
        except BadPoint as fault:
            rejected.append(
                {
                    "index": index,
                    "error": f"{fault.location}: {fault}" if fault.location else str(fault),
                }
            )
    return points, rejected


def _itself(item: Any) -> list[Any]:
    return [item]


def _one_json(line: bytes) -> list[Any]:
    try:
        return [orjson.loads(line)]
    except orjson.JSONDecodeError as fault:
        raise BadPoint("", f"not JSON: {fault}") from fault


def event_of(point: Point) -> Event:
    """The same point is the same event, so that a client may send it again."""
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
