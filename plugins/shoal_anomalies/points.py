"""Points: one value of one metric at one time."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

Labels = Mapping[str, str]
Kind = Literal["gauge", "counter"]
KINDS: tuple[Kind, ...] = ("gauge", "counter")

RETENTION = timedelta(days=90)
MAX_CLOCK_SKEW = timedelta(minutes=5)  # between clients and servers
MAX_LABELS = 20
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_NAME_LENGTH = 200
_TIME_FORMAT = "must be RFC 3339 text, such as 2026-03-02T09:00:00+01:00"
_NAME = re.compile(r"[^\x00-\x1f\x7f]+")


class InvalidPoint(ValueError):
    """A point that cannot be accepted.

    location: the field at fault; empty where it is the point as a whole.
    """

    def __init__(self, location: str, message: str) -> None:
        super().__init__(f"{location}: {message}" if location else message)
        self.location = location


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric at one time.

    kind: the value of a gauge is scored as it is. A counter only grows (and may restart
        at 0), and its rate per second is scored.
    start: when a counter began to count from 0; None if that is unknown.
    """

    metric: str
    time: datetime
    value: float
    labels: Labels = field(default_factory=dict)
    kind: Kind = "gauge"
    start: datetime | None = None

    @property
    def series(self) -> str:
        return series_id(self.metric, self.labels, self.kind)


def series_id(metric: str, labels: Labels, kind: Kind = "gauge") -> str:
    """The id of the series of a metric with these labels: 16 hexadecimal digits.

    The order of the labels makes no difference. A gauge and a counter of one name are
    two series.
    """
    parts = [metric, *(f"{key}\x01{labels[key]}" for key in sorted(labels))]
    text = "\x00".join(parts if kind == "gauge" else [*parts, f"\x02{kind}"])
    return blake2b(text.encode(), digest_size=8).hexdigest()


def parse_point(record: Any, now: datetime | None = None) -> Point:
    """Read a point.

    Args:
        record: `{metric, value, time?, labels?, kind?, start?}`, with times as RFC 3339
            text or `datetime`; no time is `now`.
        now: The current time.

    Raises:
        InvalidPoint: The record is not a valid point.
    """
    if not isinstance(record, Mapping):
        raise InvalidPoint("", "a point is an object with metric, time and value")
    now = now or datetime.now(UTC)
    unknown = sorted(set(record) - {"metric", "time", "value", "labels", "kind", "start"})
    if unknown:
        raise InvalidPoint(
            unknown[0], "unknown field; a point has metric, time, value, labels, kind and start"
        )
    metric = _name("metric", record.get("metric"))
    kind = record.get("kind", "gauge")
    if kind not in ("gauge", "counter"):
        raise InvalidPoint("kind", "must be gauge or counter")
    time, start = _time(record.get("time"), now), None
    if record.get("start") is not None:
        start = _utc("start", record["start"])
        if kind != "counter" or start > time:
            raise InvalidPoint("start", "is of a counter, and not after the point's time")
    value, labels = _value(record.get("value")), _labels(record.get("labels"))
    return Point(metric, time, value, labels, kind, start)


def time_from_epoch(units: int, per_second: float) -> datetime:
    """The time so many units after 1970, of which a second has `per_second`.

    Raises:
        InvalidPoint: It is out of range.
    """
    try:
        return EPOCH + timedelta(microseconds=units * 1_000_000 / per_second)
    except OverflowError as error:
        raise InvalidPoint("timestamp", "is out of range") from error


def _name(location: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InvalidPoint(location, "must be non-empty text")
    if len(text) > MAX_NAME_LENGTH:
        raise InvalidPoint(location, f"is longer than {MAX_NAME_LENGTH} characters")
    if not _NAME.fullmatch(text):
        raise InvalidPoint(location, "contains a line break or another control character")
    return text


def _value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidPoint("value", "must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidPoint("value", "must be finite, not NaN or infinite")
    return number


def _labels(labels: Any) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise InvalidPoint("labels", "must be an object with text values")
    if len(labels) > MAX_LABELS:
        raise InvalidPoint("labels", f"has {len(labels)} entries; at most {MAX_LABELS} are allowed")
    return {
        _name("labels", key): _name(f"labels.{key}", value) for key, value in sorted(labels.items())
    }


def _time(time: Any, now: datetime) -> datetime:
    if time is None:
        return now
    utc = _utc("time", time)
    if utc > now + MAX_CLOCK_SKEW:
        minutes = MAX_CLOCK_SKEW.seconds // 60
        raise InvalidPoint("time", f"is more than {minutes} minutes in the future")
    if utc < now - RETENTION:
        raise InvalidPoint("time", f"is older than {RETENTION.days} days, the retention of series")
    return utc


def _utc(location: str, time: Any) -> datetime:
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError as error:
            raise InvalidPoint(location, _TIME_FORMAT) from error
    if not isinstance(time, datetime):
        raise InvalidPoint(location, _TIME_FORMAT)
    if time.tzinfo is None:
        raise InvalidPoint(location, "has no UTC offset, such as Z or +01:00")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise InvalidPoint(location, "is out of range") from error
