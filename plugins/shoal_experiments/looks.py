"""Looks of a group-sequential experiment: which one is due, and its bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import group_sequential as gs
from .correction import interval_alpha
from .design import Design

_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Look:
    """The look that is being analysed.

    Attributes:
        time: Information time, in (0, 1].
        bound: Bound on |z| for the primary metric.
        guardrail_bound: One-sided bound on z for guardrails.
    """

    time: float
    bound: float
    guardrail_bound: float = 0.0


def next_look(design: Design, information: float, taken: Sequence[float]) -> Look | None:
    """The look that is due, or None.

    A look past the end counts as the end: it spends all of alpha, and its correlation
    with earlier looks follows the real information.

    Args:
        design: A group-sequential design.
        information: Units so far as a share of those planned.
        taken: The same, at each look that was taken before.
    """
    due = [
        time
        for time in design.looks
        if time <= information + _TOLERANCE and all(time > t + _TOLERANCE for t in taken)
    ]
    if not due:
        return None
    is_last = information >= 1
    times = [*taken, 1.0 if is_last else information]
    real = [*taken, information] if is_last else None
    alpha = interval_alpha(design.alpha, len(design.treatments), design.correction)
    bounds = gs.spending_bounds(times, alpha, spending=design.spending, information=real)
    guardrail_bounds = gs.spending_bounds(
        times, design.alpha, sided=1, spending=design.spending, information=real
    )
    return Look(times[-1], bounds.z[-1], guardrail_bounds.z[-1])


def upper_tail(z: float) -> float:
    """Probability that a standard normal exceeds z."""
    return 0.5 * math.erfc(z / math.sqrt(2))
