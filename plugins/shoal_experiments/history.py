"""What a tenant's recent events say of a metric before an experiment on it has begun."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shoal import Stores

from . import aggregation as agg
from .design import Design
from .event_fields import TEXT, columns
from .observations import Scope, Tail, between, days_of, events_of
from .summaries import Undefined

LONGEST = 28
"""Days that are looked back: whole weeks."""
USUAL = 14.0
"""Days that a metric without a window accumulates when no duration is given."""
OF_NO_UNIT = ("item.", "metric", "optimizer.", "search.", "shoal.")
"""Event types whose subject is a thing, or that the platform logs of itself: they show
nobody to be active.
"""


@dataclass(frozen=True, slots=True)
class Past:
    """The primary metric as if an experiment had run over the last `days`: its
    `baseline`, the `variance` of one unit, `units`, and `units_per_day`, the new ones.
    """

    baseline: float
    variance: float
    units: int
    units_per_day: float
    days: int


def horizon(design: Design) -> int:
    """Whole days to look back. A metric without a window counts for as long as the
    experiment lasts, so its past is as long.
    """
    if design.primary.window_days is not None:
        return LONGEST
    return min(LONGEST, max(1, math.ceil(design.duration_days or USUAL)))


async def history(
    stores: Stores, tenant: str, design: Design, id: str, now: datetime
) -> Past | None:
    """The past of the design's primary metric. Each unit that did anything is taken as
    exposed at its first event; winsorising and windows are the metric's. None when
    nobody logged the metric, or it is undefined (as for tenants, of which a tenant has
    but one).
    """
    metric, days = design.primary, horizon(design)
    if design.unit == "tenant":
        return None
    scope = Scope(stores, tenant, id, design, now - timedelta(days=days), now)
    tail = await Tail.read(scope, now, ())
    first, logged = [], []
    for day in days_of(scope.start, now):
        events = agg.distinct(
            between(await events_of(scope, day, tail.on(day), None), scope.start, now)
        )
        if events.num_rows:
            first.append(_first(events, design.unit))
            logged.append(
                events.filter(pc.is_in(events["type"], value_set=pa.array(sorted(scope.types()))))
            )
    active = (
        pa.concat_tables(first).group_by("unit").aggregate([("time", "min")]) if first else None
    )
    if active is None or not active.num_rows:
        return None
    time = np.asarray(active["time_min"], dtype=np.int64)
    who = agg.Exposed(active["unit"].combine_chunks(), np.zeros(len(time), dtype=np.int64), time)
    tables = [agg.outcomes(events, [metric], id, who, design.unit, tenant) for events in logged]
    if not any(table.num_rows for table in tables):
        return None
    data = agg.summarize(design, metric, who, tables, (), int(now.timestamp() * 1e6))
    arm = data.arms.get(design.arms[0])
    if arm is None:
        return None
    try:
        estimate = arm.estimate()
    except Undefined:
        return None
    return Past(estimate.value, estimate.variance * arm.n, arm.n, len(time) / days, days)


def _first(events: pa.Table, unit_type: str) -> pa.Table:
    """(unit, time) of the units' first events that show them to be active."""
    active = events
    for prefix in OF_NO_UNIT:
        active = active.filter(pc.invert(pc.starts_with(active["type"], prefix)))
    unit = (
        columns(active["data"], {"session": TEXT})["session"]
        if unit_type == "session"
        else active["subject"]
    )
    table = pa.table({"unit": unit, "time": agg.microseconds(active["time"])}).drop_null()
    return table.group_by("unit").aggregate([("time", "min")]).rename_columns(["unit", "time"])


async def never_seen(
    stores: Stores, types: set[str], now: datetime, days: int = LONGEST
) -> set[str]:
    """Those event types that neither the log nor the last days of the lake hold."""
    left = set(types)
    async for _, event in stores.events.read("0", types=tuple(sorted(left))):
        left.discard(event.type)
        if not left:
            return left
    for day in reversed(days_of(now - timedelta(days=days), now)):
        rows = await stores.lake.read("events", day, day, columns=["type"]) if left else None
        if rows is not None:
            left -= set(pc.unique(rows["type"]).to_pylist())
    return left
