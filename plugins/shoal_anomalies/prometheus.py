"""Prometheus' remote write, version 1: series of samples as protobuf.

Source: https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

from shoal import Batch, Invalid, Malformed, TooLarge

from .points import InvalidPoint, Kind, Point, parse_point, time_from_epoch

MAX_BYTES = 4 * 2**20
"""Of a message: it takes more than ten times as much when it is read."""
COUNTER_SUFFIXES = ("_total", "_count", "_sum", "_bucket", "_created")
COUNTER_TYPES = (1, 3, 5)  # counter, histogram, summary
STRING, DOUBLE, INT64, ENUM, MESSAGE = 9, 1, 3, 14, 11
OPTIONAL, REPEATED = 1, 3
FIELDS = {
    "Label": [("name", 1, STRING, ""), ("value", 2, STRING, "")],
    "Sample": [("value", 1, DOUBLE, ""), ("timestamp", 2, INT64, "")],
    "TimeSeries": [("labels", 1, MESSAGE, "Label"), ("samples", 2, MESSAGE, "Sample")],
    "Metadata": [("type", 1, INT64, ""), ("metric_family_name", 2, STRING, "")],
    "WriteRequest": [
        ("timeseries", 1, MESSAGE, "TimeSeries"),
        ("metadata", 3, MESSAGE, "Metadata"),
    ],
}
"""The messages, without the fields that are not read."""


@cache
def write_request() -> Any:
    """The class of the message."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="shoal/prometheus.proto", package="shoal.prometheus", syntax="proto3"
    )
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind, of in fields:
            label = REPEATED if kind == MESSAGE else OPTIONAL
            field = described.field.add(name=name, number=number, type=kind, label=label)
            if of:
                field.type_name = f".shoal.prometheus.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("shoal.prometheus.WriteRequest")
    )


def read_samples(body: bytes, limit: int) -> Batch[Point]:
    """The samples of a message, as points.

    The label `__name__` is the metric. A counter is what its metadata or, without any,
    the end of its name says (`_total`, `_count`, `_sum`, `_bucket`). NaN, which also
    marks the end of a series, is skipped.

    Args:
        body: The message, inflated.
        limit: The most samples.

    Returns:
        The valid points, and the errors of the others, in the order of the message.

    Raises:
        Malformed: The body is no such message.
        Invalid: It has too many samples.
        TooLarge: It is over `MAX_BYTES`.
    """
    from google.protobuf.message import DecodeError

    if len(body) > MAX_BYTES:
        raise TooLarge(f"a message has at most {MAX_BYTES:,} bytes; send fewer samples at once")
    message = write_request()()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise Malformed(f"the body is not a WriteRequest of Prometheus: {error}") from None
    if sum(len(series.samples) for series in message.timeseries) > limit:
        raise Invalid.at("body", f"more than {limit:,} samples; send them in parts")
    types = {m.metric_family_name: m.type for m in message.metadata}
    now, batch = datetime.now(UTC), Batch[Point]()
    for index, record in enumerate(_records(message, types)):
        try:
            record["time"] = time_from_epoch(record["time"], 1_000)
            batch.accepted[index] = parse_point(record, now)
        except InvalidPoint as error:
            batch.rejected[index] = f"{record['metric']}: {error}"[:500]
    return batch


def _records(message: Any, types: dict[str, int]) -> Iterator[dict[str, Any]]:
    for series in message.timeseries:
        labels = {label.name: label.value for label in series.labels if label.value}
        metric = labels.pop("__name__", "")
        kind = _kind(metric, types)
        for sample in series.samples:
            if sample.value == sample.value:
                yield {
                    "metric": metric,
                    "labels": labels,
                    "kind": kind,
                    "time": sample.timestamp,
                    "value": sample.value,
                }


def _kind(metric: str, types: dict[str, int]) -> Kind:
    has_suffix = metric.endswith(COUNTER_SUFFIXES)
    family = metric.rpartition("_")[0] if has_suffix else metric
    known = types.get(metric) or types.get(family)
    if metric.endswith("_created"):
        return "gauge"
    if known:
        is_counter = known == 1 or (known in COUNTER_TYPES and has_suffix)
        return "counter" if is_counter else "gauge"
    return "counter" if has_suffix else "gauge"
