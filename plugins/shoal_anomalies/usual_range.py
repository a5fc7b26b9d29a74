"""What to expect of a series without a fitted season: a range from its own past."""

import numpy as np
from numpy.typing import NDArray

from .detector import HISTORY

DAY = 86_400.0
NEARBY = 60  # points before
MIN_NEARBY = 12
MIN_DAYS = 3
MIN_SCALE = 1e-3  # of the centre
MAD_TO_SIGMA = 1.4826
MEAN_TO_SIGMA = 1.2533  # of the mean absolute deviation

_DAYS_BACK = DAY * np.arange(1, 8)
_AROUND = np.array([-1, 0, 1])


def usual_ranges(
    times: NDArray[np.float64], values: NDArray[np.float64], first: int = 0
) -> NDArray[np.float64]:
    """The range that each point is expected in, from the points before it.

    From the same time on the last 7 days (each with the points beside it), where at
    least 3 are known, else from the last 60 points: the median, and three robust
    standard deviations (median absolute deviation) around it. Of a series that was
    never negative, no range is.

    Args:
        times: Of n points, epoch seconds, ascending.
        values: Of the points.
        first: The first point to give the range of.

    Returns:
        Rows: the expected values, the lower and the upper ends, each (n - first), NaN
        where fewer than 12 points are known.
    """
    index = np.arange(first, len(times))
    ranges = np.full((3, len(index)), np.nan)
    past, enough = _past_values(times, values, index)
    if not enough.any():
        return ranges
    past = past[enough]
    centre = np.nanmedian(past, axis=1)
    deviations = np.abs(past - centre[:, None])
    scale = MAD_TO_SIGMA * np.nanmedian(deviations, axis=1)
    least = np.maximum(MIN_SCALE * np.abs(centre), 1e-9)
    wider = np.maximum(MEAN_TO_SIGMA * np.nanmean(deviations, axis=1), least)
    reach = 3 * np.where(scale < least, wider, scale)
    was_negative = (np.minimum.accumulate(values) < 0)[index - 1][enough]
    lower = np.where(was_negative, centre - reach, np.maximum(centre - reach, 0.0))
    ranges[:, enough] = centre, lower, centre + reach
    return ranges


def _past_values(
    times: NDArray[np.float64], values: NDArray[np.float64], index: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A row of values before each point, padded with NaN; whether they are enough."""
    nearby = index[:, None] + np.arange(-NEARBY, 0)
    past = np.where(nearby >= 0, values[nearby.clip(0)], np.nan)
    wanted = times[index][:, None] - _DAYS_BACK
    is_known = wanted >= times[(index - HISTORY + 1).clip(0)][:, None]
    around = times.searchsorted(wanted)[:, :, None] + _AROUND
    around = np.minimum(around, (index - 1)[:, None, None]).clip(0)
    days = np.where(is_known[:, :, None], values[around], np.nan).reshape(
        len(index), _AROUND.size * _DAYS_BACK.size
    )
    has_days = is_known.sum(axis=1) >= MIN_DAYS
    past[has_days] = np.nan
    past[has_days, : days.shape[1]] = days[has_days]
    return past, has_days | (index >= MIN_NEARBY)
