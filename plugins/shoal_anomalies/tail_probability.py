"""The tail probability of a magnitude, given those seen before it."""

from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

TAIL = 0.02  # share of the distribution that is modelled as Pareto
BIN = 0.05  # width of a bin in the logarithm of the magnitude
SMOOTHING = 0.02  # added to the index, which is 0 for a tail without spread
ENOUGH = 100  # magnitudes from which the tail is known
YOUNG_INDEX = 0.5  # added to the index of a tail of which nothing is known, fading out
SMALLEST = 1e-12  # magnitudes up to this share the first bin
BINS = 1480  # up to 1e20


class TailModel:
    """The tail probability of a magnitude, estimated from all magnitudes before it.

    The body of the distribution is empirical. Its upper 2 % is modelled as Pareto with
    Hill's estimate of the index, so that a value far above the maximum is rarer than
    one just above it, which ranks alone cannot tell. The past is a histogram over the
    logarithm of the magnitude (bins of 5 %), so memory is constant and time nearly so.

    >>> tail = TailModel()
    >>> for magnitude in range(1, 1001):
    ...     tail.observe(float(magnitude))
    >>> [round(tail.surprisal(magnitude), 1) for magnitude in (500.0, 1_100.0, 5_000.0)]
    [0.6, 9.4, 85.1]

    Source: B. M. Hill, "A simple general approach to inference about the tail of a
    distribution", 1975. Fitted tails for streams: A. Siffer et al., "Anomaly detection
    in streams with extreme value theory", 2017.
    """

    __slots__ = ("above", "above_bins", "count", "counts", "pointer")

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int32)
        self.count = 0
        self.pointer = 0  # the bin of the quantile where the tail begins
        self.above = 0  # number of magnitudes in later bins
        self.above_bins = 0  # sum of their bin indices

    def surprisal(self, magnitude: float, needed: float = ENOUGH) -> float:
        """Surprisal of a magnitude, in nats.

        The surprisal is minus the natural logarithm of the tail probability: the
        probability of a magnitude at least as large.

        Args:
            magnitude: Finite, not negative.
            needed: With fewer magnitudes before, the surprisal is 0.
        """
        count = self.count
        if count < needed:
            return 0.0
        place = _bin(magnitude)
        if place <= self.pointer:
            at_least = int(self.counts[place:].sum()) if place else count
            return max(-log((at_least + 1) / (count + 1)), 0.0)
        index = (self.above_bins - self.above * self.pointer) * BIN / (TAIL * count)
        excess = log(magnitude) - log(SMALLEST) - (self.pointer - 0.5) * BIN
        unknown = YOUNG_INDEX * max(0.0, 1.0 - count / ENOUGH)
        return -log(max(TAIL, 1 / (count + 1))) + excess / (index + SMOOTHING + unknown)

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
        """The model as plain JSON; `from_state` is the inverse."""
        bins = np.flatnonzero(self.counts)
        return [self.pointer, bins.tolist(), self.counts[bins].tolist()]

    @staticmethod
    def from_state(state: list[Any]) -> "TailModel":
        """The model that `state` returned.

        Raises:
            ValueError: The state is not valid.
        """
        pointer, bins, occupied = state
        places = np.array(bins, np.int64)
        if len(places) and not (places.min() >= 0 and places.max() < BINS):
            raise ValueError("a bin is out of range")
        counts = np.zeros(BINS, np.int64)
        counts[places] = occupied
        return TailModel.from_counts(counts, int(pointer))

    @staticmethod
    def from_counts(counts: NDArray[Any], pointer: int) -> "TailModel":
        """A model from its histogram (`BINS` counts) and the bin where its tail begins.

        Raises:
            ValueError: The counts or the bin are out of range.
        """
        if counts.shape != (BINS,) or counts.min() < 0 or not 0 <= pointer < BINS:
            raise ValueError("not a histogram of magnitudes")
        tail = TailModel()
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
