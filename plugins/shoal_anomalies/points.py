"""What arrives: one value of one metric at one time."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

Labels = Mapping[str, str]

KEPT = timedelta(days=90)
AHEAD = timedelta(minutes=5)  # clocks differ
MOST_LABELS = 20
LONGEST = 200
_NAME = re.compile(r"[^\x00-\x1f\x7f]+")


class BadPoint(ValueError):
    """A point that cannot be taken; `location` is the field at fault."""

    def __init__(self, location: str, message: str) -> None:
        super().__init__(message)
        self.location = location


@dataclass(frozen=True, slots=True)
class Point:
    """`kind`: a gauge is what it says; a counter only grows (and starts again at 0),
    and is watched as its rate per second.
    """

    metric: str
    time: datetime
    value: float
    labels: Labels = field(default_factory=dict)
    kind: Literal["gauge", "counter"] = "gauge"

    @property
    def series(self) -> str:
        return series_id(self.metric, self.labels)


def series_id(metric: str, labels: Labels) -> str:
    """16 hexadecimal digits that name the series of a metric with these labels,
    whatever their order.
    """
    text = "\x00".join([metric, *(f"{key}\x01{labels[key]}" for key in sorted(labels))])
    return blake2b(text.encode(), digest_size=8).hexdigest()


def parse_point(record: Any, now: datetime | None = None) -> Point:
    """A point from `{metric, value, time?, labels?, kind?}`; without a time it is
    now's. Raises BadPoint.
    """
    if not isinstance(record, Mapping):
        raise BadPoint("", "a point is an object with metric, time and value")
    now = now or datetime.now(UTC)
    unknown = sorted(set(record) - {"metric", "time", "value", "labels", "kind"})
    if unknown:
        raise BadPoint(
            unknown[0], "no such field; a point has metric, time, value, labels and kind"
        )
    metric = _name("metric", record.get("metric"))
    kind = record.get("kind", "gauge")
    if kind not in ("gauge", "counter"):
        raise BadPoint("kind", "kind is gauge or counter")
    return Point(
        metric,
        _time(record.get("time"), now),
        _value(record.get("value")),
        _labels(record.get("labels")),
        kind,
    )


def _name(location: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise BadPoint(location, "must be text and not empty")
    if len(text) > LONGEST:
        raise BadPoint(location, f"longer than {LONGEST} characters")
    if not _NAME.fullmatch(text):
        raise BadPoint(location, "has a line break or another control character")
    return text


def _value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadPoint("value", "must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadPoint("value", "must be finite: not NaN, not infinite")
    return number


def _labels(labels: Any) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise BadPoint("labels", "must be an object of text to text")
    if len(labels) > MOST_LABELS:
        raise BadPoint("labels", f"{len(labels)} labels; at most {MOST_LABELS}")
    return {
        _name("labels", key): _name(f"labels.{key}", value) for key, value in sorted(labels.items())
    }


def _time(time: Any, now: datetime) -> datetime:
    if time is None:
        return now
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError as fault:
            raise BadPoint("time", "must be RFC 3339, such as 2026-03-02T09:00:00+01:00") from fault
    if not isinstance(time, datetime):
        raise BadPoint("time", "must be RFC 3339 text, such as 2026-03-02T09:00:00+01:00")
    if time.tzinfo is None:
        raise BadPoint("time", "has no offset: end it with Z or +01:00")
    try:
        time = time.astimezone(UTC)
    except OverflowError as fault:
        raise BadPoint("time", "is out of the calendar's range") from fault
    if time > now + AHEAD:
        raise BadPoint("time", f"lies in the future, by more than {AHEAD.seconds // 60} minutes")
    if time < now - KEPT:
        raise BadPoint("time", f"is older than the {KEPT.days} days that series are kept")
    return time
