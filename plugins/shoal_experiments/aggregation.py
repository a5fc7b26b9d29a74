"""From events to one number per unit, and from those to sufficient statistics: columns
in, columns out.

Exposures and outcomes are kept by day. A day's file is made from all events of that
day, whatever was there before, so making it again changes nothing; totals over days are
sums (or maxima), so a new day costs only itself.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .design import OUTCOME, RAMP, SERVICE, Design, Metric, Source
from .event_fields import NUMBER, TEXT, columns, kind_of
from .summaries import Mean, Pair, Proportion, Quantile, Ratio, Summary, Undefined

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY = 86_400_000_000
"""Microseconds."""

MANY = 500_000
"""Rows from which a second thread pays."""

EXPOSURE = "experiment.exposure"
EXPOSURES = pa.schema([("unit", pa.string()), ("variant", pa.string()), ("time", pa.int64())])
"""One row per unit and variant: the first exposure of a day, in microseconds since
1970.
"""
OUTCOMES = pa.schema(
    [
        ("component", pa.string()),
        ("unit", pa.string()),
        ("events", pa.int64()),
        ("total", pa.float64()),
        ("highest", pa.float64()),
    ]
)
"""One row per metric's component and unit that has events: how many, the sum of their
values, the largest.
"""


@dataclass(frozen=True, slots=True)
class Exposed:
    """The units of an experiment. `arm` is the index of the unit's variant; units seen
    in two are not in here. `time` is their first exposure. `crossed` is how many were
    seen in two variants, `unknown` how many in none of the design's.
    """

    units: pa.Array
    arm: Ints
    time: Ints
    crossed: int = 0
    unknown: int = 0

    def counts(self, arms: int) -> list[int]:
        return [int(n) for n in np.bincount(self.arm, minlength=arms)]


def distinct(events: pa.Table) -> pa.Table:
    """Each (source, id) once: events are delivered at least once. Columns: at least
    `source` and `id`.
    """
    if events.num_rows < 2:
        return events
    place = pa.array(np.arange(events.num_rows))
    keys = pa.table({"source": events["source"], "id": events["id"], "place": place})
    first = keys.group_by(["source", "id"]).aggregate([("place", "min")])["place_min"]
    return events if len(first) == events.num_rows else events.take(first)


def first_exposures(events: pa.Table, experiment: str) -> pa.Table:
    """EXPOSURES of one day from that day's events (columns of the lake's table
    `events`).
    """
    mine = events.filter(pc.equal(events["type"], EXPOSURE)) if events.num_rows else events
    if not mine.num_rows:
        return EXPOSURES.empty_table()
    fields = columns(mine["data"], {"experiment": TEXT, "variant": TEXT, "unit": TEXT})
    table = pa.table({**fields, "time": microseconds(mine["time"])})
    table = table.filter(pc.fill_null(pc.equal(table["experiment"], experiment), False)).drop_null()
    first = table.group_by(["unit", "variant"]).aggregate([("time", "min")])
    return pa.table(
        {"unit": first["unit"], "variant": first["variant"], "time": first["time_min"]},
        schema=EXPOSURES,
    )


def exposed(days: Sequence[pa.Table], arms: Sequence[str]) -> Exposed:
    """All units of an experiment from its days' EXPOSURES."""
    table = pa.concat_tables(days) if days else EXPOSURES.empty_table()
    variant = np.asarray(
        pc.fill_null(pc.index_in(table["variant"], value_set=pa.array(list(arms))), -1),
        dtype=np.int64,
    )
    known = variant >= 0
    encoded = table["unit"].combine_chunks().dictionary_encode()
    place, arm = np.asarray(encoded.indices)[known], variant[known]
    n = len(encoded.dictionary)
    time, low, high = np.full(n, np.iinfo(np.int64).max), np.full(n, len(arms)), np.full(n, -1)
    np.minimum.at(time, place, np.asarray(table["time"])[known])
    np.minimum.at(low, place, arm)
    np.maximum.at(high, place, arm)
    one = low == high
    units = encoded.dictionary.filter(pa.array(one))
    return Exposed(units, low[one], time[one], int((low < high).sum()), int((~known).sum()))


