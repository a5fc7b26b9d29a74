"""One watched series in memory: its detector, its fitted season, and how it has been
lately.
"""

import logging
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from . import recent_points
from .detector import DEFAULT_THRESHOLD, HISTORY, Detector, DetectorSettings, Verdict
from .points import Labels, Point
from .seasonal import SeasonalModel
from .statistical import RollingZScore
from .tail_probability import TailModel

log = logging.getLogger("shoal.anomalies")

BAND = "band"
CALM = 0.6  # a surprise below this share of the threshold is calm
Z_WINDOW = 60
RECENT = 7_200.0  # seconds
FORMAT = 3  # version of the stored state
BACK = 10  # points within the range after which the alarm is forgotten
UNKNOWN = Verdict(0.0, 0.0, {})


@dataclass(slots=True)
class Watched:
    """`raw` is a counter's last reading. `since` is when the series left its usual
    range; None while it is in it.
    """

    id: str
    metric: str
    labels: Labels
    detector: Detector
    band_tail: TailModel = field(default_factory=TailModel)
    model: SeasonalModel | None = None
    raw: tuple[float, float] | None = None
    since: float | None = None
    alarm_range: tuple[float, float] | None = (
        None  # what was usual before the alarm; None while there is none
    )
    alarm_age: int = 0
    back: int = 0  # points since that were within it
    verdict: Verdict = UNKNOWN
    unsaved: int = 0

    @property
    def last(self) -> float:
        """Time of the last point scored; minus infinity before any."""
        times = self.detector.times
        return float(times[-1]) if len(times) else -math.inf

    def rate(self, point: Point) -> float | None:
        """A counter's rate per second since its last reading; None for the first. A
        counter that fell began again at 0.
        """
        time, before = point.time.timestamp(), self.raw
        if before and time <= before[0]:
            return None
        self.raw = (time, point.value)
        if before is None:
            return None
        grown = point.value - before[1] if point.value >= before[1] else point.value
        return grown / (time - before[0])

    def score(self, time: float, value: float, combination: float | None = None) -> Verdict:
        """Take the next point in. `combination` is how odd it is together with other
        metrics, in nats.
        """
        others = {} if combination is None else {"combination": combination}
        z = self.model.z(time, value) if self.model else None
        if z is not None:
            magnitude = abs(z) if abs(z) > 1 else 0.0
            others[BAND] = (
                self.band_tail.surprise(magnitude)
                if self.band_tail.count >= self.band_tail.warm_up
                else 0.0
            )
            self.band_tail.observe(magnitude)
        self.verdict = self.detector.update(time, value, others)
        if self.verdict.surprise < CALM * self.detector.settings.threshold:
            self.since = None
        elif self.since is None:
            self.since = time
        self._recover(time, value)
        self.unsaved += 1
        return self.verdict

    def _recover(self, time: float, value: float) -> None:
        """An alarm is over when the value is back in the range from before it (or in
        the season's band), or when the detector has taken it for the new normal.
        """
        if self.verdict.score >= DEFAULT_THRESHOLD and self.alarm_range is None:
            usual = self.usual_range()
            if usual:
                self.alarm_range, self.alarm_age = usual[1:], 0
        elif self.alarm_range is not None:
            self.alarm_age += 1
            band = self.band(time)
            inside = self.alarm_range[0] <= value <= self.alarm_range[1] or (
                band is not None and band[1] <= value <= band[2]
            )
            self.back = self.back + 1 if inside else 0
            if self.back >= BACK or self.alarm_age >= self.detector.settings.refractory:
                self.alarm_range, self.back = None, 0

    @property
    def calm(self) -> bool:
        """Whether the newest point is usual, by what was usual before the last alarm."""
        return self.alarm_range is None or self.back > 0

    def band(self, time: float) -> tuple[float, float, float] | None:
        """(expected, lower, upper) from the fitted season, or None without one."""
        if self.model is None:
            return None
        expected, lower, upper = (float(x[0]) for x in self.model.band(time))
        return (expected, lower, upper) if math.isfinite(expected) else None

    def usual(self, time: float) -> float | None:
        """What to compare a drop or a rise with: the season's value, where that knows
        the week; else that of a week before; else the season of the day, or the median
        of this time on the days before, or of the last two hours (twelve points at
        least). None while there is nothing of these.
        """
        band = self.band(time)
        if band and self.model and self.model.weekly:
            return band[0]
        days = self.detector.at_this_time(time)
        if days is not None and len(days) == 7:
            return float(np.median(days[-1]))
        if band:
            return band[0]
        if days is not None and len(days):
            return float(np.median(days))
        recent = self.detector.values[:-1][self.detector.times[:-1] >= time - RECENT]
        return float(np.median(recent)) if len(recent) >= 12 else None

    def _before(self) -> RollingZScore | None:
        """The statistical method on the values before the newest; None while they are
        too few.
        """
        values = self.detector.values[-Z_WINDOW - 1 : -1].tolist()
        if len(values) < 12:
            return None
        rolling = RollingZScore(Z_WINDOW)
        for value in values:
            rolling.push(value)
        return rolling

    def z(self) -> float | None:
        """The newest value's robust z against the values before it."""
        rolling = self._before()
        return rolling.update(float(self.detector.values[-1])) if rolling else None

    def usual_range(self) -> tuple[float, float, float] | None:
        """(centre, lower, upper) of the values before the newest: what to expect where
        no season is fitted.
        """
        rolling = self._before()
        if rolling is None:
            return None
        centre, scale = rolling.band()
        return centre, centre - 3 * scale, centre + 3 * scale

    def to_bytes(self) -> bytes:
        """All but the points, compressed; `restored` reads it back."""
        self.unsaved = 0
        state = {
            "version": FORMAT,
            "detector": self.detector.state(),
            "band": self.band_tail.state(),
            "since": self.since,
            "alarm": [self.alarm_range, self.alarm_age, self.back],
        }
        return zlib.compress(orjson.dumps(state), 1)


