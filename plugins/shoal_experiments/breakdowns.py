"""The primary metric by attributes of the units. For orientation only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from . import always_valid
from .analysis import compare_treatments
from .comparison import estimate_of, finite_or_none
from .correction import adjust
from .design import Design
from .looks import Look
from .metric_data import Arms, MetricData
from .summaries import Undefined

WARNING = (
    "Of many groups, some differ by chance: one group's result decides nothing. Whether the effect "
    "differs between groups at all is what `heterogeneity` tests. To decide for one group, run an "
    "experiment on it."
)


def break_down(
    design: Design,
    groups: Mapping[str, Mapping[str, MetricData]],
    *,
    planned: int,
    look: Look | None = None,
) -> dict[str, Any]:
    """Compare each treatment with the control within every group.

    P-values are corrected by Holm's method for all groups, treatments and attributes
    together, intervals by Bonferroni's. Tests of heterogeneity are corrected among
    themselves.

    Args:
        design: The experiment's design.
        groups: Data of the primary metric by attribute, and value.
        planned: Planned units of the smallest arm.
        look: The look of a group-sequential design.

    Returns:
        `warning`, `family`, and for each attribute its groups and the heterogeneity.
    """
    family = len(design.treatments) * max(sum(map(len, groups.values())), 1)
    attributes = []
    rows: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for name, values in groups.items():
        found = []
        for value, data in values.items():
            arms, _ = data.adjusted_arms()
            compared = compare_treatments(
                design, arms, data, design.alpha / family, planned=planned, look=look
            )
            if waiting := _waiting(design, data):
                compared = {arm: _undefined(row, waiting) for arm, row in compared.items()}
            rows += compared.values()
            found.append(
                {
                    "value": value,
                    "units": dict(data.counts),
                    "arms": {arm: _value(arms, arm) for arm in design.arms},
                    "comparisons": compared,
                }
            )
        differs = {arm: _heterogeneity(design, values, arm) for arm in design.treatments}
        tests += differs.values()
        attributes.append({"attribute": name, "groups": found, "heterogeneity": differs})
    for each in (rows, tests):
        testable = [row for row in each if row["p_value"] is not None]
        adjusted = adjust([row["p_value"] for row in testable], "holm")
        for row, p_value in zip(testable, adjusted, strict=True):
            row["p_value_adjusted"] = p_value
            row["significant"] = p_value < design.alpha
    return {"warning": WARNING, "family": family, "correction": "holm", "attributes": attributes}


def _waiting(design: Design, data: MetricData) -> str:
    if design.analysis != "always_valid":
        return ""
    return always_valid.what_is_missing(list(data.arms.values()), list(data.counts.values()))


def _undefined(row: Mapping[str, Any], reason: str) -> dict[str, Any]:
    kept = {"confidence": row["confidence"], "scale": row["scale"], "significant": False}
    empty = dict.fromkeys(("effect", "interval", "p_value", "p_value_adjusted"))
    return {**empty, **kept, "undefined": reason}


def _value(arms: Arms, arm: str) -> float | None:
    try:
        return finite_or_none(estimate_of(arms[arm]).value)
    except (KeyError, Undefined):
        return None


def _heterogeneity(
    design: Design, values: Mapping[str, MetricData], treatment: str
) -> dict[str, Any]:
    """Whether a treatment's effect differs between groups, by Cochran's Q.

    With d the effects, v their variances and w = 1 / v, Q = Σ w (d - Σ w d / Σ w)² is
    chi-square with one degree of freedom less than there are groups. Source: Cochran
    1954, Biometrics 10, 101. Effects are absolute.
    """
    effects, variances = [], []
    for data in values.values():
        arms, _ = data.adjusted_arms()
        try:
            pair = [estimate_of(arms[arm]) for arm in (design.control, treatment)]
        except (KeyError, Undefined):
            continue
        variance = pair[0].variance + pair[1].variance
        if variance > 0:
            effects.append(pair[1].value - pair[0].value)
            variances.append(variance)
    row: dict[str, Any] = {"groups": len(effects), "p_value": None, "p_value_adjusted": None}
    row["significant"] = False
    if len(effects) >= 2:
        row["p_value"] = cochran_q(np.array(effects), np.array(variances))
    return row


def cochran_q(effects: NDArray[np.float64], variances: NDArray[np.float64]) -> float:
    """P-value of "all effects are equal", both of shape (groups,)."""
    weight = 1 / variances
    q = (weight * (effects - (weight * effects).sum() / weight.sum()) ** 2).sum()
    return float(chdtrc(effects.size - 1, q))