def outcomes(
    events: pa.Table,
    metrics: Sequence[Metric],
    experiment: str,
    who: Exposed | None,
    unit_type: str = "user",
    tenant: str | None = None,
) -> pa.Table:
    """OUTCOMES of one day from that day's events. With `who`, only events after their
    unit's exposure and within the metric's window count; without, all do (the past, for
    CUPED). The unit is the event's subject (a user), its data's `session`, or `tenant`;
    for outcomes posted to the experiment always the subject.
    """
    parts = []
    for metric in metrics:
        for component, source in metric.sources():
            if source.event.startswith(SERVICE):
                continue
            unit, time, value = select(events, source, experiment, unit_type, tenant)
            if not len(unit):
                continue
            if who is None:
                encoded = unit.dictionary_encode()
                place, labels = np.asarray(encoded.indices, dtype=np.int64), encoded.dictionary
            else:
                place, labels = _after(who, unit, time, metric), who.units
            n, total, highest = totals(place, value, len(labels))
            some = np.flatnonzero(n)
            parts.append(
                pa.table(
                    {
                        "component": pa.array([component] * len(some), pa.string()),
                        "unit": labels.take(pa.array(some)),
                        "events": n[some],
                        "total": total[some],
                        "highest": highest[some],
                    },
                    schema=OUTCOMES,
                )
            )
    return pa.concat_tables(parts) if parts else OUTCOMES.empty_table()


def _after(who: Exposed, unit: pa.Array, time: Ints, metric: Metric) -> Ints:
    """Each event's unit as an index into `who`, or -1 when it does not count."""
    place = locate(who, unit)
    since = time - who.time[np.maximum(place, 0)]
    counts = (place >= 0) & (since >= metric.from_day * DAY)
    if metric.window_days is not None:
        counts &= since <= metric.window_days * DAY
    return np.where(counts, place, -1)


