"""A Bayesian view of the arms, for orientation only: it decides nothing.

Proportions have a uniform prior, hence Beta posteriors; everything else has a flat
prior, whose posterior is the normal distribution of the estimate. Arms are independent.
Integrals use a fixed grid, so the same data give the same result. Source: Gelman et
al., Bayesian Data Analysis, 3rd ed., 2.4 and 4.1; expected loss: Stucchio 2015,
"Bayesian A/B Testing".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm

from .clusters import Clusters
from .comparison import estimate_of
from .summaries import Estimate, Proportion, Summary, Undefined

_POINTS = 4001


@dataclass(frozen=True, slots=True)
class PosteriorSummary:
    """One arm's posterior distribution, in the metric's units.

    Attributes:
        mean: Posterior mean.
        interval: Central 95 % credible interval.
        beats_control: Probability to beat the control; None for the control itself.
        best: Probability to be the best of all arms.
        expected_loss: Expected loss of choosing this arm, if another is better.
    """

    mean: float
    interval: tuple[float, float]
    beats_control: float | None
    best: float
    expected_loss: float


def summarize_posteriors(
    arms: Mapping[str, Summary | Clusters | Estimate],
    control: str,
    *,
    higher_is_better: bool = True,
) -> dict[str, PosteriorSummary]:
    """Summarize every arm's posterior distribution.

    Raises:
        Undefined: An arm does not vary (except proportions).
    """
    posteriors = {name: _posterior(arm) for name, arm in arms.items()}
    low = min(p.ppf(1e-9) for p in posteriors.values())
    high = max(p.ppf(1 - 1e-9) for p in posteriors.values())
    grid = np.unique(
        np.concatenate(
            [
                np.linspace(low, high, _POINTS),
                *(p.ppf(np.linspace(1e-9, 1 - 1e-9, _POINTS)) for p in posteriors.values()),
            ]
        )
    )
    cdf = {
        name: np.asarray(p.cdf(grid)) if higher_is_better else np.asarray(p.sf(grid))
        for name, p in posteriors.items()
    }
    result = {}
    for name, p in posteriors.items():
        others = [cdf[other] for other in arms if other != name]
        best_other = np.prod(others, axis=0)
        beats = None if name == control else _expectation(cdf[control], cdf[name])
        # E[max(others) - x]+ = ∫ P(own < v) P(best of the others > v) dv
        loss = float(np.trapezoid((cdf[name]) * (1 - best_other), grid))
        result[name] = PosteriorSummary(
            float(p.mean()),
            (float(p.ppf(0.025)), float(p.ppf(0.975))),
            beats,
            _expectation(best_other, cdf[name]),
            loss,
        )
    return result


def _expectation(values: NDArray[np.float64], cdf: NDArray[np.float64]) -> float:
    """The expectation of `values` on the grid, under the distribution of a cdf."""
    weights = np.abs(np.diff(cdf))
    return float(
        min(1.0, max(0.0, ((values[:-1] + values[1:]) / 2 * weights).sum() / weights.sum()))
    )


def _posterior(arm: Summary | Clusters | Estimate) -> Any:
    if isinstance(arm, Proportion):
        return beta(arm.successes + 1, arm.n - arm.successes + 1)
    estimate = estimate_of(arm)
    if estimate.variance <= 0:
        raise Undefined("an arm does not vary, so it has no posterior distribution")
    return norm(estimate.value, estimate.error)
