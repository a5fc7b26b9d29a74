"""One series in memory: its detector, its fitted season, and its last alarm."""

import logging
import math
import zlib
from dataclasses import dataclass, field, replace

import numpy as np
import orjson
from numpy.typing import NDArray

from . import recent_points
from .alarm_policy import CALM, DEFAULT_THRESHOLD, DetectorSettings
from .detector import HISTORY, Detector, Verdict
from .points import Kind, Labels
from .readings import CounterReadings
from .seasonal_model import SeasonalModel
from .statistical import RollingZScore
from .stored_series import StoredSeries
from .tail_probability import TailModel
from .usual_range import usual_ranges

log = logging.getLogger("shoal.anomalies")

FORMAT = 5  # version of the stored state
BAND = "band"  # the signal of the fitted season
Z_WINDOW = 60  # points
MIN_VALUES = 12
RECENT = 7_200.0  # seconds
RECOVERY = 3_000.0  # seconds in range after which an alarm is over
NO_VERDICT = Verdict(0.0, 0.0, {})


@dataclass(slots=True)
class SeriesState:
    """The state of one series.

    band_tail: tail of the distances from the fitted season.
    readings: of a counter.
    corrected: the values now stored of points that were scored with another one, by
        their time.
    unusual_since: epoch seconds when the series left its usual range; None within it.
    alarm_range: the usual range before the last alarm; None once that is over.
    alarm_time: epoch seconds of that alarm.
    in_range_since: epoch seconds from when on all points were within `alarm_range`;
        None if the newest is not.
    verdict: on the newest point.
    unsaved_points: points since the state was last stored.
    """

    id: str
    metric: str
    labels: Labels
    detector: Detector
    band_tail: TailModel = field(default_factory=TailModel)
    model: SeasonalModel | None = None
    readings: CounterReadings = field(default_factory=CounterReadings)
    corrected: dict[float, float] = field(default_factory=dict)
    unusual_since: float | None = None
    alarm_range: tuple[float, float] | None = None
    alarm_time: float = 0.0
    in_range_since: float | None = None
    verdict: Verdict = NO_VERDICT
    unsaved_points: int = 0
    kind: Kind = "gauge"

    @property
    def last_time(self) -> float:
        """Epoch seconds of the last scored point; minus infinity before any."""
        times = self.detector.times
        return float(times[-1]) if len(times) else -math.inf

    def index_of(self, time: float) -> int | None:
        """The index of the scored point at this time; None if there is none."""
        times = self.detector.times
        index = int(np.searchsorted(times, time))
        return index if index < len(times) and times[index] == time else None

    def correct(self, time: float, value: float) -> bool:
        """Take in a value that is not newer than the series.

        Returns:
            Whether it has to be stored: it is late, or not the value of its time.
        """
        index, times = self.index_of(time), self.detector.times
        if index is None:
            return True
        if value == self.corrected.get(time, float(self.detector.values[index])):
            return False
        self.corrected[time] = value
        if len(self.corrected) > len(times):
            self.corrected = {t: v for t, v in self.corrected.items() if t >= times[0]}
        return True

    def score(self, time: float, value: float, combination: float | None = None) -> Verdict:
        """Score the next point.

        A state that cannot score it is forgotten: the series begins anew.

        Args:
            time: Epoch seconds.
            value: The value, or a counter's rate.
            combination: Surprisal of the combination with other metrics, in nats.
        """
        try:
            self._score(time, value, combination)
        except Exception:  # a broken series must not stop the others
            log.exception("series %s cannot score its point, and begins anew", self.id)
            self._forget()
            self.detector.update(time, value)
        self.unsaved_points += 1
        return self.verdict

    def _forget(self) -> None:
        self.detector = Detector(self.detector.settings)
        self.band_tail, self.model, self.verdict = TailModel(), None, NO_VERDICT
        self.unusual_since = self.alarm_range = self.in_range_since = None

    def _score(self, time: float, value: float, combination: float | None) -> None:
        others = {} if combination is None else {"combination": combination}
        z = self.model.z(time, value) if self.model else None
        if z is not None:
            magnitude = abs(z) if abs(z) > 1 else 0.0
            others[BAND] = self.band_tail.surprisal(magnitude, self.detector.values_needed)
            self.band_tail.observe(magnitude)
        self.verdict = self.detector.update(time, value, others)
        if self.verdict.surprisal < CALM * self.detector.settings.threshold:
            self.unusual_since = None
        elif self.unusual_since is None:
            self.unusual_since = time
        self._update_alarm(time, value)

    def _update_alarm(self, time: float, value: float) -> None:
        """Begin or end an alarm.

        It ends when the value is back in the range from before it (or in the season's
        band), or when the detector has accepted a new normal.
        """
        if self.verdict.score >= DEFAULT_THRESHOLD and self.alarm_range is None:
            usual = self.usual_range()
            if usual:
                self.alarm_range, self.alarm_time = usual[1:], time
                self.in_range_since = None
        elif self.alarm_range is not None:
            band = self.band(time)
            inside = self.alarm_range[0] <= value <= self.alarm_range[1] or (
                band is not None and band[1] <= value <= band[2]
            )
            if not inside:
                self.in_range_since = None
            elif self.in_range_since is None:
                self.in_range_since = time
            recovered = self.in_range_since is not None and time - self.in_range_since >= RECOVERY
            if recovered or time - self.alarm_time >= self.detector.settings.hold:
                self.alarm_range = self.in_range_since = None

    @property
    def is_calm(self) -> bool:
        """Whether the newest point is in the usual range from before the last alarm."""
        return self.alarm_range is None or self.in_range_since is not None

    def band(self, time: float) -> tuple[float, float, float] | None:
        """(expected, lower, upper) from the fitted season; None without one."""
        if self.model is None:
            return None
        expected, lower, upper = (float(x[0]) for x in self.model.band(time))
        return (expected, lower, upper) if math.isfinite(expected) else None

    def expected_range(self, time: float) -> tuple[float, float, float] | None:
        """(expected, lower, upper) of the newest point; None with too few before it.

        By the fitted season, else by `usual_ranges`.

        Args:
            time: Of the newest point, epoch seconds.
        """
        if band := self.band(time):
            return band
        times, values = self.detector.times, self.detector.values
        expected, lower, upper = usual_ranges(times, values, len(times) - 1)[:, 0].tolist()
        return (expected, lower, upper) if math.isfinite(expected) else None

    def expected_value(self, time: float, value: float) -> float | None:
        """What to compare a value with for a drop or a rise; None while there is none.

        In this order: the season of the week; the same time a week before; the season
        of the day; the median of the same time on the days before; the median of the
        last two hours (of twelve points at least).
        """
        band = self.band(time)
        if band and self.model and self.model.weekly:
            return self.model.expected_near(time, value)
        days = self.detector.same_time_values(time)
        if days is not None and len(days) == 7:
            return float(np.median(days[-1]))
        if band and self.model:
            return self.model.expected_near(time, value)
        if days is not None and len(days):
            return float(np.median(days))
        recent = self.detector.values[:-1][self.detector.times[:-1] >= time - RECENT]
        return float(np.median(recent)) if len(recent) >= MIN_VALUES else None

    def _rolling_before(self) -> RollingZScore | None:
        """The statistical method on the values before the newest; None if too few."""
        values = self.detector.values[-Z_WINDOW - 1 : -1].tolist()
        if len(values) < MIN_VALUES:
            return None
        rolling = RollingZScore(Z_WINDOW)
        for value in values:
            rolling.push(value)
        return rolling

    def z(self) -> float | None:
        """Robust z-score of the newest value against the values before it."""
        rolling = self._rolling_before()
        return rolling.update(float(self.detector.values[-1])) if rolling else None

    def usual_range(self) -> tuple[float, float, float] | None:
        """(centre, lower, upper) of the values before the newest; None if too few."""
        rolling = self._rolling_before()
        if rolling is None:
            return None
        centre, scale = rolling.band()
        return centre, centre - 3 * scale, centre + 3 * scale

    def to_bytes(self) -> bytes:
        """Everything but the points, as compressed JSON; see `restore_series`."""
        state = {
            "version": FORMAT,
            "detector": self.detector.state(),
            "band_tail": self.band_tail.state(),
            "unusual_since": self.unusual_since,
            "alarm_range": self.alarm_range,
            "alarm_time": self.alarm_time,
            "in_range_since": self.in_range_since,
        }
        return zlib.compress(orjson.dumps(state), 1)