def locate(who: Exposed, unit: pa.Array) -> Ints:
    """Index of each unit in `who`; -1 for others. Large arrays in as many threads as
    there are cores.
    """

    def part(piece: pa.Array) -> Ints:
        return np.asarray(pc.fill_null(pc.index_in(piece, value_set=who.units), -1), dtype=np.int64)

    workers = os.cpu_count() or 1
    if len(unit) < MANY or workers == 1:
        return part(unit)
    size = -(-len(unit) // workers)
    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate(
            list(pool.map(part, [unit.slice(start, size) for start in range(0, len(unit), size)]))
        )


def totals(place: Ints, value: Floats, units: int) -> tuple[Ints, Floats, Floats]:
    """Per unit: number of events, sum and maximum (-inf for none) of their values.
    Negative places are left out.
    """
    keep = place >= 0
    if not keep.all():
        place, value = place[keep], value[keep]
    n = np.bincount(place, minlength=units).astype(np.int64)
    total = np.bincount(place, weights=value, minlength=units).astype(np.float64)
    highest: Floats = np.full(units, -np.inf)
    np.maximum.at(highest, place, value)
    return n, total, highest


def service(events: pa.Table, experiment: str) -> pa.Table:
    """The router's account of one day as OUTCOMES: component `service.requests`,
    `service.error_rate`, …; unit "variant/minute".
    """
    mine = events.filter(pc.equal(events["type"], "metric")) if events.num_rows else events
    if mine.num_rows:
        mine = mine.filter(pc.match_substring(mine["data"], "shoal.variant."))
    if not mine.num_rows:
        return OUTCOMES.empty_table()
    fields = columns(
        mine["data"],
        {"metric": TEXT, "value": NUMBER, "labels.experiment": TEXT, "labels.variant": TEXT},
    )
    names = list(fields)
    rows = [
        {
            "component": SERVICE + metric.removeprefix("shoal.variant."),
            "unit": f"{variant}/{minute}",
            "events": 1,
            "total": value,
            "highest": value,
        }
        for metric, value, whose, variant, minute in zip(
            *(fields[name].to_pylist() for name in names),
            microseconds(mine["time"]).to_pylist(),
            strict=True,
        )
        if whose == experiment and metric is not None and value is not None and math.isfinite(value)
    ]
    return pa.Table.from_pylist(rows, OUTCOMES)


def select(
    events: pa.Table,
    source: Source,
    experiment: str,
    unit_type: str = "user",
    tenant: str | None = None,
) -> tuple[pa.Array, Ints, Floats]:
    """(unit, time, value) of the events that a source counts. An event without a unit
    or a finite number is left out.
    """
    none = pa.array([], pa.string()), np.array([], dtype=np.int64), np.array([])
    if not events.num_rows:
        return none
    mine = events.filter(pc.equal(events["type"], source.event))
    if not mine.num_rows:
        return none
    fields = columns(mine["data"], {source.value: NUMBER, "experiment": TEXT, "session": TEXT})
    kinds = {name: kind_of(wanted) for name, wanted in source.where.items()}
    asked = (
        columns(mine["data"], kinds) if kinds else {}
    )  # apart: what is asked of a field may be of another type than its value
    if unit_type == "user" or source.event == OUTCOME:
        unit = mine["subject"].combine_chunks()
    elif unit_type == "session":
        unit = fields["session"]
    else:
        unit = pa.array([tenant] * mine.num_rows, pa.string())
    value = np.asarray(pc.fill_null(fields[source.value].cast(pa.float64()), 1.0))
    keep = np.isfinite(value) & np.asarray(pc.is_valid(unit))
    for name, wanted in source.where.items():
        keep &= np.asarray(
            pc.fill_null(
                pc.equal(
                    asked[name],
                    pa.scalar(float(wanted) if kinds[name] == NUMBER else wanted, kinds[name]),
                ),
                False,
            )
        )
    if source.event == OUTCOME:
        whose = pa.array([None, experiment, experiment.removesuffix(RAMP)], pa.string())
        keep &= np.asarray(pc.is_in(fields["experiment"], value_set=whose))
    at = pa.array(np.flatnonzero(keep))
    return unit.take(at), np.asarray(microseconds(mine["time"]))[keep], value[keep]


def microseconds(time: pa.ChunkedArray) -> pa.Array:
    return time.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).combine_chunks()


# From units to arms


@dataclass(frozen=True, slots=True)
class Numbers:
    """Per unit of an experiment, in the order of `Exposed`: a component's events, sum
    and maximum.
    """

    events: Ints
    total: Floats
    highest: Floats

    def by(self, aggregate: str) -> Floats:
        """One number per unit; NaN for a unit whose number is not defined (no events to
        average, or to take the largest of).
        """
        if aggregate == "count":
            return self.events.astype(float)
        if aggregate == "sum":
            return self.total
        none = self.events == 0
        number = self.total / np.maximum(self.events, 1) if aggregate == "mean" else self.highest
        return np.where(none, np.nan, number)


def numbers(days: Sequence[pa.Table], component: str, who: Exposed) -> Numbers:
    """A component's numbers from its days' OUTCOMES."""
    n, total, highest = (
        np.zeros(len(who.units), dtype=np.int64),
        np.zeros(len(who.units)),
        np.full(len(who.units), -np.inf),
    )
    for day in days:
        mine = day.filter(pc.equal(day["component"], component)) if day.num_rows else day
        if not mine.num_rows:
            continue
        place = locate(who, mine["unit"].combine_chunks())
        keep = place >= 0
        at = place[keep]
        np.add.at(n, at, np.asarray(mine["events"])[keep])
        np.add.at(total, at, np.asarray(mine["total"])[keep])
        np.maximum.at(highest, at, np.asarray(mine["highest"])[keep])
    return Numbers(n, total, highest)


