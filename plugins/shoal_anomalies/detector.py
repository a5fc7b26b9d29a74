"""The combined detector of one series: six signals of novelty, one calibrated score."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .tail_probability import TailModel
from .timestamps import seconds

DEFAULT_THRESHOLD = 0.5
SIGNALS = ("value", "pattern", "shape", "variation", "level", "season")

HISTORY = 2048  # points remembered: a week of five-minute points
SLACK = 256  # how many are pushed between moves
DAY = 86_400.0
CERTAIN = 20.0  # nats; more says nothing more
ALONE = 0.5  # one method's nats against the mean of the signals: so each alarms about as often
ENOUGH = (
    1.25  # times the bar: what a method finds odder than that weighs no more against the others
)
LARGEST = 1e100  # its square is still a number


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """What a detector may be told. `docs/anomalies.md` says on what the defaults were
    measured.

    threshold: the combined surprise, in nats, at which a point is anomalous.
    refractory: points after an alarm in which only something `worse` times as
    surprising alarms again. habituation: nats by which each alarm raises the bar for
    the next, worn off over `memory` points. warm_up: values that a signal must have
    seen before it speaks. tolerance: differences below this share of the series' mean
    magnitude are noise.
    """

    threshold: float = 3.2
    refractory: int = 75
    worse: float = 1.5
    habituation: float = 0.2
    memory: int = 4000
    warm_up: int = 100
    tolerance: float = 1e-3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the detector holds of one point.

    score: in [0, 1]; at `DEFAULT_THRESHOLD` and above it is an alarm.
    surprise: minus the natural logarithm of the probability, combined over the signals.
    signals: the same of each signal that had enough to go by.
    """

    score: float
    surprise: float
    signals: dict[str, float]


