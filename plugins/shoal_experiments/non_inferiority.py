"""Non-inferiority: do the data rule out harm beyond a margin?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .clusters import Clusters
from .comparison import contrast
from .contrast import Effect
from .summaries import Estimate, Summary

Direction = Literal["increase", "decrease"]
"""Which way of the metric is good."""


@dataclass(frozen=True, slots=True)
class GuardrailResult:
    """The result of a non-inferiority test.

    Attributes:
        harm: The estimated harm, absolute or relative like the margin; negative is a
            benefit.
        worst: Upper bound of the harm with one-sided confidence 1 - alpha; None when
            the data do not bound it.
        margin: The margin that was tested.
        p_value: One-sided p-value of harm >= margin.
        ruled_out: Whether harm of the margin or more is rejected at alpha.
        method: The test's name.
    """

    harm: float
    worst: float | None
    margin: float
    p_value: float
    ruled_out: bool
    method: str = ""


def non_inferiority(
    control: Summary | Clusters | Estimate,
    treatment: Summary | Clusters | Estimate,
    *,
    margin: float,
    better: Direction = "increase",
    scale: Effect = "relative",
    alpha: float = 0.05,
) -> GuardrailResult:
    """One-sided test of H0: harm >= margin.

    Harm is control - treatment where more is better, else treatment - control. For a
    relative margin, the contrast is treatment - (1 ∓ margin) control, which needs no
    division. Proportions have the variance of the rates that are most likely at the
    margin (Farrington & Manning 1990), or are tested exactly. See also Rothmann, Wiens
    & Chan 2011, Design and Analysis of Non-Inferiority Trials, ch. 5.

    Args:
        control: The control's summary, or its estimate.
        treatment: The treatment's.
        margin: The margin, not negative; a share of the control's value when relative.
        better: Which direction of the metric is good.
        scale: Whether the margin is absolute or relative.
        alpha: One-sided error rate.

    Raises:
        Undefined: Neither arm varies, or the margin is relative to a control that is
            not above zero.
    """
    if margin < 0:
        raise ValueError("a margin must not be negative")
    found = contrast(control, treatment, scale, tail=alpha, one_sided=True)
    bounds = found.bounds(alpha)
    if better == "increase":
        harm, p = -found.effect, found.tail(-margin, above=True)
        worst = None if bounds is None else -bounds[0]
    else:
        harm, p = found.effect, found.tail(margin, above=False)
        worst = None if bounds is None else bounds[1]
    return GuardrailResult(harm, worst, margin, p, p < alpha, found.method)