@dataclass(frozen=True, slots=True)
class MetricData:
    """A metric's sufficient statistics by arm. `undefined` says why an arm has none;
    `pairs` are with the past, for CUPED.
    """

    arms: dict[str, Summary]
    undefined: dict[str, str]
    counts: dict[str, int]
    pairs: dict[str, Pair]


def summarize(
    design: Design,
    metric: Metric,
    who: Exposed,
    days: Sequence[pa.Table],
    past: Sequence[pa.Table] = (),
    now: int | None = None,
) -> MetricData:
    """Sufficient statistics of every arm. `now` (microseconds) is when the data end:
    with a window, only units that have had all of it by then are counted.
    """
    if metric.event.startswith(SERVICE):
        return _of_service(design, metric, days)
    own = numbers(days, metric.name, who)
    ripe = np.ones(len(who.units), dtype=bool)
    if metric.window_days is not None and now is not None:
        ripe = who.time + metric.window_days * DAY <= now
    per = numbers(days, f"{metric.name}/per", who).total if metric.kind == "ratio" else None
    value = (own.events > 0).astype(float) if metric.binary else own.by(metric.aggregate)
    ripe &= np.isfinite(value)
    if metric.winsorize is not None and ripe.any():
        value = np.minimum(value, np.quantile(value[ripe], metric.winsorize))
    before = None
    if metric.cuped_days is not None:
        earlier = numbers(past, metric.name, who)
        before = (
            (earlier.events > 0).astype(float) if metric.binary else earlier.by(metric.aggregate)
        )
    data = MetricData({}, {}, {}, {})
    for index, arm in enumerate(design.arms):
        mine = ripe & (who.arm == index)
        data.counts[arm] = int(mine.sum())
        try:
            data.arms[arm] = _summary(metric, value[mine], None if per is None else per[mine])
            if before is not None:
                data.pairs[arm] = Pair.of(value[mine], before[mine])
        except Undefined as reason:
            data.undefined[arm] = str(reason)
    return data


def _summary(metric: Metric, value: Floats, per: Floats | None) -> Summary:
    if metric.binary:
        return Proportion(value.size, int(value.sum()))
    if metric.kind == "ratio":
        assert per is not None
        return Ratio(Pair.of(value, per))
    if metric.kind == "quantile":
        assert metric.quantile is not None
        return Quantile.of(value, metric.quantile)
    return Mean.of(value)


def _of_service(design: Design, metric: Metric, days: Sequence[pa.Table]) -> MetricData:
    """The router's account by the minute: minutes are the units, since requests of one
    minute share its weather. Arms share minutes, which only makes the comparison
    stricter than it says.
    """
    data = MetricData({}, {}, {}, {})
    table = pa.concat_tables(days) if days else OUTCOMES.empty_table()
    mine = table.filter(pc.equal(table["component"], metric.event))
    arm = pc.replace_substring_regex(mine["unit"], "/[0-9]+$", "")
    for name in design.arms:
        values = np.asarray(mine.filter(pc.equal(arm, name))["total"])
        data.counts[name] = int(values.size)
        try:
            data.arms[name] = Mean.of(values)
        except Undefined as reason:
            data.undefined[name] = str(reason)
    return data


def service_levels(design: Design, days: Sequence[pa.Table]) -> dict[str, dict[str, float | None]]:
    """Per variant: requests in all, and the means over minutes of the error rate and
    the latency's quantiles (ms).
    """
    table = pa.concat_tables(days) if days else OUTCOMES.empty_table()
    levels: dict[str, dict[str, float | None]] = {}
    for arm in design.arms:
        levels[arm] = {}
        for component in ("requests", "error_rate", "latency_p50", "latency_p95"):
            mine = table.filter(
                pc.and_(
                    pc.equal(table["component"], SERVICE + component),
                    pc.match_substring_regex(table["unit"], f"^{re.escape(arm)}/[0-9]+$"),
                )
            )
            total = pc.sum(mine["total"]).as_py()
            levels[arm][component] = (
                None
                if total is None
                else total
                if component == "requests"
                else total / mine.num_rows
            )
    return levels
