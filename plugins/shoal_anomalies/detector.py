"""The detector of one series: six novelty signals combined into one score."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .alarm_policy import AlarmPolicy, DetectorSettings
from .statistical import MAD_TO_SIGMA
from .tail_probability import TailModel
from .timestamps import epoch_seconds

SIGNALS = ("value", "pattern", "shape", "variation", "level", "season")

HISTORY = 2048  # points remembered: a week of five-minute points
SLACK = 256  # points added between moves of the buffer
DAY = 86_400.0
MAX_SURPRISAL = 20.0  # nats per signal
METHOD_WEIGHT = 0.5  # of one method's nats against the signals' mean: equal false alarm rates
MAX_VOTE = 1.25  # times the threshold: a method's vote counts up to this
MAX_MAGNITUDE = 1e100  # its square is still finite
MIN_THRESHOLD = 2.0  # nats: the least that the parameters allow
MANY_VALUES = 100  # the most that a signal needs before it counts
FEW_VALUES = 24  # and the least
NEARBY = 36  # values


@dataclass(frozen=True, slots=True)
class Verdict:
    """The detector's result for one point.

    score: in [0, 1]; an alarm from `DEFAULT_THRESHOLD` on.
    surprisal: minus the natural logarithm of the tail probability, in nats, combined
        over the signals.
    signals: the surprisal of each signal that is warmed up, in nats.
    excursion: see `Detector.excursion`; 0 for a usual point.
    """

    score: float
    surprisal: float
    signals: dict[str, float]
    excursion: float = 0.0


class Detector:
    """Scores a series point by point, using only the points before.

    Each signal measures how far the newest point is from anything seen before: its
    value, the last 4 points (pattern), means over the last 16 (shape), the variation
    and the level of the series, and the same hour of the last seven days (season). A
    `TailModel` per signal turns the distance into a surprisal; their quadratic mean is
    the surprisal of the point. While the series stays as unusual as it was, the score
    stays below the threshold, so a level shift alarms once and is then the new normal.

    >>> detector = Detector()
    >>> verdicts = [detector.update(60.0 * i, float(i % 7)) for i in range(400)]
    >>> max(verdict.score for verdict in verdicts) < 0.5
    True
    >>> detector.update(24_000.0, 50.0).score >= 0.5
    True

    Nearest neighbours as a measure of novelty: E. Burnaev, V. Ishimtsev, "Conformalized
    density- and distance-based anomaly detection in time-series data", 2016.
    """

    def __init__(self, settings: DetectorSettings | None = None) -> None:
        self._policy = AlarmPolicy(settings or DetectorSettings())
        self._values = _RecentValues()
        self._outline = _RecentValues()  # means of four points
        self._times = _RecentValues()
        self._steps: deque[float] = deque(maxlen=12)  # squared first differences
        self._tails = {name: TailModel() for name in SIGNALS}
        self._mean_magnitude = 0.0  # running mean of |value|
        self._count = 0

    def update(
        self, time: float, value: float, others: Mapping[str, float] | None = None
    ) -> Verdict:
        """Score the next point.

        Args:
            time: Epoch seconds, not before the last point.
            value: The value; one that is not finite scores 0.
            others: Surprisals of the point by other methods, in nats. The mean of all
                counts, each up to `MAX_VOTE` times the threshold. For a single method
                to raise an alarm, its surprisal must double for each other method.
        """
        if not math.isfinite(value):
            return Verdict(0.0, 0.0, {})
        value = min(max(value, -MAX_MAGNITUDE), MAX_MAGNITUDE)
        self._append(time, value)
        noise = self.settings.tolerance * self._mean_magnitude
        signals, needed = {}, self.values_needed
        for name, distance in self._distances(time, value).items():
            magnitude = max(distance, noise)
            tail = self._tails[name]
            signals[name] = min(tail.surprisal(magnitude, needed), MAX_SURPRISAL)
            tail.observe(magnitude)
        surprisal = math.sqrt(sum(s * s for s in signals.values()) / len(SIGNALS))
        weight = surprisal
        if others:
            signals |= others
            votes = [surprisal, *(METHOD_WEIGHT * nats for nats in others.values())]
            limit = MAX_VOTE * self._policy.threshold
            agreed = sum(min(vote, limit) for vote in votes) / len(votes)
            weight = max(agreed, max(votes) / 2 ** len(others))
            surprisal = sum(votes) / len(votes)
        excursion = self.excursion(time, value) if surprisal >= MIN_THRESHOLD else 0.0
        return Verdict(self._policy.score(weight, time, excursion), surprisal, signals, excursion)

    @property
    def values_needed(self) -> float:
        """How many values a signal needs before it counts: those of a day, or fewer."""
        times = self.times
        known = float(times[-1] - times[0]) if len(times) > 1 else 0.0
        if not known:
            return MANY_VALUES
        return min(max(self.settings.warm_up / known * len(times), FEW_VALUES), MANY_VALUES)

    def excursion(self, time: float, value: float) -> float:
        """How far the newest value is from those at this time on the days before.

        With less than three days, from the last `NEARBY` values. In the series' unit,
        with its sign; 0 within three scales of their median.
        """
        days = self.same_time_values(time)
        near = self._values.all()[-NEARBY - 1 : -1] if days is None or len(days) < 3 else days
        if not near.size:
            return 0.0
        centre = float(np.median(near))
        scale = MAD_TO_SIGMA * float(np.median(np.abs(near - centre)))
        return value - centre if abs(value - centre) > 3 * scale else 0.0

    @property
    def settings(self) -> DetectorSettings:
        return self._policy.settings

    @settings.setter
    def settings(self, settings: DetectorSettings) -> None:
        self._policy.settings = settings

    @property
    def values(self) -> NDArray[np.float64]:
        """The last values (up to `HISTORY`), oldest first; a view that changes."""
        return self._values.all()

    @property
    def times(self) -> NDArray[np.float64]:
        """The times of `values`, in epoch seconds."""
        return self._times.all()

    def state(self) -> dict[str, Any]:
        """Everything but the points, as plain JSON; see `from_state`."""
        return {
            "tails": {name: tail.state() for name, tail in self._tails.items()},
            "mean_magnitude": self._mean_magnitude,
            "count": self._count,
            "time": float(self._times.last(1)[0]) if self._times.length else None,
            **self._policy.state(),
        }

    @staticmethod
    def from_state(
        state: Mapping[str, Any],
        times: NDArray[np.float64],
        values: NDArray[np.float64],
        settings: DetectorSettings | None = None,
    ) -> "Detector":
        """The detector that `state` was taken from.

        Args:
            state: The result of `Detector.state`.
            times: Epoch seconds of the last `HISTORY` + 12 points before that.
            values: Their values.
            settings: The settings of the detector.
        """
        detector = Detector(settings)
        detector._times.fill(times)
        detector._values.fill(values)
        detector._outline.fill(
            np.array([values[max(0, i - 3) : i + 1].mean() for i in range(len(values))])
        )
        detector._steps.extend((np.diff(values[-13:]) ** 2).tolist())
        detector._tails = {name: TailModel.from_state(state["tails"][name]) for name in SIGNALS}
        detector._mean_magnitude = float(state["mean_magnitude"])
        detector._count = int(state["count"])
        detector._policy.restore(state)
        return detector

    def _append(self, time: float, value: float) -> None:
        values = self._values
        if values.length:
            step = value - float(values.last(1)[0])
            self._steps.append(step * step)
        values.push(value)
        self._outline.push(float(values.last(4).mean()))
        self._times.push(time)
        self._count += 1
        self._mean_magnitude += (abs(value) - self._mean_magnitude) / self._count

    def _distances(self, time: float, value: float) -> dict[str, float]:
        distances: dict[str, float] = {}
        past = self._values.all()
        length = len(past)
        if length < 2:
            return distances
        distances["value"] = float(np.abs(past[:-1] - value).min())
        if length >= 8:
            distances["pattern"] = _nearest(past, 1)
        if length >= 32:
            distances["shape"] = _nearest(self._outline.all(), 4)
        distances["variation"] = math.sqrt(math.fsum(self._steps) / len(self._steps))
        if length >= 108:
            distances["level"] = abs(float(past[-36:].mean()) - float(past[-324:-36].mean()))
        season = self.same_time_values(time)
        if season is not None:
            distances["season"] = float(np.abs(season - value).min())
        return distances

    def same_time_values(self, time: float) -> NDArray[np.float64] | None:
        """Values at this time of day on earlier days.

        Returns:
            A row per day for up to seven days back, each with the point at that time
            and its two neighbours, without the newest point; None without such days.
        """
        times, past = self._times.all(), self._values.all()
        if len(times) < 2:
            return None
        wanted = time - _DAYS_BACK
        places = times.searchsorted(wanted[wanted >= times[0]])
        if not len(places):
            return None
        values: NDArray[np.float64] = past[np.clip(places[:, None] + _AROUND, 0, len(past) - 2)]
        return values


_DAYS_BACK = DAY * np.arange(1, 8)
_AROUND = np.array([-1, 0, 1])


def _nearest(series: NDArray[np.float64], stride: int) -> float:
    """Root mean square distance of the last four values to the nearest four before.

    The four values are `stride` apart.
    """
    reach = 3 * stride
    end = len(series) - 4 * stride
    total: Any = 0.0
    for k in range(4):
        back = k * stride
        difference = series[reach - back : end - back] - series[-1 - back]
        total = total + difference * difference
    return math.sqrt(float(total.min()) / 4)


class _RecentValues:
    """The last `HISTORY` numbers as one contiguous array."""

    __slots__ = ("_buffer", "_end", "length")

    def __init__(self) -> None:
        self._buffer = np.empty(HISTORY + SLACK)
        self._end = 0
        self.length = 0

    def push(self, number: float) -> None:
        if self._end == len(self._buffer):
            self._buffer[: HISTORY - 1] = self._buffer[1 - HISTORY :]
            self._end = HISTORY - 1
        self._buffer[self._end] = number
        self._end += 1
        self.length = min(self.length + 1, HISTORY)

    def fill(self, numbers: NDArray[np.float64]) -> None:
        kept = numbers[-HISTORY:]
        self._buffer[: len(kept)] = kept
        self._end = self.length = len(kept)

    def all(self) -> NDArray[np.float64]:
        return self._buffer[self._end - self.length : self._end]

    def last(self, count: int) -> NDArray[np.float64]:
        return self._buffer[self._end - min(count, self.length) : self._end]


def score_series(
    times: ArrayLike | Sequence[Any], values: ArrayLike, settings: DetectorSettings | None = None
) -> NDArray[np.float64]:
    """Score a whole series.

    Causal: the scores of a prefix equal those of the whole.

    Args:
        times: n times in order: epoch seconds, `datetime`s, `numpy.datetime64`s or
            ISO 8601 strings.
        values: n numbers; one that is not finite scores 0 and is otherwise ignored.
        settings: The settings of the detector.

    Returns:
        n scores in [0, 1]; alarms are those from `DEFAULT_THRESHOLD` on.

    Raises:
        ValueError: The lengths differ, or a time cannot be read.
    """
    return alarm_scores(rarity(times, values, settings), settings)


@dataclass(frozen=True, slots=True)
class Rarity:
    """How rare each of n points is, which `AnomalyParameters` do not change.

    times: epoch seconds.
    surprisals: in nats; NaN where the value is not finite.
    excursions: see `Detector.excursion`.
    """

    times: NDArray[np.float64]
    surprisals: NDArray[np.float64]
    excursions: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)


def rarity(
    times: ArrayLike | Sequence[Any], values: ArrayLike, settings: DetectorSettings | None = None
) -> Rarity:
    """How rare each point of a whole series is.

    Takes the arguments of `score_series`, and raises as it does.
    """
    seconds = epoch_seconds(times)
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or seconds.shape != numbers.shape:
        raise ValueError(
            "times and values must be 1-D and equally long, "
            f"not {seconds.shape} and {numbers.shape}"
        )
    detector = Detector(settings)
    pairs = zip(seconds.tolist(), numbers.tolist(), strict=True)
    verdicts = [detector.update(time, value) for time, value in pairs]
    found = np.array([verdict.surprisal for verdict in verdicts], np.float64)
    excursions = np.array([verdict.excursion for verdict in verdicts], np.float64)
    return Rarity(seconds, np.where(np.isfinite(numbers), found, np.nan), excursions)


def alarm_scores(rarity: Rarity, settings: DetectorSettings | None = None) -> NDArray[np.float64]:
    """The scores of a whole series; 0 where a surprisal is NaN."""
    policy = AlarmPolicy(settings or DetectorSettings())
    points = zip(
        rarity.surprisals.tolist(), rarity.times.tolist(), rarity.excursions.tolist(), strict=True
    )
    return np.array([policy.score(*point) if point[0] == point[0] else 0.0 for point in points])
