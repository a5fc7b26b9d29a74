"""Exact sliding windows in Redis, under duplicates, disorder and lateness.

The events of one view of an entity are a sorted set: the member names the event (source
and id), the score is its time. An event therefore counts once however often it is
delivered, and a window `(t - w, t]` is a range of scores that is read on request. The
columns that a window needs are in a hash beside the set, and partial aggregates of
spans of time in another (see `window_scripts`). A Lua script applies events to one
entity atomically; applying them again changes nothing.

An event is too late when it is older than every window plus the grace period, so that
it cannot change any value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import orjson

from . import keys
from .values import pack, to_json
from .views import Feature, View

DAY = 86_400
MAX_AHEAD = 300
"""Seconds that an event may be ahead of our clock. Later ones wait until they are due,
or one wrong clock would decide the latest value indefinitely.
"""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as a view reads it.

    Attributes:
        time: µs since 1970.
        member: Names the event; unique, and decides between events of one time.
        entity: The entity's id.
        columns: The values of the view's columns.
    """

    time: int
    member: str
    entity: str
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """The arguments of the scripts that depend on the view alone.

    Attributes:
        view: A stream view.
        windowed: Its features with a window.
        last: Its features without one.
        columns: Column and type of what the windows read. Each is stored under a name
            made of both, so a view may gain and lose features without changing the
            meaning of what is stored.
        distinct: The stored names of columns whose distinct values are counted.
    """

    view: View
    windowed: tuple[Feature, ...]
    last: tuple[Feature, ...]
    columns: tuple[tuple[str, str], ...]
    distinct: tuple[str, ...]

    @classmethod
    def of(cls, view: View) -> "WindowPlan":
        """The plan of a view."""
        windowed = tuple(f for f in view.features if f.window)
        last = tuple(f for f in view.features if not f.window)
        columns = tuple(dict.fromkeys((f.column, required_type(f)) for f in windowed if f.column))
        counted = [f for f in windowed if f.function == "count_distinct"]
        distinct = tuple(dict.fromkeys(_stored_name(f.column, required_type(f)) for f in counted))
        return cls(view, windowed, last, columns, distinct)

    def keys(self, entity_id: str) -> list[tuple[str, ...]]:
        """The keys of an entity's windows, as the scripts take them."""
        return keys.window(self.view.entity, entity_id, self.view.name, self.distinct)

    def apply_arguments(self, events: Sequence[EventRow], now: int, grace: int) -> list[Any]:
        """ARGV of `APPLY_SCRIPT` for one entity's events.

        Args:
            events: The events of the entity.
            now: µs since 1970.
            grace: Seconds past its longest window that an event is still accepted.
        """
        retention = (self.view.retention + grace) * 1_000_000
        arguments: list[Any] = [
            now,
            now - retention,
            retention // 1000,
            lifetime_ms(self.view.ttl, max((e.time for e in events), default=now), now),
            len(self.columns),
            len(self.distinct),
            *self.distinct,
            *self._names(self.windowed),
            *self._names(self.last),
        ]
        for event in events:
            arguments += [event.time, event.member, self._encode_columns(event)]
            for feature in self.last:
                value = coerce(feature.dtype, event.columns.get(feature.column))
                if value is None:
                    arguments.append("")
                    continue
                identity = self.view.identity(feature)
                arguments.append(pack(identity, feature.dtype, value, event.time, now))
        return arguments

    def _names(self, features: Sequence[Feature]) -> list[Any]:
        names, identities = [f.name for f in features], map(self.view.identity, features)
        return [len(names), *names, len(names), *identities]

    def read_arguments(self, features: Sequence[Feature]) -> list[Any]:
        """ARGV of `READ_SCRIPT` after the time, for features with a window."""
        arguments: list[Any] = [len(self.distinct), *self.distinct]
        for feature in features:
            column = _stored_name(feature.column, required_type(feature)) if feature.column else ""
            arguments += [feature.function, column, (feature.window or 0) * 1_000_000]
        return arguments

    def _encode_columns(self, event: EventRow) -> bytes | str:
        # Each value is JSON text inside the JSON object, so that Lua compares and
        # returns it unchanged.
        texts = {}
        for column, dtype in self.columns:
            text = _encode(dtype, event.columns.get(column))
            if text is not None:
                texts[_stored_name(column, dtype)] = text
        return orjson.dumps(texts) if texts else ""


def lifetime_ms(ttl: int | None, newest: int, now: int) -> int:
    """Milliseconds that an entity's values are kept: a day longer than they are served.

    Args:
        ttl: Seconds, or None for no limit.
        newest: The event time of the newest of them, in µs since 1970.
        now: µs since 1970.

    Returns:
        0 for no limit.
    """
    return max(newest - now, 0) // 1000 + (ttl + DAY) * 1000 if ttl else 0


def required_type(feature: Feature) -> str:
    """The type that a feature's aggregation accepts; empty for any scalar."""
    if feature.function in ("count", "count_distinct"):
        return ""
    return "float64" if feature.function in ("sum", "mean") else feature.dtype


def coerce(dtype: str, value: Any) -> Any:
    """Convert an event's value to the type that an aggregation accepts.

    Text never becomes a number, any scalar may become text, and the empty type accepts
    any scalar. The batch side applies the same rules in SQL.

    Returns:
        The value, or None where it cannot be of the type.
    """
    if value is None or isinstance(value, dict | list):
        return None
    if isinstance(value, float) and not isfinite(value):
        return None
    if dtype == "":
        return value
    if dtype == "string":
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    try:
        to_json(dtype, value)
    except (ValueError, OverflowError):
        return None
    return value


def _stored_name(column: str, dtype: str) -> str:
    return f"{column}:{dtype}"


def _encode(dtype: str, value: Any) -> str | None:
    value = coerce(dtype, value)
    if value is None:
        return None
    return (to_json(dtype, value) if dtype else orjson.dumps(value)).decode()
