"""The fitted model of the seasonal method: a table of expected values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from .timestamps import epoch_seconds

Method = Literal["stl", "prophet"]

FORMAT = 2  # version of the stored form
DAY = 86_400
WEEK = 7 * DAY
BAND = 3.0  # half the width of the band, in scales


@dataclass(frozen=True, slots=True)
class SeasonalModel:
    """A fitted table of expected values.

    start: epoch seconds of the first slot (of a periodic table: of any slot at the same
        place in the period).
    step: seconds per slot.
    expected, scale: per slot, in the series' unit; every scale is above 0.
    periodic: whether the table repeats (STL) or covers its own time only (Prophet).
    fitted_to: epoch seconds of the last point.
    slope: gain of the expected value per second after `fitted_to`, faded out over a
        week.
    smoothed: seconds to both sides that the table is a mean over, as long as it is
        young.
    """

    method: Method
    start: float
    step: float
    expected: NDArray[np.float64]
    scale: NDArray[np.float64]
    periodic: bool
    fitted_to: float
    slope: float = 0.0
    smoothed: float = 0.0

    @property
    def weekly(self) -> bool:
        """Whether the table covers a whole week."""
        return len(self.expected) * self.step >= WEEK

    def band(
        self, times: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The expected value and its band.

        Args:
            times: n times that `epoch_seconds` reads.

        Returns:
            (expected, lower, upper), n numbers each; NaN where the table has no slot.
        """
        seconds = np.atleast_1d(epoch_seconds(times))
        expected, scale = self._look_up(seconds)
        return expected, expected - BAND * scale, expected + BAND * scale

    def z(self, time: float, value: float) -> float | None:
        """Signed distance from the expected value in scales; None without a slot."""
        expected, scale = self._look_up(np.array([time]))
        score = (value - float(expected[0])) / float(scale[0])
        return score if math.isfinite(score) else None

    def expected_near(self, time: float, value: float) -> float:
        """Of what is expected about a time, what is nearest to a value.

        Within a slot, and what the table was smoothed over: where the season jumps,
        nobody knows when exactly.
        """
        slots = round(self.smoothed / self.step) + 1
        times = time + self.step * np.arange(-slots, slots + 1)
        around = self._look_up(times.astype(np.float64))[0]
        return float(np.clip(value, np.nanmin(around), np.nanmax(around)))

    def _look_up(
        self, seconds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        place = (seconds - self.start) / self.step - 0.5  # slots stand for their middles
        low = np.floor(place).astype(np.int64)
        part = place - low
        count = len(self.expected)
        known = np.ones(len(seconds), bool)
        if not self.periodic:
            known = (place >= -0.5) & (place <= count - 0.5)
        if self.periodic:
            first, second = low % count, (low + 1) % count
        else:
            first, second = np.clip(low, 0, count - 1), np.clip(low + 1, 0, count - 1)
        expected = self.expected[first] * (1 - part) + self.expected[second] * part
        scale = np.maximum(self.scale[first], self.scale[second])
        ahead = np.maximum(seconds - self.fitted_to, 0.0)
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
            "smoothed": self.smoothed,
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
                smoothed=float(record["smoothed"]),
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
        if not 0 <= self.smoothed <= DAY:
            raise ValueError("a season is smoothed over a day at most")
        if not 0 < self.step < math.inf or self.scale.min() <= 0:
            raise ValueError("the step and the scales of a season are above 0")
