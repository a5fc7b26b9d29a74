"""The seasonal method: fits the expected value and its band at each hour of the week.

Models are fitted at night to up to 90 days; scoring a point is a look-up in the fitted
table.
"""

import logging
import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .seasonal_model import DAY, WEEK, Method, SeasonalModel
from .statistical import MAD_TO_SIGMA
from .timestamps import epoch_seconds

HISTORY_DAYS = 90
MIN_POINTS = 24
FEW_CYCLES = 4  # a season of fewer is smoothed
OUTLIER = 6.0  # scales at which a slot differs from those of other cycles
MAX_OUTAGE = 18  # hours; a longer one is a new level
HORIZON_DAYS = 8  # how far ahead a Prophet table reaches: a week and a missed night


class TooShort(ValueError):
    """There is less history than the method needs."""


def fit(
    times: ArrayLike,
    values: ArrayLike,
    method: Method = "stl",
    *,
    holidays: str | None = None,
    tolerance: float = 1e-3,
) -> SeasonalModel:
    """Fit a season to the last 90 days of a series.

    From two days of history on, the season of the day is fitted; from two weeks on, the
    season of the week as well.

    Args:
        times: n times that `epoch_seconds` reads, in any order.
        values: n numbers; those that are not finite are left out.
        method: STL or Prophet.
        holidays: The code of a country whose holidays Prophet takes into account.
        tolerance: Deviations below this share of the median magnitude are noise.

    Raises:
        TooShort: There are less than two days of history.
        ValueError: The lengths differ, or a time cannot be read.
    """
    seconds, numbers = epoch_seconds(times), np.asarray(values, dtype=np.float64)
    if seconds.shape != numbers.shape or numbers.ndim != 1:
        raise ValueError("times and values must be 1-D and equally long")
    keep = np.isfinite(numbers)
    if keep.any():
        keep &= seconds > seconds[keep].max() - HISTORY_DAYS * DAY
    seconds, numbers = seconds[keep], numbers[keep]
    order = np.argsort(seconds, kind="stable")
    seconds, numbers = seconds[order], numbers[order]
    step = np.median(np.diff(seconds)) if len(seconds) > 1 else 0.0
    if len(seconds) < MIN_POINTS or seconds[-1] - seconds[0] < 2 * DAY - 2 * step:
        raise TooShort("a season needs at least two days of history")
    floor = max(tolerance * float(np.median(np.abs(numbers))), 1e-9)
    if method == "prophet":
        return _fit_prophet(seconds, numbers, holidays, floor)
    return _fit_stl(seconds, numbers, floor)