def restored(
    series: str,
    about: Mapping[str, Any],
    stored: bytes | None,
    blob: bytes | None,
    settings: DetectorSettings,
    model: SeasonalModel | None,
) -> Watched:
    """A series as it was: the saved state, and the points since then taken in again.

    A state that cannot be read, or of another version, is left out: then all recent
    points are taken in again.
    """
    records = recent_points.unpack(blob)
    records = records[~np.isnan(records["score"])]
    watched = Watched(series, about["metric"], about["labels"], Detector(settings), model=model)
    later = records
    if stored is not None:
        try:
            watched, later = _from_state(watched, stored, records)
        except Exception as error:  # whatever its bytes are, its points must be processed
            log.warning("state of %s cannot be read, points are replayed: %s", series, error)
    for record in later:
        watched.score(float(record["time"]), float(record["value"]))
    raw = about.get("raw")
    watched.raw = (raw[0], raw[1]) if raw else None
    return watched


def _from_state(
    fresh: Watched, stored: bytes, records: NDArray[np.void]
) -> tuple[Watched, NDArray[np.void]]:
    """The series with the stored state, and the records that came after it."""
    state = orjson.loads(zlib.decompress(stored))
    if state["version"] != FORMAT:
        raise ValueError(f"version {state['version']}, not {FORMAT}")
    upto = state["detector"]["time"]
    known = records["time"] <= upto if upto is not None else np.zeros(len(records), bool)
    past = records[known][-HISTORY - 12 :]
    if not len(past):
        return fresh, records
    detector = Detector.restored(
        state["detector"], past["time"].copy(), past["value"].copy(), fresh.detector.settings
    )
    interval, alarm_age, back = state["alarm"]
    watched = replace(
        fresh,
        detector=detector,
        band_tail=TailModel.restored(state["band"]),
        since=state["since"],
        alarm_range=(interval[0], interval[1]) if interval else None,
        alarm_age=alarm_age,
        back=back,
    )
    return watched, records[~known]


def when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
