"""Daily tables: the exposures and outcomes of one experiment on one day.

A daily table is computed from all events of its day, so computing it again changes
nothing. Totals over days are sums (or maxima), so a new day needs no earlier events.
All tables are Arrow tables; times are in microseconds since 1970.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from mmh3 import hash64
from numpy.typing import NDArray

from .design import RAMP
from .event_fields import NUMBER, TEXT, field_type, read_fields
from .metrics import OUTCOME, SERVICE, VALUE, Metric, Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY = 86_400_000_000
"""One day in microseconds."""

PARALLEL_ROWS = 500_000
"""Rows from which a second thread saves time."""

EXPOSURE = "experiment.exposure"
REQUEST_METRIC = "metric"
"""Event type of the router's request metrics."""

EXPOSURES = pa.schema([("unit", pa.string()), ("variant", pa.string()), ("time", pa.int64())])
"""One row per unit and variant: the day's first exposure.

An exposure without a usable unit or variant is a row without either.
"""

ID = r"^[^\x00-\x1f\x7f]{1,512}$"
"""What an id is on the platform: a text, so a number is none."""

OUTCOMES = pa.schema(
    [
        ("component", pa.string()),
        ("unit", pa.string()),
        ("events", pa.int64()),
        ("total", pa.float64()),
        ("highest", pa.float64()),
    ]
)
"""One row per metric component and unit with events.

It has their number, the sum of their values and the largest value. A metric's component
is the metric itself, or a ratio's denominator. Events without a number are counted as
a component of their own.
"""

UNREADABLE = "/unreadable"
"""Suffix of the component that counts a component's events without a number."""


@dataclass(frozen=True, slots=True)
class ExposedUnits:
    """The units of an experiment, without those seen in two variants.

    Attributes:
        units: Unit ids, shape (n,).
        arm: Index of each unit's variant in the design, shape (n,).
        time: Each unit's first exposure, shape (n,).
        crossovers: How many units were seen in two variants.
        unknown: How many units were seen in a variant that the design does not have.
            They are left out too.
        unusable: How many exposures have no id of a unit of the design's type, or none
            of a variant.
        cluster: Where these are people: the index of each one's unit, shape (n,).
    """

    units: pa.Array
    arm: Ints
    time: Ints
    crossovers: int = 0
    unknown: int = 0
    unusable: int = 0
    cluster: Ints | None = None

    def where(self, chosen: NDArray[np.bool_]) -> ExposedUnits:
        """Only these units, shape (n,)."""
        return ExposedUnits(
            self.units.filter(pa.array(chosen)),
            self.arm[chosen],
            self.time[chosen],
            cluster=None if self.cluster is None else self.cluster[chosen],
        )

    def counts(self, arms: int) -> list[int]:
        """Units per arm, in the design's order."""
        return [int(n) for n in np.bincount(self.arm, minlength=arms)]


def deduplicate(events: pa.Table) -> pa.Table:
    """Keep one event per (source, id): events are delivered at least once."""
    if events.num_rows < 2:
        return events
    row = pa.array(np.arange(events.num_rows))
    keys = pa.table({"source": events["source"], "id": events["id"], "row": row})
    first = keys.group_by(["source", "id"]).aggregate([("row", "min")])["row_min"]
    return events if len(first) == events.num_rows else events.take(first)


def event_keys(events: pa.Table) -> Ints:
    """A hash of each event's source and id, shape (events,).

    Of 64 bits: among ten million events, two share one with a chance of 3e-6.
    """
    names = zip(events["source"].to_pylist(), events["id"].to_pylist(), strict=True)
    keys = [hash64(f"{source}\0{id}")[0] for source, id in names]
    return np.array(keys, dtype=np.int64)


def without_events(events: pa.Table, keys: Ints) -> pa.Table:
    """The events whose keys are not among these."""
    if not events.num_rows or not keys.size:
        return events
    return events.filter(pa.array(~np.isin(event_keys(events), keys)))


def to_microseconds(time: pa.ChunkedArray) -> pa.Array:
    return time.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).combine_chunks()


# Exposures


def first_exposures(events: pa.Table, experiment: str, unit_type: str = "user") -> pa.Table:
    """The EXPOSURES of one day, from that day's events."""
    matching = events.filter(pc.equal(events["type"], EXPOSURE)) if events.num_rows else events
    if not matching.num_rows:
        return EXPOSURES.empty_table()
    kinds = dict.fromkeys(("experiment", "variant", "unit", "unit_type"), TEXT)
    table = pa.table(
        {**read_fields(matching["data"], kinds), "time": to_microseconds(matching["time"])}
    )
    table = table.filter(pc.fill_null(pc.equal(table["experiment"], experiment), False))
    usable = pc.fill_null(pc.equal(table["unit_type"], unit_type), True)
    for name in ("unit", "variant"):
        is_id = pc.fill_null(pc.match_substring_regex(table[name], ID), False)
        usable = pc.and_(usable, is_id)
    first = table.filter(usable).group_by(["unit", "variant"]).aggregate([("time", "min")])
    rest = table.filter(pc.invert(usable))["time"]
    nobody = pa.nulls(len(rest), pa.string())
    return pa.concat_tables(
        [
            pa.table([first["unit"], first["variant"], first["time_min"]], schema=EXPOSURES),
            pa.table([nobody, nobody, rest], schema=EXPOSURES),
        ]
    )


