"""The recent points of a series, packed into one string that grows by appending."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .detector import HISTORY

RECORD = np.dtype([("time", "<f8"), ("value", "<f8"), ("score", "<f4")])
TRIMMED_LENGTH = HISTORY + 64  # points left after trimming
MAX_LENGTH = 2 * HISTORY  # points from which a series is trimmed


@dataclass(frozen=True, slots=True)
class SeriesPoints:
    """n points of one series, ordered by time.

    times: epoch seconds.
    values: in the metric's unit.
    scores: in [0, 1]; NaN for points that came too late to be scored.
    """

    times: NDArray[np.float64]
    values: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)

    def between(self, start: float, end: float) -> "SeriesPoints":
        """The points from `start` (inclusive) to `end` (exclusive), epoch seconds."""
        low, high = np.searchsorted(self.times, [start, end])
        return SeriesPoints(self.times[low:high], self.values[low:high], self.scores[low:high])


NO_POINTS = SeriesPoints(np.zeros(0), np.zeros(0), np.zeros(0))


def pack(time: float, value: float, score: float) -> bytes:
    """One point as a record."""
    return np.array([(time, value, score)], RECORD).tobytes()


def unpack(packed: bytes | None) -> NDArray[np.void]:
    """The records in order of arrival; an incomplete last one is left out."""
    packed = packed or b""
    return np.frombuffer(packed[: len(packed) // RECORD.itemsize * RECORD.itemsize], RECORD)


def merge_records(*parts: NDArray[np.void]) -> SeriesPoints:
    """Order records by time and remove duplicates.

    Of several records at one time the last value wins, and the highest score.
    """
    records = np.concatenate([*parts, np.zeros(0, RECORD)])
    order = np.argsort(records["time"], kind="stable")
    records = records[order]
    last = np.ones(len(records), bool)
    last[:-1] = np.diff(records["time"]) > 0
    scores = records["score"].astype(np.float64)
    if not last.all():
        group = np.concatenate([[0], np.cumsum(np.diff(records["time"]) > 0)])
        best = np.full(group[-1] + 1, -1.0)
        np.maximum.at(best, group, np.nan_to_num(scores, nan=-1.0))
        scores = np.where(best[group] < 0, np.nan, best[group])
    return SeriesPoints(records["time"][last].copy(), records["value"][last].copy(), scores[last])


def merge_points(*parts: SeriesPoints) -> SeriesPoints:
    """`merge_records` for points; the last part wins."""
    tables = []
    for part in parts:
        records = np.zeros(len(part), RECORD)
        records["time"], records["value"], records["score"] = part.times, part.values, part.scores
        tables.append(records)
    return merge_records(*tables)
