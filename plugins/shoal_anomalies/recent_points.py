"""The hot tail: the last points of a series, packed into one string that grows by
appending.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .detector import HISTORY

RECORD = np.dtype([("time", "<f8"), ("value", "<f8"), ("score", "<f4")])
KEPT = HISTORY + 64  # how many a trimmed tail still has
FULL = 2 * HISTORY  # how long it may grow


@dataclass(frozen=True, slots=True)
class Readings:
    """n points of one series, by time: epoch seconds, values, scores (NaN for what came
    too late to be scored).
    """

    times: NDArray[np.float64]
    values: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)

    def between(self, start: float, end: float) -> "Readings":
        """From `start` until before `end`."""
        low, high = np.searchsorted(self.times, [start, end])
        return Readings(self.times[low:high], self.values[low:high], self.scores[low:high])


NOTHING = Readings(np.zeros(0), np.zeros(0), np.zeros(0))


def pack(time: float, value: float, score: float) -> bytes:
    return np.array([(time, value, score)], RECORD).tobytes()


def unpack(blob: bytes | None) -> NDArray[np.void]:
    """The records in the order in which they came; a torn last one is left out."""
    blob = blob or b""
    return np.frombuffer(blob[: len(blob) // RECORD.itemsize * RECORD.itemsize], RECORD)


def merged(*parts: NDArray[np.void]) -> Readings:
    """Records as readings: by time, and of several at one time the last that came (but
    a score stays).
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
    return Readings(records["time"][last].copy(), records["value"][last].copy(), scores[last])


def joined(*parts: Readings) -> Readings:
    """Readings of one series as one; of several at one time the last part's."""
    tables = []
    for part in parts:
        records = np.zeros(len(part), RECORD)
        records["time"], records["value"], records["score"] = part.times, part.values, part.scores
        tables.append(records)
    return merged(*tables)
