"""What every test of two arms can answer."""

from __future__ import annotations

from typing import Literal, Protocol

Effect = Literal["absolute", "relative"]
"""Treatment - control, or (treatment - control) / control."""


class Contrast(Protocol):
    """Two arms, with a one-sided test of every effect.

    Interval, two-sided p-value and non-inferiority all follow from the one-sided tests,
    so they agree.
    """

    @property
    def method(self) -> str:
        """The test's name."""

    @property
    def effect(self) -> float:
        """The estimated effect."""

    @property
    def statistic(self) -> float:
        """The statistic of "no effect"."""

    def tail(self, effect: float, *, above: bool) -> float:
        """One-sided p-value of data at least as far above (below) this effect."""

    def bounds(self, tail: float) -> tuple[float, float] | None:
        """The effects between those whose one-sided p-values are `tail`.

        An end may be infinite. None when the data do not bound a relative effect: the
        control may be zero.
        """