class Judge:
    """Turns surprises into scores: which are worth an alarm, given the alarms there
    were.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        self.settings = settings
        self._since_alarm = 10**9
        self._alarm_level = 0.0
        self._load = 0.0  # alarms so far, fading

    @property
    def bar(self) -> float:
        """The surprise, in nats, at which the next point is an alarm."""
        return self.settings.threshold + self.settings.habituation * self._load

    def score(self, surprise: float) -> float:
        """The score of the next point, in [0, 1]."""
        settings = self.settings
        self._load *= math.exp(-1.0 / settings.memory)
        self._since_alarm += 1
        bar = self.bar
        score = surprise / (surprise + bar)
        if surprise < bar:
            return score
        resting = self._since_alarm < settings.refractory
        if resting and surprise < settings.worse * self._alarm_level:
            return min(score, DEFAULT_THRESHOLD) * 0.98
        if not resting:
            self._load += 1.0
        self._since_alarm, self._alarm_level = 0, surprise
        return score

    def state(self) -> dict[str, float]:
        return {
            "load": self._load,
            "alarm_level": self._alarm_level,
            "since_alarm": self._since_alarm,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._load, self._alarm_level = state["load"], state["alarm_level"]
        self._since_alarm = state["since_alarm"]


class Detector:
    """Scores a series point by point; never looks ahead.

    Each signal asks in its own way how far the newest point is from anything seen
    before: its value, the last 4 points, the last 16 in outline, how restless and how
    high the series has become, and the same hour of the last seven days. A `TailModel`
    per signal turns the distance into a surprise; their quadratic mean is the surprise
    of the point. An alarm is one spike: while the series stays as odd as it was, the
    score stays below the threshold, so a level shift alarms once and is then the new
    normal.

    >>> detector = Detector()
    >>> verdicts = [detector.update(60.0 * i, float(i % 7)) for i in range(400)]
    >>> max(v.score for v in verdicts) < DEFAULT_THRESHOLD <= detector.update(24_000.0, 50.0).score
    True

    Nearest neighbours as a measure of novelty: E. Burnaev, V. Ishimtsev, "Conformalized
    density- and distance-based anomaly detection in time-series data", 2016.
    """

    def __init__(self, settings: DetectorSettings | None = None) -> None:
        self._judge = Judge(settings or DetectorSettings())
        self._values = _Ring()
        self._outline = _Ring()  # means of four points
        self._times = _Ring()
        self._steps: deque[float] = deque(maxlen=12)  # squared first differences
        self._tails = {name: TailModel(self.settings.warm_up) for name in SIGNALS}
        self._size = 0.0  # running mean of |value|
        self._count = 0

    def update(
        self, time: float, value: float, others: Mapping[str, float] | None = None
    ) -> Verdict:
        """Score the next point: `time` in epoch seconds, not before the last; a value
        that is not finite scores 0.

        `others` are surprises, in nats, that other methods have of the point. The mean
        counts, each up to `ENOUGH`: methods that agree are sure. What only one of them
        finds odd must be twice as odd for each that it stands against.
        """
        if not math.isfinite(value):
            return Verdict(0.0, 0.0, {})
        value = min(max(value, -LARGEST), LARGEST)
        self._take(time, value)
        noise = self.settings.tolerance * self._size
        signals = {}
        for name, distance in self._distances(time, value).items():
            magnitude = max(distance, noise)
            tail = self._tails[name]
            signals[name] = min(tail.surprise(magnitude), CERTAIN)
            tail.observe(magnitude)
        surprise = math.sqrt(sum(s * s for s in signals.values()) / len(SIGNALS))
        weight = surprise
        if others:
            signals |= others
            votes = [surprise, *(ALONE * nats for nats in others.values())]
            most = ENOUGH * self._judge.bar
            agreed = sum(min(vote, most) for vote in votes) / len(votes)
            weight = max(agreed, max(votes) / 2 ** len(others))
            surprise = sum(votes) / len(votes)
        return Verdict(self._judge.score(weight), surprise, signals)

    @property
    def settings(self) -> DetectorSettings:
        return self._judge.settings

    @settings.setter
    def settings(self, settings: DetectorSettings) -> None:
        self._judge.settings = settings

    @property
    def values(self) -> NDArray[np.float64]:
        """The last values (up to `HISTORY`), oldest first; a view, not to be kept."""
        return self._values.all()

    @property
    def times(self) -> NDArray[np.float64]:
        """Their times."""
        return self._times.all()

    def state(self) -> dict[str, Any]:
        """All but the values themselves, as plain JSON; `restored` makes it whole again
        with them.
        """
        return {
            "tails": {name: tail.state() for name, tail in self._tails.items()},
            "size": self._size, "count": self._count, **self._judge.state(),
            "time": float(self._times.last(1)[0]) if self._times.length else None,
        }  # fmt: skip

    @staticmethod
    def restored(
        state: Mapping[str, Any],
        times: NDArray[np.float64],
        values: NDArray[np.float64],
        settings: DetectorSettings | None = None,
    ) -> "Detector":
        """The detector that `state` was taken of; `times` and `values` are the last (at
        least `HISTORY` + 12) that it had taken.
        """
        detector = Detector(settings)
        detector._times.fill(times)
        detector._values.fill(values)
        detector._outline.fill(
            np.array([values[max(0, i - 3) : i + 1].mean() for i in range(len(values))])
        )
        detector._steps.extend((np.diff(values[-13:]) ** 2).tolist())
        detector._tails = {name: TailModel.restored(tail) for name, tail in state["tails"].items()}
        detector._size, detector._count = state["size"], state["count"]
        detector._judge.restore(state)
        return detector

    def _take(self, time: float, value: float) -> None:
        values = self._values
        if values.length:
            step = value - float(values.last(1)[0])
            self._steps.append(step * step)
        values.push(value)
        self._outline.push(float(values.last(4).mean()))
        self._times.push(time)
        self._count += 1
        self._size += (abs(value) - self._size) / self._count

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
        season = self.at_this_time(time)
        if season is not None:
            distances["season"] = float(np.abs(season - value).min())
        return distances

    def at_this_time(self, time: float) -> NDArray[np.float64] | None:
        """The values at this time of day, and one point around it, on each of the last
        seven days that are remembered: a row each; None when there is none. The newest
        point is not among them.
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
    """Distance (root mean square) from the last four values, `stride` apart, to the
    nearest such four before them.
    """
    reach = 3 * stride
    end = len(series) - 4 * stride
    total: Any = 0.0
    for k in range(4):
        back = k * stride
        difference = series[reach - back : end - back] - series[-1 - back]
        total = total + difference * difference
    return math.sqrt(float(total.min()) / 4)


class _Ring:
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
    """Scores in [0, 1] of every point; alarms are those at or above
    `DEFAULT_THRESHOLD`.

    times: n times in order: epoch seconds, `datetime`s, `numpy.datetime64`s or ISO 8601
    strings. values: n numbers; what is not finite scores 0 and is otherwise passed
    over.

    Causal: the scores of a prefix are those of the whole. Raises ValueError when the
    lengths differ, or a time cannot be read.
    """
    return judged(surprises(times, values, settings), settings)


def surprises(
    times: ArrayLike | Sequence[Any], values: ArrayLike, settings: DetectorSettings | None = None
) -> NDArray[np.float64]:
    """The surprise of every point, in nats, before it is judged: what
    `AnomalyParameters` do not change. NaN where the value is not finite. Raises as
    `score_series` does.
    """
    moments = seconds(times)
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or moments.shape != numbers.shape:
        raise ValueError(
            f"times and values must be 1-D and equally long, not {moments.shape} and {numbers.shape}"
        )
    detector = Detector(settings)
    found = np.array(
        [
            detector.update(t, v).surprise
            for t, v in zip(moments.tolist(), numbers.tolist(), strict=True)
        ]
    )
    return np.where(np.isfinite(numbers), found, np.nan) if len(numbers) else np.zeros(0)


def judged(
    surprises: NDArray[np.float64], settings: DetectorSettings | None = None
) -> NDArray[np.float64]:
    """The scores of a whole series from its surprises; 0 where they are NaN."""
    judge = Judge(settings or DetectorSettings())
    return np.array([judge.score(s) if s == s else 0.0 for s in surprises.tolist()])
