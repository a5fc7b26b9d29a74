"""From daily tables to one value per unit, and from those to each arm's statistics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from . import cuped
from .aggregation import DAY, OUTCOMES, UNREADABLE, ExposedUnits, Floats, Ints, locate
from .clusters import Clusters
from .design import Design
from .metrics import SERVICE, Metric
from .summaries import Estimate, Mean, Pair, Proportion, Quantile, Ratio, Summary, Undefined

LARGEST = 1e60
"""The largest value of a unit that is compared."""

Arms = Mapping[str, Summary | Clusters | Estimate]
"""Arms' summaries, by name."""


@dataclass(frozen=True, slots=True)
class UnitValues:
    """A metric component's number of events, sum and maximum of each unit.

    All arrays have shape (units,), in the order of `ExposedUnits`.
    """

    events: Ints
    total: Floats
    highest: Floats

    def aggregated(self, aggregate: str) -> Floats:
        """One value per unit, shape (units,).

        NaN where it is undefined: the mean or maximum of no events.
        """
        if aggregate == "count":
            return self.events.astype(float)
        if aggregate == "sum":
            return self.total
        undefined = self.events == 0
        value = self.total / np.maximum(self.events, 1) if aggregate == "mean" else self.highest
        return np.where(undefined, np.nan, value)


def unit_values(days: Sequence[pa.Table], component: str, exposed: ExposedUnits) -> UnitValues:
    """A component's values per unit, from the OUTCOMES of its days."""
    units = len(exposed.units)
    n, total, highest = np.zeros(units, dtype=np.int64), np.zeros(units), np.full(units, -np.inf)
    for day in days:
        rows = day.filter(pc.equal(day["component"], component)) if day.num_rows else day
        if not rows.num_rows:
            continue
        position = locate(exposed, rows["unit"].combine_chunks())
        keep = position >= 0
        at = position[keep]
        np.add.at(n, at, np.asarray(rows["events"])[keep])
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(total, at, np.asarray(rows["total"])[keep])
        np.maximum.at(highest, at, np.asarray(rows["highest"])[keep])
    return UnitValues(n, total, highest)


@dataclass(frozen=True, slots=True)
class MetricData:
    """A metric's sufficient statistics by arm.

    Attributes:
        arms: Summaries of the arms that have one.
        undefined: Why each other arm has none.
        counts: Units of each arm that were counted.
        people: Where people are observed in units, how many of each arm were counted.
        pairs: Moments of each arm's values with those of its past, for CUPED.
        has_events: Whether any event of the metric was logged for any unit.
        unreadable: Events that were left out, because they have no number.
        overflowed: Units whose values are too large to add up.
    """

    arms: dict[str, Summary | Clusters]
    undefined: dict[str, str]
    counts: dict[str, int]
    pairs: dict[str, Pair]
    has_events: bool = True
    people: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    overflowed: int = 0

    @classmethod
    def empty(cls, has_events: bool = True, unreadable: int = 0, overflowed: int = 0) -> MetricData:
        return cls({}, {}, {}, {}, has_events, unreadable=unreadable, overflowed=overflowed)

    def why_undefined(self, arm: str) -> str:
        return self.undefined.get(arm, "no units")

    def adjusted_arms(self) -> tuple[Arms, float | None]:
        """The arms' summaries, adjusted by their past (CUPED) when they have one.

        With them, the factor by which that narrows intervals; None when they are not
        adjusted.
        """
        if len(self.pairs) < 2 or self.undefined:
            return self.arms, None
        return cuped.adjust(self.pairs), cuped.narrowing(self.pairs)


def summarize(
    design: Design,
    metric: Metric,
    exposed: ExposedUnits,
    days: Sequence[pa.Table],
    past: Sequence[pa.Table] = (),
    now: int | None = None,
) -> MetricData:
    """Sufficient statistics of every arm.

    Args:
        design: The experiment's design.
        metric: One of its metrics.
        exposed: The experiment's units.
        days: The OUTCOMES of its days.
        past: The OUTCOMES of the days before its start, for CUPED.
        now: When the data end, in microseconds since 1970. Of a metric with a window,
            only units whose window is over by then count.
    """
    if metric.event.startswith(SERVICE):
        return _summarize_service(design, metric, days)
    values = unit_values(days, metric.name, exposed)
    value = _metric_values(metric, values)
    counted = np.isfinite(value)
    overflowed = ~counted & (values.events > 0)
    if metric.window_days is not None and now is not None:
        counted &= exposed.time + metric.window_days * DAY <= now
    denominator = None
    if metric.kind == "ratio":
        denominator = unit_values(days, f"{metric.name}/per", exposed).total
    unreadable = [
        int(unit_values(days, component + UNREADABLE, exposed).events.sum())
        for component, _ in metric.sources()
        if metric.reads_values
    ]
    data = MetricData.empty(bool(values.events.any()), sum(unreadable), int(overflowed.sum()))
    value, flattened = _cap(metric, value, counted)
    before = None
    if metric.cuped_days is not None:
        before = _metric_values(metric, unit_values(past, metric.name, exposed))
    for index, arm in enumerate(design.arms):
        chosen = counted & (exposed.arm == index)
        data.counts[arm] = int(chosen.sum())
        too_large = int((overflowed & (exposed.arm == index)).sum())
        try:
            if too_large:
                raise Undefined(f"the values of {too_large:,} units are too large to add up")
            if flattened:
                raise Undefined(flattened)
            own_denominator = None if denominator is None else denominator[chosen]
            _check_size(value[chosen], own_denominator, None if before is None else before[chosen])
            if exposed.cluster is not None:
                data.people[arm] = data.counts[arm]
                data.counts[arm] = np.unique(exposed.cluster[chosen]).size
                data.arms[arm] = _clusters(exposed.cluster[chosen], value[chosen], own_denominator)
                continue
            data.arms[arm] = _arm_summary(metric, value[chosen], own_denominator)
            if before is not None:
                data.pairs[arm] = Pair.of(value[chosen], before[chosen])
        except Undefined as reason:
            data.undefined[arm] = str(reason)
    return data


