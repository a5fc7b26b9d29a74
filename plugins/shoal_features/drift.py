"""How far the distribution of a feature has moved: the population stability index."""

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 10


def psi(before: Sequence[Any], after: Sequence[Any]) -> float | None:
    """The population stability index of two samples.

    It is the sum over bins of (a - b) ln(a / b), with b and a the shares before and
    after. Numbers are binned by the deciles of `before`, anything else by value; null
    is a bin of its own. Each share is smoothed by half an observation, so that an empty
    bin gives no infinity. Below 0.1 is usually read as stable, above 0.25 as a shift
    (Siddiqi, Credit Risk Scorecards, 2006).

    Returns:
        None when either sample is empty.
    """
    if not len(before) or not len(after):
        return None
    b, a = _bin_counts(before, after)
    p, q = (b + 0.5) / (b.sum() + 0.5 * len(b)), (a + 0.5) / (a.sum() + 0.5 * len(a))
    return float(np.sum((q - p) * np.log(q / p)))


def _bin_counts(before: Sequence[Any], after: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    present = [[v for v in sample if v is not None] for sample in (before, after)]
    nulls = [len(s) - len(p) for s, p in zip((before, after), present, strict=True)]
    values = present[0] + present[1]
    if values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        reference = np.asarray(present[0] or present[1], float)
        quantiles = np.linspace(0, 1, BINS + 1)[1:-1]
        edges = np.unique(np.quantile(reference, quantiles, method="higher"))
        bins = [np.searchsorted(edges, np.asarray(sample, float)) for sample in present]
        size = len(edges) + 1
    else:
        codes = {v: i for i, v in enumerate(dict.fromkeys(map(str, values)))}
        bins = [np.array([codes[str(v)] for v in sample], dtype=np.int64) for sample in present]
        size = max(len(codes), 1)
    found = [np.bincount(b, minlength=size) for b in bins]
    return np.append(found[0], nulls[0]).astype(float), np.append(found[1], nulls[1]).astype(float)