def _slots(
    seconds: NDArray[np.float64], numbers: NDArray[np.float64], step: float
) -> tuple[float, NDArray[np.float64]]:
    """Means per slot, at regular times.

    Gaps are filled from the same slot of other weeks (or days), then linearly.

    Returns:
        Epoch seconds of the first slot, and the mean of each.
    """
    start = math.floor(seconds[0] / DAY) * DAY
    place = ((seconds - start) // step).astype(np.int64)
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
    offset = float(((seconds - start) % step).mean()) - step / 2
    return start + first * step + offset, mean[first:]


def _typical(slots: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """For each slot, the median of the slots at its place in all cycles.

    With few cycles, its own is left out.
    """
    count = len(slots)
    cycles = -(-count // period)
    padded = np.full(cycles * period, np.nan)
    padded[:count] = slots
    grid = padded.reshape(cycles, period)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a slot that only one cycle has
        if cycles > 2 * FEW_CYCLES:
            typical = np.tile(np.nanmedian(grid, axis=0), cycles)
        else:
            typical = np.concatenate(
                [np.nanmedian(np.delete(grid, k, axis=0), axis=0) for k in range(cycles)]
            )
    found = typical[:count]
    return np.where(np.isnan(found), slots, found)


def _without_outages(slots: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Replace outages by usual values, so that they are not expected to recur.

    An outage differs from the same time in the other weeks and from the same time on
    the other days, and lasts at most `MAX_OUTAGE`. A lasting shift is a new level and
    stays. There must be at least two weeks of slots.
    """
    from scipy.ndimage import median_filter

    day, week = round(DAY / step), round(WEEK / step)
    level = median_filter(slots, size=week + 1, mode="reflect")  # a few hours do not change it
    around = slots - level
    by_week, by_day = around - _typical(around, week), around - _typical(around, day)
    deviation = np.minimum(
        np.abs(by_week) / (_sigma(by_week) or 1e-9), np.abs(by_day) / (_sigma(by_day) or 1e-9)
    )
    clean = slots.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (deviation > OUTLIER).astype(int), [0]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if (end - begin) * step <= MAX_OUTAGE * 3600:
            # Also the slots in which it began and ended.
            first, last = max(begin - 1, 0), min(end + 1, len(slots))
            clean[first:last] = (level + around - by_week)[first:last]
    return clean


def _median(numbers: NDArray[np.float64]) -> float:
    known = numbers[~np.isnan(numbers)]
    return float(np.median(known)) if len(known) else math.nan


def _fit_stl(
    seconds: NDArray[np.float64], numbers: NDArray[np.float64], floor: float
) -> SeasonalModel:
    from statsmodels.tsa.seasonal import STL

    typical = float(np.median(np.diff(seconds)))
    step = 900.0 if typical <= 900 else 3600.0
    start, slots = _slots(seconds, numbers, step)
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
    reach = 0
    if cycles < FEW_CYCLES:  # else their noise would be taken for a season
        reach = max(day // 12, 3) // 2
        season = _smoothed(season[-period:], reach)[(np.arange(len(slots)) - len(slots)) % period]
        trend = np.full(len(slots), np.median(slots - season))
    # Residuals of single points against the cycle that will be looked up: noise that
    # was averaged or fitted away is back in tomorrow's points.
    last = np.arange(len(slots) - period, len(slots))
    cycle = np.empty(period)
    cycle[last % period] = season[last]
    residual = slots - trend - cycle[np.arange(len(slots)) % period]
    place = np.clip(((seconds - start) // step).astype(np.int64), 0, len(slots) - 1)
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
        float(seconds[-1]),
        slope,
        reach * step,
    )


def _jumps(period: int) -> dict[str, int]:
    # LOESS at ten points of a period instead of each gives nearly the same curve.
    jump = max(1, period // 10)
    return {"seasonal_jump": 1, "trend_jump": jump, "low_pass_jump": jump}


def _smoothed(cycle: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Running means around one cycle, over `half` slots to both sides."""
    wide = np.concatenate([cycle[-half:], cycle, cycle[:half]])
    return np.convolve(wide, np.ones(2 * half + 1) / (2 * half + 1), "valid")


def _sigma(numbers: NDArray[np.float64]) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(numbers - np.median(numbers))))


def _spread_by_slot(residual: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """Spread of each slot relative to that of the whole, shrunk half way to 1."""
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
    seconds: NDArray[np.float64], numbers: NDArray[np.float64], holidays: str | None, floor: float
) -> SeasonalModel:
    import pandas as pd
    from prophet import Prophet

    logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
    logging.getLogger("prophet").setLevel(logging.ERROR)
    step = 3600.0
    start, slots = _slots(seconds, numbers, step)
    if not holidays and len(slots) * step >= 2 * WEEK:  # holidays look like outages
        slots = _without_outages(slots, step)
    stamps = start + (np.arange(len(slots)) + 0.5) * step
    frame = pd.DataFrame({"ds": pd.to_datetime(stamps, unit="s"), "y": slots})
    model = Prophet(
        daily_seasonality=True,
        weekly_seasonality=len(slots) >= 2 * 7 * 24,
        yearly_seasonality=False,
        interval_width=0.95,
        uncertainty_samples=0,
    )
    if holidays:
        model.add_country_holidays(holidays)
    model.fit(frame)
    residual = slots - model.predict(frame)["yhat"].to_numpy()
    place = np.clip(((seconds - start) // step).astype(np.int64), 0, len(slots) - 1)
    scale = max(_sigma(residual), _sigma(numbers - (slots - residual)[place]), floor)
    begin = start + math.floor((seconds[-1] - start) / step) * step
    ahead = begin + (np.arange(HORIZON_DAYS * 24) + 0.5) * step
    expected = model.predict(pd.DataFrame({"ds": pd.to_datetime(ahead, unit="s")}))[
        "yhat"
    ].to_numpy()
    return SeasonalModel(
        "prophet", begin, step, expected, np.full(len(expected), scale), False, float(seconds[-1])
    )
