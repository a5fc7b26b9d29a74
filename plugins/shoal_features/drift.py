"""How the distribution of a feature moves: the population stability index."""

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 10
STABLE, SHIFTED = 0.1, 0.25
"""The usual reading of a PSI: below 0.1 stable, above 0.25 shifted."""


def psi(before: Sequence[Any], after: Sequence[Any]) -> float | None:
    """The population stability index of two samples: sum over bins of (a - b) ln(a /
    b), with b and a the shares before and after.

    Numbers are binned by the deciles of `before`, anything else by value; null is a bin
    of its own. Each share is smoothed by half an observation, so that an empty bin is
    no infinity. None when either sample is empty. (Siddiqi, Credit Risk Scorecards,
    2006.)
    """
    if not len(before) or not len(after):
        return None
    b, a = _counts(before, after)
    p, q = (b + 0.5) / (b.sum() + 0.5 * len(b)), (a + 0.5) / (a.sum() + 0.5 * len(a))
    return float(np.sum((q - p) * np.log(q / p)))


def _counts(before: Sequence[Any], after: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    there = [[v for v in sample if v is not None] for sample in (before, after)]
    nulls = [len(sample) - len(some) for sample, some in zip((before, after), there, strict=True)]
    everything = there[0] + there[1]
    if everything and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in everything
    ):
        reference = np.asarray(there[0] or there[1], float)
        edges = np.unique(
            np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1], method="higher")
        )
        found = [
            np.bincount(np.searchsorted(edges, np.asarray(s, float)), minlength=len(edges) + 1)
            for s in there
        ]
    else:
        kinds = {v: i for i, v in enumerate(dict.fromkeys(map(str, everything)))}
        found = [
            np.bincount([kinds[str(v)] for v in s], minlength=max(len(kinds), 1)) for s in there
        ]
    return np.append(found[0], nulls[0]).astype(float), np.append(found[1], nulls[1]).astype(float)
