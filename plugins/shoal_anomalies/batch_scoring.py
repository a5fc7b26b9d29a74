"""Scoring a batch of points: anomalies, alerts, and what is to be written.

Pure computation, so it runs in a thread.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import orjson

from .alarm_policy import DEFAULT_THRESHOLD
from .alert_state import AlertState, BatchWrites
from .explanation import Explanation, explain
from .multivariate import CombinationForest, Driver, column_name
from .points import KINDS, Labels, Point, series_id
from .readings import NO_START
from .recent_points import pack
from .rules import MAX_PAUSE, Observation, Rule
from .series_state import SeriesState
from .timestamps import to_datetime

SAVE_EVERY = 16  # points of a series between writes of its state; the rest is replayed
INTERVALS = 30  # that the usual one is taken from
SAME_TIME = 600.0  # seconds within which metrics count as turning unusual together
UNUSUAL_COMBINATION = 6.0  # nats from which a combination is unusual
CORRELATED_POINTS = 60
MIN_CORRELATED_POINTS = 12

ScoredPoint = tuple[SeriesState, float, float]  # its series, epoch seconds, value or rate
PointKey = tuple[str, float]  # series id, epoch seconds


class BatchScorer:
    """Scores one batch of a tenant's points.

    Args:
        series: The tenant's series in memory, by id.
        forests: The tenant's forests, by group of series.
        alert_state: The tenant's alerts, changed by `score`.
        writes: What to write, added to by `score`.
        now: The current time.
    """

    def __init__(
        self,
        series: Mapping[str, SeriesState],
        forests: Mapping[str, CombinationForest],
        alert_state: AlertState,
        writes: BatchWrites,
        now: datetime,
    ) -> None:
        self._series = series
        self._forests = forests
        self._alert_state = alert_state
        self._writes = writes
        self._now = now
        self._unusual = {s.id: s for s in series.values() if s.unusual_since is not None}

    def score(self, points: Sequence[Point]) -> None:
        """Score points, and apply the rules to them."""
        new_points = self._select_new(points)
        surprisals, drivers = self._score_combinations(new_points)
        for _, group in groupby(new_points, key=lambda point: point[1]):
            points_of_time = list(group)  # rules compare metrics of the same time
            found = [self._score(*point, surprisals, drivers) for point in points_of_time]
            for point, anomaly in zip(points_of_time, found, strict=True):
                self._apply_rules(*point, anomaly)
        for state, *_ in new_points:
            if state.unsaved_points >= SAVE_EVERY:
                self._writes.states[state.id] = state.to_bytes()
                state.unsaved_points = 0
        self._describe_alerts(new_points, drivers)

    def _score(
        self,
        state: SeriesState,
        time: float,
        value: float,
        surprisals: Mapping[PointKey, float],
        drivers: Mapping[PointKey, Sequence[Driver]],
    ) -> Explanation | None:
        """Score a point and write it; the explanation if it is an anomaly."""
        verdict = state.score(time, value, surprisals.get((state.id, time)))
        self._write_point(state, time, value, verdict.score)
        if state.unusual_since is None:
            self._unusual.pop(state.id, None)
        else:
            self._unusual[state.id] = state
        if verdict.score < DEFAULT_THRESHOLD:
            return None
        anomaly = self._explain(state, time, value, drivers.get((state.id, time), ()))
        self._write_anomaly(state, time, anomaly)
        return anomaly

    def _select_new(self, points: Sequence[Point]) -> list[ScoredPoint]:
        """The points to score, ordered by time.

        A point that is not newer than its series is a repetition, a correction or late:
        it is written, but not scored.
        """
        values: dict[PointKey, ScoredPoint] = {}  # the last of a time counts
        for point in sorted(points, key=lambda p: p.time):
            state = self._series.get(point.series)
            if state is not None:  # else beyond the maximum number of series
                for time, value in self._values(state, point):
                    values[state.id, time] = state, time, value
        new_points: list[ScoredPoint] = []
        for state, time, value in sorted(values.values(), key=lambda found: found[1]):
            if time > state.last_time:
                new_points.append((state, time, value))
            elif state.correct(time, value):
                self._write_point(state, time, value, math.nan)
        return new_points

    def _values(self, state: SeriesState, point: Point) -> list[tuple[float, float]]:
        """What a point says of its series: times and values, or rates of a counter."""
        time = point.time.timestamp()
        if point.kind == "gauge":
            return [(time, point.value)]
        start = point.start.timestamp() if point.start else NO_START
        rates = state.readings.add(time, point.value, start)
        self._writes.readings[state.id] = state.readings.to_bytes()
        return rates

    def _write_point(self, state: SeriesState, time: float, value: float, score: float) -> None:
        record = pack(time, value, score)
        packed = self._writes.recent_points.get(state.id, b"")
        self._writes.recent_points[state.id] = packed + record
        self._writes.unarchived.append(bytes.fromhex(state.id) + record)

    def _write_anomaly(self, state: SeriesState, time: float, anomaly: Explanation) -> None:
        record = {
            "id": f"{state.id}-{time:.0f}",
            "labels": dict(state.labels),
            "series": state.id,
            **anomaly.to_dict(),
        }
        self._writes.anomalies.append((time, orjson.dumps(record)))

    def _score_combinations(
        self, new_points: Sequence[ScoredPoint]
    ) -> tuple[dict[PointKey, float], dict[PointKey, list[Driver]]]:
        """Surprisal of the combination that each point is part of, and its drivers."""
        surprisals: dict[PointKey, float] = {}
        drivers: dict[PointKey, list[Driver]] = {}
        rows: dict[str, dict[float, dict[str, tuple[str, float]]]] = {}
        for state, time, value in new_points:
            group = series_id("", state.labels)
            if group in self._forests:
                row = rows.setdefault(group, {}).setdefault(time, {})
                row[column_name(state.metric, state.kind)] = state.id, value
        for group, by_time in rows.items():
            forest = self._forests[group]
            complete = [
                (time, row)
                for time, row in by_time.items()
                if self._complete_row(forest.metrics, time, row)
            ]
            if not complete:
                continue
            matrix = np.array([[row[m][1] for m in forest.metrics] for _, row in complete])
            for (time, row), nats in zip(complete, forest.surprisals(matrix).tolist(), strict=True):
                driving = []
                if nats >= UNUSUAL_COMBINATION:
                    driving = forest.drivers({m: row[m][1] for m in forest.metrics})
                for name, _ in row.values():
                    surprisals[name, time], drivers[name, time] = nats, driving
        return surprisals, drivers

    def _complete_row(
        self, metrics: Sequence[str], time: float, row: dict[str, tuple[str, float]]
    ) -> bool:
        """Add values of earlier batches; whether all metrics then have one."""
        labels = self._series[next(iter(row.values()))[0]].labels
        for metric in metrics:
            if metric in row:
                continue
            other = self._find_column(metric, labels)
            index = other.index_of(time) if other else None
            if other is None or index is None:
                return False
            row[metric] = other.id, float(other.detector.values[index])
        return True

    def _find_column(self, column: str, labels: Labels) -> SeriesState | None:
        """The series that a forest calls by this name."""
        gauge = self._series.get(series_id(column, labels))
        if gauge or not column.startswith("rate("):
            return gauge
        return self._series.get(series_id(column[5:-1], labels, "counter"))

    def _apply_rules(
        self, state: SeriesState, time: float, value: float, anomaly: Explanation | None
    ) -> None:
        rules = {
            name: rule
            for name, rule in self._alert_state.rules.items()
            if rule.applies_to(state.metric, state.labels)
        }
        if not rules:
            return
        needs_interval = any(rule.points > 1 or rule.duration for rule in rules.values())
        names = {name for rule in rules.values() for name in rule.other_metrics(state.metric)}
        observation = replace(
            _observation(state, time, value, rules.values()),
            is_anomaly=anomaly is not None,
            is_calm=state.is_calm,
            interval=_usual_interval(state) if needs_interval else None,
            others=self._others(state, time, names, rules.values()) if names else {},
        )

        def explain_point() -> tuple[str, dict[str, Any]]:
            explanation = anomaly or self._explain(state, time, value, ())
            return explanation.sentence, explanation.to_dict()

        self._alert_state.manager.observe(
            observation,
            rules,
            self._now,
            correlation=self._correlation,
            explain=explain_point,
        )

    def _others(
        self, state: SeriesState, time: float, names: Iterable[str], rules: Collection[Rule]
    ) -> dict[str, Observation]:
        """Other metrics with the labels of a series, as they were at a time."""
        found = {}
        for name in names:
            for kind in KINDS:
                other = self._series.get(series_id(name, state.labels, kind))
                index = _latest_index(other, time) if other else None
                if other is not None and index is not None:
                    value = float(other.detector.values[index])
                    found[name] = _observation(other, time, value, rules)
                    break
        return found

    def _describe_alerts(
        self,
        new_points: Sequence[ScoredPoint],
        drivers: Mapping[PointKey, Sequence[Driver]],
    ) -> None:
        """Let open alerts say what the newest points of these series are."""
        newest = {state.id: (state, time, value) for state, time, value in new_points}

        def explain_newest(name: str) -> tuple[str, dict[str, Any]]:
            state, time, value = newest[name]
            driving = drivers.get((name, time), ())
            explanation = self._explain(state, time, value, driving)
            return explanation.sentence, explanation.to_dict()

        self._alert_state.manager.describe(newest, explain_newest)

    def _explain(
        self,
        state: SeriesState,
        time: float,
        value: float,
        drivers: Sequence[Driver],
    ) -> Explanation:
        together = {
            other.metric
            for other in self._unusual.values()
            if abs(other.last_time - time) <= SAME_TIME
        }
        return explain(
            metric=state.metric,
            value=value,
            time=time,
            verdict=state.verdict,
            band=state.expected_range(time),
            z=state.z(),
            since=state.unusual_since,
            with_it=sorted(together - {state.metric}),
            drivers=drivers,
        )

    def _correlation(self, a: str, b: str) -> float | None:
        """Recent correlation of two series; None if it is unknown."""
        first, second = self._series.get(a), self._series.get(b)
        return _correlation(first, second) if first and second else None


def _observation(
    state: SeriesState, time: float, value: float, rules: Iterable[Rule]
) -> Observation:
    """A point without what only rules on it need."""
    needs_expected = any(rule.needs_expected for rule in rules)
    return Observation(
        metric=state.metric,
        labels=state.labels,
        series=state.id,
        time=to_datetime(time),
        value=value,
        expected=state.expected_value(time, value) if needs_expected else None,
        seconds=_seconds(state, time) if state.kind == "counter" else 1.0,
    )


def _seconds(state: SeriesState, time: float) -> float:
    """How long a counter counted for its rate at a time."""
    times = state.detector.times
    index = int(np.searchsorted(times, time, "right")) - 1
    return float(times[index] - times[index - 1]) if index > 0 else 1.0


def _latest_index(state: SeriesState, time: float) -> int | None:
    """The index of the point at a time, or of one shortly before; None without any."""
    times = state.detector.times
    index = int(np.searchsorted(times, time, "right")) - 1
    if index < 0:
        return None
    pause, interval = time - times[index], _usual_interval(state) or 0.0
    return index if pause <= MAX_PAUSE * interval else None


def _usual_interval(state: SeriesState) -> float | None:
    """The median of the last intervals before the newest point; None without any."""
    steps = np.diff(state.detector.times[-INTERVALS - 2 : -1])
    return float(np.median(steps)) if len(steps) else None


def _correlation(a: SeriesState, b: SeriesState) -> float | None:
    """Correlation over the last common points; None with few, or of a constant."""
    times, values = (a.detector.times[-CORRELATED_POINTS:], a.detector.values[-CORRELATED_POINTS:])
    others = b.detector.times
    if len(others) < MIN_CORRELATED_POINTS:
        return None
    # The nearest points are common: two collectors measure at different seconds.
    after = np.clip(np.searchsorted(others, times), 1, len(others) - 1)
    nearest = after - (times - others[after - 1] <= others[after] - times)
    common = np.abs(others[nearest] - times) <= (_usual_interval(b) or 0.0) / 2
    if common.sum() < MIN_CORRELATED_POINTS:
        return None
    x, y = values[common], b.detector.values[nearest[common]]
    if x.std() < 1e-12 * (1 + abs(x).max()) or y.std() < 1e-12 * (1 + abs(y).max()):
        return None
    return float(np.corrcoef(x, y)[0, 1])
