"""OpenTelemetry's metrics, as protobuf or JSON.

A gauge is a gauge. A sum that only grows is a counter; of one that is reported as
differences (delta), the rate per second is a gauge. A histogram becomes `<name>.count`
and `<name>.sum`, a summary also its quantiles.

Source: https://opentelemetry.io/docs/specs/otlp/
"""

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from json import JSONDecodeError
from typing import Any

from shoal import Batch, Invalid, Malformed, TooLarge, load_json

from .points import InvalidPoint, Point, parse_point, time_from_epoch

MAX_BYTES = 4 * 2**20
"""Of a message: it takes more than ten times as much when it is read."""
RESOURCE_LABELS = (
    "service.namespace",
    "service.name",
    "service.instance.id",
    "deployment.environment.name",
    "host.name",
)
"""The attributes of a resource that are labels of its series."""
DELTA, CUMULATIVE = 1, 2
NO_VALUE = 1  # flag of a point that stands for a gap


def read_metrics(body: bytes, limit: int, *, is_json: bool) -> Batch[list[Point]]:
    """The data points of an export request.

    Args:
        body: The message.
        limit: The most points.
        is_json: Whether it is JSON, not protobuf.

    Returns:
        The points of each valid data point (a histogram has several), and the errors of
        the others.

    Raises:
        Malformed: The body is no such message.
        Invalid: It has too many points.
        TooLarge: It is over `MAX_BYTES`.
    """
    message = _parse(body, is_json)
    now, batch, count = datetime.now(UTC), Batch[list[Point]](), 0
    for index, (name, labels, data, metric) in enumerate(_data_points(message)):
        try:
            records = list(_records(name, labels, data, metric))
            batch.accepted[index] = [parse_point(record, now) for record in records]
        except InvalidPoint as error:
            batch.rejected[index] = f"{name}: {error}"[:500]
            continue
        count += len(records)
        if count > limit:
            raise Invalid.at("body", f"more than {limit:,} points; send them in parts")
    return batch


def response_body(batch: Batch[list[Point]], *, is_json: bool) -> bytes:
    """The answer to an export: how many data points were rejected, and why."""
    from google.protobuf import json_format
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service

    response = service.ExportMetricsServiceResponse()
    if batch.rejected:
        response.partial_success.rejected_data_points = len(batch.rejected)
        response.partial_success.error_message = next(iter(batch.rejected.values()))
    if is_json:
        return str(json_format.MessageToJson(response, indent=None)).encode()
    return bytes(response.SerializeToString())


def _parse(body: bytes, is_json: bool) -> Any:
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service

    if len(body) > MAX_BYTES:
        raise TooLarge(f"a message has at most {MAX_BYTES:,} bytes; send fewer points at once")
    message = service.ExportMetricsServiceRequest()
    try:
        if is_json:
            content = load_json(body)
            if not isinstance(content, dict):
                raise json_format.ParseError("it is not a JSON object")
            json_format.ParseDict(content, message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    except (json_format.ParseError, DecodeError, JSONDecodeError, RecursionError) as error:
        reason = str(error)[:200]
        raise Malformed(f"the body is not OpenTelemetry's metrics: {reason}") from None
    return message


def _data_points(message: Any) -> Iterator[tuple[str, dict[str, str], Any, Any]]:
    """Name, labels, data point and the metric's data of each."""
    for resource_metrics in message.resource_metrics:
        resource = _labels(resource_metrics.resource.attributes)
        of_resource = {name: resource[name] for name in RESOURCE_LABELS if name in resource}
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind) if kind else None
                for point in data.data_points if data is not None else ():
                    if not point.flags & NO_VALUE:
                        yield metric.name, of_resource | _labels(point.attributes), point, data


def _labels(attributes: Iterable[Any]) -> dict[str, str]:
    """The attributes that are text, numbers or booleans."""
    labels = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        if kind in ("string_value", "int_value", "double_value", "bool_value"):
            value = getattr(attribute.value, kind)
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if text:
                labels[attribute.key] = text
    return labels


def _records(name: str, labels: dict[str, str], point: Any, data: Any) -> Iterator[dict[str, Any]]:
    """The records of one data point, for `parse_point`."""
    time = time_from_epoch(point.time_unix_nano, 1_000_000_000)
    common = {"time": time, "labels": labels}
    temporality = getattr(data, "aggregation_temporality", CUMULATIVE)
    if hasattr(point, "as_double"):
        value = point.as_double if point.WhichOneof("value") == "as_double" else point.as_int
        if not getattr(data, "is_monotonic", False):
            if temporality == DELTA and hasattr(data, "is_monotonic"):
                yield common | {"metric": name, "value": _rate(point, value)}
            else:
                yield common | {"metric": name, "value": value}
        else:
            yield common | {"metric": name} | _counted(point, value, temporality)
        return
    yield common | {"metric": f"{name}.count"} | _counted(point, point.count, temporality)
    has_sum = "sum" not in point.DESCRIPTOR.fields_by_name or _has_sum(point)
    if has_sum and math.isfinite(point.sum):
        yield common | {"metric": f"{name}.sum"} | _counted(point, point.sum, temporality)
    for quantile in getattr(point, "quantile_values", ()):
        if quantile.value == quantile.value:
            of_quantile = labels | {"quantile": f"{quantile.quantile:g}"}
            yield {"metric": name, "time": time, "labels": of_quantile, "value": quantile.value}


def _has_sum(point: Any) -> bool:
    field = point.DESCRIPTOR.fields_by_name["sum"]
    return point.HasField("sum") if field.has_presence else True


def _counted(point: Any, value: float, temporality: int) -> dict[str, Any]:
    """A count so far is a counter's reading; one of an interval becomes its rate."""
    if temporality == DELTA:
        return {"kind": "gauge", "value": _rate(point, value)}
    counted = {"kind": "counter", "value": value}
    if 0 < point.start_time_unix_nano < point.time_unix_nano:  # else it is unknown
        counted["start"] = time_from_epoch(point.start_time_unix_nano, 1_000_000_000)
    return counted


def _rate(point: Any, value: float) -> float:
    seconds = (point.time_unix_nano - point.start_time_unix_nano) / 1e9
    if not point.start_time_unix_nano or seconds <= 0:
        raise InvalidPoint("start_time_unix_nano", "a difference needs the time it began at")
    return float(value / seconds)
