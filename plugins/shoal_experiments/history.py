"""What a tenant's recent events say of a metric before an experiment on it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shoal import Stores

from . import aggregation as agg
from .clusters import Clusters
from .design import Design
from .event_fields import TEXT, read_fields
from .metric_data import summarize
from .metrics import Metric
from .observations import EventTail, Scope, days_between, events_between, read_events
from .summaries import Undefined

MAX_LOOKBACK_DAYS = 28
"""Days to look back at most: whole weeks, since weekdays differ."""

DEFAULT_DAYS = 14.0
"""Duration of an experiment when neither its design nor the history says one."""

TYPES_WITHOUT_UNIT = ("item.", "metric", "optimizer.", "search.", "shoal.")
"""Event types that do not show a unit to be active.

Their subject is an item, or the platform logs them about itself.
"""


@dataclass(frozen=True, slots=True)
class History:
    """The primary metric as if an experiment had run over the last days.

    Attributes:
        baseline: The metric's value.
        variance: Variance of one unit.
        units: Units that were counted.
        units_per_day: New units per day.
        days: Days that were looked back.
    """

    baseline: float
    variance: float
    units: int
    units_per_day: float
    days: int


def lookback_days(design: Design) -> int:
    """Whole days to look back.

    A metric without a window accumulates for as long as the experiment lasts, so its
    history must be as long.
    """
    if design.primary.window_days is not None:
        return MAX_LOOKBACK_DAYS
    return min(MAX_LOOKBACK_DAYS, max(1, math.ceil(design.duration_days or DEFAULT_DAYS)))


async def read_history(
    stores: Stores, tenant: str, design: Design, id: str, now: datetime
) -> History | None:
    """The history of the design's primary metric, with its windows and winsorising.

    Each unit with any event counts as exposed at its first event.

    Returns:
        The history, or None when the metric was never logged or is undefined. It is
        undefined for units of type "tenant", of which a tenant has only one.
    """
    metric, days = design.primary, lookback_days(design)
    if design.unit == "tenant" or design.people is not None:
        return None
    scope = Scope(stores, tenant, id, design, now - timedelta(days=days), now)
    tail = await EventTail.read(scope, now, ())
    first, logged = [], []
    for day in days_between(scope.start, now):
        events = await read_events(scope, day, tail.on(day), None)
        events = agg.deduplicate(events_between(events, scope.start, now))
        if events.num_rows:
            types = pa.array(sorted(scope.types()))
            first.append(_first_events(events, design.unit))
            logged.append(events.filter(pc.is_in(events["type"], value_set=types)))
    if not first:
        return None
    active = pa.concat_tables(first).group_by("unit").aggregate([("time", "min")])
    if not active.num_rows:
        return None
    time = np.asarray(active["time_min"], dtype=np.int64)
    exposed = agg.ExposedUnits(
        active["unit"].combine_chunks(), np.zeros(len(time), dtype=np.int64), time
    )
    tables = [
        agg.daily_outcomes(events, [metric], id, exposed, design.unit, tenant) for events in logged
    ]
    if not any(table.num_rows for table in tables):
        return None
    data = summarize(design, metric, exposed, tables, (), int(now.timestamp() * 1e6))
    summary = data.arms.get(design.arms[0])
    if summary is None or isinstance(summary, Clusters):
        return None
    try:
        estimate = summary.estimate()
    except Undefined:
        return None
    return History(
        baseline=estimate.value,
        variance=estimate.variance * summary.n,
        units=summary.n,
        units_per_day=_counted_units(metric, tables, len(time)) / days,
        days=days,
    )


def _counted_units(metric: Metric, tables: Sequence[pa.Table], active: int) -> int:
    """How many of the active units have a value."""
    if not metric.needs_events:
        return active
    rows = pa.concat_tables(tables)
    return len(pc.unique(rows.filter(pc.equal(rows["component"], metric.name))["unit"]))


def _first_events(events: pa.Table, unit_type: str) -> pa.Table:
    """Unit and time of the first event that shows each unit to be active."""
    active = events
    for prefix in TYPES_WITHOUT_UNIT:
        active = active.filter(pc.invert(pc.starts_with(active["type"], prefix)))
    if unit_type == "session":
        unit = read_fields(active["data"], {"session": TEXT})["session"]
    else:
        unit = active["subject"]
    table = pa.table({"unit": unit, "time": agg.to_microseconds(active["time"])}).drop_null()
    return table.group_by("unit").aggregate([("time", "min")]).rename_columns(["unit", "time"])


async def unseen_event_types(
    stores: Stores, types: set[str], now: datetime, days: int = MAX_LOOKBACK_DAYS
) -> set[str]:
    """The event types of which neither the log nor the lake's last days have any."""
    unseen = set(types)
    if not unseen:
        return unseen
    async for _, event in stores.events.read("0", types=tuple(sorted(unseen))):
        unseen.discard(event.type)
        if not unseen:
            return unseen
    for day in reversed(days_between(now - timedelta(days=days), now)):
        rows = await stores.lake.read("events", day, day, columns=["type"]) if unseen else None
        if rows is not None:
            unseen -= set(pc.unique(rows["type"]).to_pylist())
    return unseen
