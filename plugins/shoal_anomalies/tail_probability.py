"""The tail probability of a magnitude, given those seen before it."""

from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

TAIL = 0.02
BIN = 0.05
SMOOTHING = 0.02
SMALLEST = 1e-12
BINS = 1480  # up to 1e20


class TailModel:
    """How rare is a magnitude, given all the magnitudes seen before it?

    The body of the distribution is empirical. Its upper 2 % is taken as Pareto with
    Hill's estimate of the index, so that a value far past the record is rarer than one
    just past it, which ranks alone cannot say. The past is a histogram over the
    logarithm of the magnitude (bins of 5 %): memory is constant, and so nearly is time.

    >>> tail = TailModel()
    >>> for magnitude in range(1, 1001):
    ...     tail.observe(float(magnitude))
    >>> tail.surprise(500.0) < 1 < 3.5 < tail.surprise(1_100.0) < tail.surprise(5_000.0)
    True

    Source: B. M. Hill, "A simple general approach to inference about the tail of a
    distribution", 1975. Judging streams by their fitted tail: A. Siffer et al.,
    "Anomaly detection in streams with extreme value theory", 2017.
    """

    __slots__ = ("above", "above_bins", "count", "counts", "pointer", "warm_up")

    def __init__(self, warm_up: int = 100) -> None:
        self.warm_up = warm_up
        self.counts = np.zeros(BINS, np.int32)
        self.count = 0
        self.pointer = 0  # the bin that holds the quantile where the tail begins
        self.above = 0  # how many magnitudes lie in bins beyond it
        self.above_bins = 0  # and the sum of their bins' numbers

    def surprise(self, magnitude: float) -> float:
        """Minus the natural logarithm of the probability of a magnitude at least this
        large; 0 while warming up.
        """
        if self.count < self.warm_up:
            return 0.0
        place = _bin(magnitude)
        if place <= self.pointer:
            at_least = int(self.counts[place:].sum()) if place else self.count
            return max(-log((at_least + 1) / (self.count + 1)), 0.0)
        index = (self.above_bins - self.above * self.pointer) * BIN / (TAIL * self.count)
        excess = log(magnitude) - log(SMALLEST) - (self.pointer - 0.5) * BIN
        return -log(TAIL) + excess / (index + SMOOTHING)

    def observe(self, magnitude: float) -> None:
        """Add a magnitude (finite, not negative) to the past."""
        place = _bin(magnitude)
        counts = self.counts
        counts[place] += 1
        self.count += 1
        if place > self.pointer:
            self.above += 1
            self.above_bins += place
        allowed = self.count * TAIL
        while self.above > allowed:
            self.pointer += 1
            here = int(counts[self.pointer])
            self.above -= here
            self.above_bins -= here * self.pointer
        while self.pointer and self.above + (here := int(counts[self.pointer])) <= allowed:
            self.above += here
            self.above_bins += here * self.pointer
            self.pointer -= 1

    def state(self) -> list[Any]:
        """As plain JSON; `restored` is the inverse."""
        bins = np.flatnonzero(self.counts)
        return [self.warm_up, self.pointer, bins.tolist(), self.counts[bins].tolist()]

    @staticmethod
    def restored(state: list[Any]) -> "TailModel":
        """The model that `state` describes.

        Raises:
            ValueError: It describes none.
        """
        warm_up, pointer, bins, occupied = state
        places = np.array(bins, np.int64)
        if len(places) and not (places.min() >= 0 and places.max() < BINS):
            raise ValueError("a bin is out of range")
        counts = np.zeros(BINS, np.int64)
        counts[places] = occupied
        return TailModel.from_counts(counts, int(pointer), int(warm_up))

    @staticmethod
    def from_counts(counts: NDArray[Any], pointer: int, warm_up: int = 100) -> "TailModel":
        """A model from its histogram (`BINS` counts) and the bin where its tail begins.

        Raises:
            ValueError: These are not of a histogram.
        """
        if counts.shape != (BINS,) or counts.min() < 0 or not 0 <= pointer < BINS:
            raise ValueError("not a histogram of magnitudes")
        tail = TailModel(warm_up)
        tail.counts[:] = counts
        tail.pointer = pointer
        beyond = tail.counts[pointer + 1 :].astype(np.int64)
        tail.count = int(tail.counts.sum())
        tail.above = int(beyond.sum())
        tail.above_bins = int((beyond * np.arange(pointer + 1, BINS)).sum())
        return tail


def _bin(magnitude: float) -> int:
    if magnitude <= SMALLEST:
        return 0
    return min(int((log(magnitude) - log(SMALLEST)) / BIN) + 1, BINS - 1)
