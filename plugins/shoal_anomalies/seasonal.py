"""The seasonal method: what is expected at this hour of the week, and within which
band.

Models are fitted at night from up to 90 days; scoring a point is a look-up in the
fitted table.
"""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from .statistical import MAD_TO_SIGMA
from .timestamps import seconds

Method = Literal["stl", "prophet"]

FORMAT = 1  # version of the stored form
DAY = 86_400
WEEK = 7 * DAY
HISTORY_DAYS = 90
FEW = 4  # cycles under which a season is smoothed
BAND = 3.0  # half the band's width, in scales
OUTLIER = 6.0  # scales from which a slot is unlike those of other cycles
SPELL = 18  # hours: what lasts longer is no outage but how things are now
HORIZON_DAYS = 8  # how far ahead a Prophet table reaches: a week and a missed night


class TooShort(ValueError):
    """There is less history than the method needs; the message says how much."""


@dataclass(frozen=True, slots=True)
class SeasonalModel:
    """A fitted table of expected values.

    start: epoch seconds of the first slot (for a periodic table: of a slot at the same
    place in its period). step: seconds per slot. expected, scale: per slot, in the
    series' unit; every scale is above 0. periodic: the table repeats for ever (STL);
    otherwise it covers its own time only (Prophet). slope: what the expected value
    gains per second after `fitted_to`, faded out over a week.
    """

    method: Method
    start: float
    step: float
    expected: NDArray[np.float64]
    scale: NDArray[np.float64]
    periodic: bool
    fitted_to: float
    slope: float = 0.0

    @property
    def weekly(self) -> bool:
        """Whether the days of the week are told apart (of a Prophet table, whether it
        is long enough to).
        """
        return len(self.expected) * self.step >= WEEK

    def band(
        self, times: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(expected, lower, upper) at each time; NaN where a table that does not repeat
        has no slot.
        """
        moments = np.atleast_1d(seconds(times))
        expected, scale = self._look_up(moments)
        return expected, expected - BAND * scale, expected + BAND * scale

    def z(self, time: float, value: float) -> float | None:
        """Signed distance from the expected value in scales; None where the table has
        no slot for the time.
        """
        expected, scale = self._look_up(np.array([time]))
        score = (value - float(expected[0])) / float(scale[0])
        return score if math.isfinite(score) else None

    def _look_up(
        self, moments: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        place = (moments - self.start) / self.step - 0.5  # slots stand for their middles
        low = np.floor(place).astype(np.int64)
        part = place - low
        count = len(self.expected)
        known = np.ones(len(moments), bool)
        if not self.periodic:
            known = (place >= -0.5) & (place <= count - 0.5)
        first, second = (low % count, (low + 1) % count) if self.periodic else (
            np.clip(low, 0, count - 1), np.clip(low + 1, 0, count - 1)
        )  # fmt: skip
        expected = self.expected[first] * (1 - part) + self.expected[second] * part
        scale = np.maximum(self.scale[first], self.scale[second])
        ahead = np.maximum(moments - self.fitted_to, 0.0)
        expected = expected + self.slope * WEEK * (1 - np.exp(-ahead / WEEK))
        return np.where(known, expected, np.nan), np.where(known, scale, np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `from_dict` is the inverse (values to 7 significant digits)."""
        return {
            "version": FORMAT,
            "method": self.method,
            "start": self.start,
            "step": self.step,
            "periodic": self.periodic,
            "fitted_to": self.fitted_to,
            "slope": self.slope,
            "expected": [float(f"{x:.7g}") for x in self.expected],
            "scale": [float(f"{x:.7g}") for x in self.scale],
        }

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "SeasonalModel":
        """The model that `to_dict` describes.

        Raises:
            ValueError: It is of another version, or describes none.
        """
        if record.get("version") != FORMAT:
            raise ValueError(f"version {record.get('version')}, not {FORMAT}")
        try:
            model = SeasonalModel(
                method=record["method"],
                start=float(record["start"]),
                step=float(record["step"]),
                expected=np.array(record["expected"], dtype=np.float64),
                scale=np.array(record["scale"], dtype=np.float64),
                periodic=bool(record["periodic"]),
                fitted_to=float(record["fitted_to"]),
                slope=float(record["slope"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a season: {type(error).__name__}: {error}") from error
        model._validate()
        return model

    @staticmethod
    def from_bytes(stored: bytes) -> "SeasonalModel":
        """The model whose `to_dict` is stored as JSON.

        Raises:
            ValueError: The bytes are damaged, of another version, or no season.
        """
        record = orjson.loads(stored)
        if not isinstance(record, dict):
            raise ValueError("not a season: not an object")
        return SeasonalModel.from_dict(record)

    def _validate(self) -> None:
        if self.expected.ndim != 1 or not len(self.expected):
            raise ValueError("a season has at least one slot")
        if self.scale.shape != self.expected.shape:
            raise ValueError("a season has one scale per slot")
        table = np.concatenate([self.expected, self.scale, [self.start, self.fitted_to]])
        if not np.isfinite(table).all() or not math.isfinite(self.slope):
            raise ValueError("a season has finite numbers only")
        if not 0 < self.step < math.inf or self.scale.min() <= 0:
            raise ValueError("the step and the scales of a season are above 0")


def fit(
    times: ArrayLike,
    values: ArrayLike,
    method: Method = "stl",
    *,
    holidays: str | None = None,
    tolerance: float = 1e-3,
) -> SeasonalModel:
    """Fit a season to n times (any form that `clock.seconds` reads) and n values, of
    which those not finite are left out.

    Only the last 90 days count. STL needs two days (then it learns the day) or two
    weeks (then the week as well); Prophet needs the same. `holidays` is a country's
    code, for Prophet. Raises TooShort, or ValueError for other faults.
    """
    moments, numbers = seconds(times), np.asarray(values, dtype=np.float64)
    if moments.shape != numbers.shape or numbers.ndim != 1:
        raise ValueError("times and values must be 1-D and equally long")
    keep = np.isfinite(numbers)
    if keep.any():
        keep &= moments > moments[keep].max() - HISTORY_DAYS * DAY
    moments, numbers = moments[keep], numbers[keep]
    if len(moments) < 24 or moments.max() - moments.min() < 2 * DAY - 2 * np.median(
        np.diff(np.sort(moments))
    ):
        raise TooShort("a season needs at least two days of history")
    order = np.argsort(moments, kind="stable")
    moments, numbers = moments[order], numbers[order]
    floor = max(tolerance * float(np.median(np.abs(numbers))), 1e-9)
    if method == "prophet":
        return _fit_prophet(moments, numbers, holidays, floor)
    return _fit_stl(moments, numbers, floor)


def _slots(
    moments: NDArray[np.float64], numbers: NDArray[np.float64], step: float
) -> tuple[float, NDArray[np.float64]]:
    """(start, mean per slot): regular, gaps filled from the same slot of other weeks
    (or days), then linearly.
    """
    start = math.floor(moments[0] / DAY) * DAY
    place = ((moments - start) // step).astype(np.int64)
    count = int(place[-1]) + 1
    total = np.bincount(place, numbers, count)
    seen = np.bincount(place, minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / seen
    first = int(place[0])
    cycle = round((WEEK if count * step >= 2 * WEEK else DAY) / step)
    gaps = np.flatnonzero(np.isnan(mean[first:])) + first
    if len(gaps):
        phase = np.arange(count) % cycle
        typical = np.array([_median(mean[phase == k]) for k in range(cycle)])
        mean[gaps] = typical[phase[gaps]]
        missing = np.isnan(mean)
        missing[:first] = False
        known = ~np.isnan(mean)
        mean[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(known), mean[known])
    # A slot stands for the mean time of its points: of hourly points, that is not its
    # middle.
    offset = float(((moments - start) % step).mean()) - step / 2
    return start + first * step + offset, mean[first:]


def _typical(slots: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """Of each slot, the median of the slots at its place in the cycles; of few cycles,
    in the others.
    """
    count = len(slots)
    cycles = -(-count // period)
    padded = np.full(cycles * period, np.nan)
    padded[:count] = slots
    grid = padded.reshape(cycles, period)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a place that only one cycle has
        if cycles > 2 * FEW:
            typical = np.tile(np.nanmedian(grid, axis=0), cycles)
        else:
            typical = np.concatenate(
                [np.nanmedian(np.delete(grid, k, axis=0), axis=0) for k in range(cycles)]
            )
    found = typical[:count]
    return np.where(np.isnan(found), slots, found)


def _without_outages(slots: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """The slots (two weeks at least), with what happened once put back to what is
    usual: else the next week is expected to have it again.

    A spell is left out where it is unlike the same time in the other weeks and unlike
    the same time on the other days, and lasts no longer than `SPELL`. A shift that
    stays is how things are now, and is kept.
    """
    from scipy.ndimage import median_filter

    day, week = round(DAY / step), round(WEEK / step)
    level = median_filter(slots, size=week + 1, mode="reflect")  # some hours do not move it
    around = slots - level
    by_week, by_day = around - _typical(around, week), around - _typical(around, day)
    odd = np.minimum(
        np.abs(by_week) / (_sigma(by_week) or 1e-9), np.abs(by_day) / (_sigma(by_day) or 1e-9)
    )
    clean = slots.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (odd > OUTLIER).astype(int), [0]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if (end - begin) * step <= SPELL * 3600:
            first, last = (
                max(begin - 1, 0),
                min(end + 1, len(slots)),
            )  # the slots in which it began and ended
            clean[first:last] = (level + around - by_week)[first:last]
    return clean


def _median(numbers: NDArray[np.float64]) -> float:
    known = numbers[~np.isnan(numbers)]
    return float(np.median(known)) if len(known) else math.nan


def _fit_stl(
    moments: NDArray[np.float64], numbers: NDArray[np.float64], floor: float
) -> SeasonalModel:
    from statsmodels.tsa.seasonal import STL

    typical = float(np.median(np.diff(moments)))
    step = 900.0 if typical <= 900 else 3600.0
    start, slots = _slots(moments, numbers, step)
    day, week = round(DAY / step), round(WEEK / step)
    weekly = len(slots) >= 2 * week
    if weekly:
        slots = _without_outages(slots, step)
    parts = STL(slots, period=day, robust=not weekly, **_jumps(day)).fit()
    season = np.asarray(parts.seasonal)
    if weekly:  # what MSTL does in one pass, with jumps to suit each period
        parts = STL(slots - season, period=week, **_jumps(week)).fit()
        season = season + np.asarray(parts.seasonal)
    trend = np.asarray(parts.trend)
    period = week if weekly else day
    cycles = len(slots) // period
    if cycles < FEW:  # so few days are mostly noise, which would be learned as if it came again
        season = _smoothed(season[-period:], max(day // 12, 3))[
            (np.arange(len(slots)) - len(slots)) % period
        ]
        trend = np.full(len(slots), np.median(slots - season))
    # Against the cycle that will be looked up, and of single points: what was averaged
    # away or fitted away comes back tomorrow.
    last = np.arange(len(slots) - period, len(slots))
    cycle = np.empty(period)
    cycle[last % period] = season[last]
    residual = slots - trend - cycle[np.arange(len(slots)) % period]
    place = np.clip(((moments - start) // step).astype(np.int64), 0, len(slots) - 1)
    single = numbers - trend[place] - cycle[place % period]
    level = float(np.median((slots - season)[-day:]))
    spread = (
        _spread_by_slot(residual, period)
        * max(_sigma(single), floor)
        * math.sqrt(cycles / max(cycles - 1, 1))
    )
    slope = 0.0
    if weekly:
        slope = float(np.median(trend[-day:]) - np.median(trend[-week - day : -week])) / WEEK
        if abs(slope) * WEEK < _sigma(residual):
            slope = 0.0
    return SeasonalModel(
        "stl",
        start,
        step,
        cycle + level,
        np.maximum(spread, floor),
        True,
        float(moments[-1]),
        slope,
    )


def _jumps(period: int) -> dict[str, int]:
    """A tenth of a period between the points at which LOESS is computed: a twentieth of
    the time for nearly the same curve.
    """
    jump = max(1, period // 10)
    return {"seasonal_jump": 1, "trend_jump": jump, "low_pass_jump": jump}


def _smoothed(cycle: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Running means around one cycle."""
    half = width // 2
    wide = np.concatenate([cycle[-half:], cycle, cycle[:half]])
    return np.convolve(wide, np.ones(2 * half + 1) / (2 * half + 1), "valid")


def _sigma(numbers: NDArray[np.float64]) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(numbers - np.median(numbers))))


def _spread_by_slot(residual: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """How the spread in each slot of the period compares with the whole's, half of the
    way from 1: nights are calmer than noons.
    """
    count = len(residual)
    cycles = count // period
    grid = np.abs(residual[count - cycles * period :]).reshape(cycles, period)
    grid = np.roll(grid, (count - cycles * period) % period, axis=1)
    reach = max(1, period // 48)
    own = MAD_TO_SIGMA * np.median(
        np.concatenate([np.roll(grid, k, axis=1) for k in range(-reach, reach + 1)]), axis=0
    )
    whole = _sigma(residual) or 1.0
    return np.asarray(np.sqrt((np.minimum(own / whole, 10.0) ** 2 + 1) / 2))


def _fit_prophet(
    moments: NDArray[np.float64], numbers: NDArray[np.float64], holidays: str | None, floor: float
) -> SeasonalModel:
    import pandas as pd
    from prophet import Prophet

    logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
    logging.getLogger("prophet").setLevel(logging.ERROR)
    step = 3600.0
    start, slots = _slots(moments, numbers, step)
    if not holidays and len(slots) * step >= 2 * WEEK:  # a holiday happens once as well
        slots = _without_outages(slots, step)
    stamps = start + (np.arange(len(slots)) + 0.5) * step
    frame = pd.DataFrame({"ds": pd.to_datetime(stamps, unit="s"), "y": slots})
    model = Prophet(
        daily_seasonality=True, weekly_seasonality=len(slots) >= 2 * 7 * 24, yearly_seasonality=False, interval_width=0.95,
        uncertainty_samples=0,
    )  # fmt: skip
    if holidays:
        model.add_country_holidays(holidays)
    model.fit(frame)
    residual = slots - model.predict(frame)["yhat"].to_numpy()
    place = np.clip(((moments - start) // step).astype(np.int64), 0, len(slots) - 1)
    scale = max(_sigma(residual), _sigma(numbers - (slots - residual)[place]), floor)
    begin = start + math.floor((moments[-1] - start) / step) * step
    ahead = begin + (np.arange(HORIZON_DAYS * 24) + 0.5) * step
    expected = model.predict(pd.DataFrame({"ds": pd.to_datetime(ahead, unit="s")}))[
        "yhat"
    ].to_numpy()
    return SeasonalModel(
        "prophet", begin, step, expected, np.full(len(expected), scale), False, float(moments[-1])
    )


def fit_all(
    series: Sequence[tuple[ArrayLike, ArrayLike]], method: Method = "stl"
) -> list[SeasonalModel | None]:
    """`fit` for many series; None where one has too little history."""
    fitted: list[SeasonalModel | None] = []
    for times, values in series:
        try:
            fitted.append(fit(times, values, method))
        except TooShort:
            fitted.append(None)
    return fitted