def _clusters(cluster: Ints, value: Floats, size: Floats | None) -> Clusters:
    """The sums of people's values, and their number or denominators, by cluster."""
    _, position = np.unique(cluster, return_inverse=True)
    sizes = np.ones(value.size) if size is None else size
    total, people = (np.bincount(position, weights=w).astype(float) for w in (value, sizes))
    return Clusters(total, people)


def _cap(metric: Metric, value: Floats, counted: NDArray[np.bool_]) -> tuple[Floats, str]:
    """The values, winsorised; and why that leaves nothing to test, if so."""
    if metric.winsorize is None or not counted.any():
        return value, ""
    kept = value[counted]
    cap = np.quantile(kept, metric.winsorize)
    flattened = kept.min() == cap < kept.max()
    return np.minimum(value, cap), (
        f"capped at their {metric.winsorize:g}-quantile, all units have the value {cap:g}: "
        "raise `winsorize`, or leave it out"
        if flattened
        else ""
    )


def _check_size(*values: Floats | None) -> None:
    """Refuse values whose fourth powers cannot be added up."""
    for value in values:
        if value is not None and value.size and np.abs(value).max() > LARGEST:
            raise Undefined(f"some units' values are too large to compare: beyond {LARGEST:g}")


def _metric_values(metric: Metric, values: UnitValues) -> Floats:
    if metric.binary:
        return (values.events > 0).astype(float)
    return values.aggregated(metric.aggregate)


def _arm_summary(metric: Metric, value: Floats, denominator: Floats | None) -> Summary:
    if metric.binary:
        return Proportion(value.size, int(value.sum()))
    if metric.kind == "ratio":
        assert denominator is not None
        return Ratio(Pair.of(value, denominator))
    if metric.kind == "quantile":
        assert metric.quantile is not None
        return Quantile.of(value, metric.quantile)
    return Mean.of(value)


def _summarize_service(design: Design, metric: Metric, days: Sequence[pa.Table]) -> MetricData:
    """Summaries of the router's request metrics, with minutes as units.

    Requests of one minute are correlated. So are the arms, which share their minutes:
    that makes the comparison conservative.
    """
    table = pa.concat_tables(days) if days else OUTCOMES.empty_table()
    rows = table.filter(pc.equal(table["component"], metric.event))
    data = MetricData.empty(has_events=rows.num_rows > 0)
    arm = pc.replace_substring_regex(rows["unit"], "/[0-9]+$", "")
    for name in design.arms:
        values = np.asarray(rows.filter(pc.equal(arm, name))["total"])
        data.counts[name] = int(values.size)
        try:
            data.arms[name] = Mean.of(values)
        except Undefined as reason:
            data.undefined[name] = str(reason)
    return data


def service_levels(design: Design, days: Sequence[pa.Table]) -> dict[str, dict[str, float | None]]:
    """Per variant: the number of requests, and means over minutes of the other metrics.

    These are `error_rate` (a share), `latency_p50` and `latency_p95` (milliseconds).
    """
    table = pa.concat_tables(days) if days else OUTCOMES.empty_table()
    levels: dict[str, dict[str, float | None]] = {}
    for arm in design.arms:
        levels[arm] = {}
        for component in ("requests", "error_rate", "latency_p50", "latency_p95"):
            rows = table.filter(
                pc.and_(
                    pc.equal(table["component"], SERVICE + component),
                    pc.match_substring_regex(table["unit"], f"^{re.escape(arm)}/[0-9]+$"),
                )
            )
            total = pc.sum(rows["total"]).as_py()
            is_mean = total is not None and component != "requests"
            levels[arm][component] = total / rows.num_rows if is_mean else total
    return levels