def restore_series(
    series: str,
    info: StoredSeries,
    stored: bytes | None,
    packed: bytes | None,
    readings: bytes | None,
    settings: DetectorSettings,
    model: SeasonalModel | None,
) -> SeriesState:
    """Restore a series from its stored state, and score the points since then again.

    Without a state, or with one that cannot be read or has another version, all recent
    points are scored again.

    Args:
        series: The id of the series.
        info: The series.
        stored: The result of `SeriesState.to_bytes`.
        packed: The recent points.
        readings: A counter's readings, as `CounterReadings.to_bytes` gave them.
        settings: The settings of the detector.
        model: The fitted season.
    """
    records = recent_points.unpack(packed)
    is_scored = ~np.isnan(records["score"])
    corrections, records = records[~is_scored], records[is_scored]
    state = SeriesState(
        series, info.metric, info.labels, Detector(settings), model=model, kind=info.kind
    )
    unscored = records
    if stored is not None:
        try:
            state, unscored = _apply_stored(state, stored, records)
        except Exception as error:  # the points must be processed, whatever is stored
            log.warning("state of series %s is unreadable, replaying points: %s", series, error)
    for record in unscored:
        state.score(float(record["time"]), float(record["value"]))
    state.readings = CounterReadings.from_bytes(readings)
    for record in corrections:
        state.correct(float(record["time"]), float(record["value"]))
    return state


def _apply_stored(
    empty: SeriesState, stored: bytes, records: NDArray[np.void]
) -> tuple[SeriesState, NDArray[np.void]]:
    """The series in its stored state, and the records after it."""
    saved = orjson.loads(zlib.decompress(stored))
    if saved["version"] != FORMAT:
        raise ValueError(f"version {saved['version']}, not {FORMAT}")
    last_time = saved["detector"]["time"]
    if last_time is None:
        return empty, records
    scored = records["time"] <= last_time
    past = records[scored][-HISTORY - 12 :]
    if not len(past):
        return empty, records
    detector = Detector.from_state(
        saved["detector"], past["time"].copy(), past["value"].copy(), empty.detector.settings
    )
    since, alarm_range = saved["unusual_since"], saved["alarm_range"]
    in_range_since = saved["in_range_since"]
    state = replace(
        empty,
        detector=detector,
        band_tail=TailModel.from_state(saved["band_tail"]),
        unusual_since=None if since is None else float(since),
        alarm_range=None if alarm_range is None else (float(alarm_range[0]), float(alarm_range[1])),
        alarm_time=float(saved["alarm_time"]),
        in_range_since=None if in_range_since is None else float(in_range_since),
    )
    return state, records[~scored]