def exposed_units(days: Sequence[pa.Table], arms: Sequence[str]) -> ExposedUnits:
    """All units of an experiment, from the EXPOSURES of its days."""
    table = pa.concat_tables(days) if days else EXPOSURES.empty_table()
    unusable, unknown = table["unit"].null_count, len(arms)
    table = table.drop_null()
    arm = np.asarray(
        pc.fill_null(pc.index_in(table["variant"], value_set=pa.array(list(arms))), unknown),
        dtype=np.int64,
    )
    encoded = table["unit"].combine_chunks().dictionary_encode()
    position = np.asarray(encoded.indices)
    n = len(encoded.dictionary)
    time, low, high = np.full(n, np.iinfo(np.int64).max), np.full(n, unknown), np.full(n, -1)
    np.minimum.at(time, position, np.asarray(table["time"]))
    np.minimum.at(low, position, arm)
    np.maximum.at(high, position, arm)
    single = (low == high) & (high < unknown)
    return ExposedUnits(
        encoded.dictionary.filter(pa.array(single)),
        low[single],
        time[single],
        crossovers=int((low < high).sum()),
        unknown=int((high == unknown).sum()),
        unusable=unusable,
    )


# Outcomes


def daily_outcomes(
    events: pa.Table,
    metrics: Sequence[Metric],
    experiment: str,
    exposed: ExposedUnits | None,
    unit_type: str = "user",
    tenant: str | None = None,
) -> pa.Table:
    """The OUTCOMES of one day, from that day's events.

    Args:
        events: The day's events.
        metrics: The metrics to compute.
        experiment: The experiment's id.
        exposed: Only events after their unit's exposure and within the metric's window
            count. None counts all events (the past, for CUPED).
        unit_type: The unit of an event is its subject for "user", the field `session`
            of its data for "session", and `tenant` for "tenant". Outcomes posted to the
            experiment always name the unit as their subject.
        tenant: The unit when `unit_type` is "tenant".
    """
    parts = []
    for metric in metrics:
        for component, source in metric.sources():
            if source.event.startswith(SERVICE):
                continue
            unit, time, value = select_events(events, source, experiment, unit_type, tenant)
            if not len(unit):
                continue
            if exposed is None:
                encoded = unit.dictionary_encode()
                position, labels = np.asarray(encoded.indices, dtype=np.int64), encoded.dictionary
            else:
                position, labels = _counted_units(exposed, unit, time, metric), exposed.units
            if not metric.reads_values:
                value = np.ones(value.size)
            readable = np.isfinite(value)
            parts.append(_by_unit(component, position, value, readable, labels))
            ones = np.ones(value.size)
            parts.append(_by_unit(component + UNREADABLE, position, ones, ~readable, labels))
    return pa.concat_tables(parts) if parts else OUTCOMES.empty_table()


def _by_unit(
    component: str, position: Ints, value: Floats, counts: NDArray[np.bool_], labels: pa.Array
) -> pa.Table:
    """OUTCOMES of one component, from its events that count."""
    n, total, highest = totals(np.where(counts, position, -1), value, len(labels))
    present = np.flatnonzero(n)
    return pa.table(
        {
            "component": pa.array([component] * len(present), pa.string()),
            "unit": labels.take(pa.array(present)),
            "events": n[present],
            "total": total[present],
            "highest": highest[present],
        },
        schema=OUTCOMES,
    )


def _counted_units(exposed: ExposedUnits, unit: pa.Array, time: Ints, metric: Metric) -> Ints:
    """Each event's unit as an index into `exposed`; -1 if the event does not count."""
    position = locate(exposed, unit)
    since = time - exposed.time[np.maximum(position, 0)]
    counted = (position >= 0) & (since >= metric.from_day * DAY)
    if metric.window_days is not None:
        counted &= since <= metric.window_days * DAY
    return np.where(counted, position, -1)


def locate(exposed: ExposedUnits, unit: pa.Array) -> Ints:
    """The index of each unit in `exposed`; -1 for others.

    Large arrays are searched in as many threads as there are cores.
    """

    def locate_slice(part: pa.Array) -> Ints:
        found = pc.index_in(part, value_set=exposed.units)
        return np.asarray(pc.fill_null(found, -1), dtype=np.int64)

    workers = os.cpu_count() or 1
    if len(unit) < PARALLEL_ROWS or workers == 1:
        return locate_slice(unit)
    size = -(-len(unit) // workers)
    parts = [unit.slice(start, size) for start in range(0, len(unit), size)]
    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(locate_slice, parts)))


def totals(position: Ints, value: Floats, units: int) -> tuple[Ints, Floats, Floats]:
    """Per unit: the number of events, the sum and the maximum of their values.

    Args:
        position: Each event's unit, shape (events,); negative ones are ignored.
        value: Each event's value, shape (events,).
        units: The number of units.

    Returns:
        Three arrays of shape (units,). The maximum of no events is -inf.
    """
    keep = position >= 0
    if not keep.all():
        position, value = position[keep], value[keep]
    n = np.bincount(position, minlength=units).astype(np.int64)
    total = np.bincount(position, weights=value, minlength=units).astype(np.float64)
    highest: Floats = np.full(units, -np.inf)
    np.maximum.at(highest, position, value)
    return n, total, highest


def select_events(
    events: pa.Table,
    source: Source,
    experiment: str,
    unit_type: str = "user",
    tenant: str | None = None,
) -> tuple[pa.Array, Ints, Floats]:
    """Unit, time and value of the events that a source counts, each of shape (events,).

    Events without a unit are ignored. A value is NaN where the event has no number. An
    event without a field `value` counts 1, unless the source names another field.
    """
    matching = events.filter(pc.equal(events["type"], source.event)) if events.num_rows else events
    if not matching.num_rows:
        return pa.array([], pa.string()), np.array([], dtype=np.int64), np.array([])
    fields = read_fields(
        matching["data"], {source.value: NUMBER, "experiment": TEXT, "session": TEXT}
    )
    if unit_type == "user" or source.event == OUTCOME:
        unit = matching["subject"].combine_chunks()
    elif unit_type == "session":
        unit = fields["session"]
    else:
        unit = pa.array([tenant] * matching.num_rows, pa.string())
    missing = 1.0 if source.value == VALUE else math.nan
    value = np.asarray(pc.fill_null(fields[source.value].cast(pa.float64()), missing))
    value = np.where(np.isfinite(value), value, math.nan)
    keep = np.asarray(pc.is_valid(unit))
    keep &= _meets_conditions(matching, source)
    if source.event == OUTCOME:
        ids = pa.array([None, experiment, experiment.removesuffix(RAMP)], pa.string())
        keep &= np.asarray(pc.is_in(fields["experiment"], value_set=ids))
    rows = pa.array(np.flatnonzero(keep))
    return unit.take(rows), np.asarray(to_microseconds(matching["time"]))[keep], value[keep]


def _meets_conditions(events: pa.Table, source: Source) -> NDArray[np.bool_]:
    """Whether each event's data has the values that the source asks for."""
    # Read apart from the value: a condition on the same field may be of another type.
    kinds = {name: field_type(wanted) for name, wanted in source.where.items()}
    fields = read_fields(events["data"], kinds) if kinds else {}
    meets = np.ones(events.num_rows, dtype=bool)
    for name, wanted in source.where.items():
        value = pa.scalar(float(wanted) if kinds[name] == NUMBER else wanted, kinds[name])
        meets &= np.asarray(pc.fill_null(pc.equal(fields[name], value), False))
    return meets


def service_outcomes(events: pa.Table, experiment: str) -> pa.Table:
    """The router's request metrics of one day as OUTCOMES, one row per minute.

    The component is `service.requests`, `service.error_rate` and so on; the unit is
    "variant/minute".
    """
    matching = events
    if events.num_rows:
        matching = events.filter(pc.equal(events["type"], REQUEST_METRIC))
    if matching.num_rows:
        matching = matching.filter(pc.match_substring(matching["data"], "shoal.variant."))
    if not matching.num_rows:
        return OUTCOMES.empty_table()
    kinds = {"metric": TEXT, "value": NUMBER, "labels.experiment": TEXT, "labels.variant": TEXT}
    fields = read_fields(matching["data"], kinds)
    rows = [
        {
            "component": SERVICE + metric.removeprefix("shoal.variant."),
            "unit": f"{variant}/{minute}",
            "events": 1,
            "total": value,
            "highest": value,
        }
        for metric, value, label, variant, minute in zip(
            *(fields[name].to_pylist() for name in kinds),
            to_microseconds(matching["time"]).to_pylist(),
            strict=True,
        )
        if label == experiment and metric is not None and value is not None and math.isfinite(value)
    ]
    return pa.Table.from_pylist(rows, OUTCOMES)
