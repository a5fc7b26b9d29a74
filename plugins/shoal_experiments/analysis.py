"""From sufficient statistics to results.

This module decides what is compared with what, and at which error rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from . import always_valid
from .bayes import summarize_posteriors
from .clusters import Clusters
from .comparison import (
    Comparison,
    compare,
    estimate_of,
    finite_or_none,
    interval_ends,
    own_interval,
)
from .contrast import Effect
from .correction import Correction, adjust, interval_alpha
from .design import Design
from .guardrails import check_guardrail
from .looks import Look, upper_tail
from .metric_data import Arms, MetricData
from .metrics import Guardrail, Metric
from .mismatch import THRESHOLD, sample_ratio_p_value
from .summaries import Estimate, Proportion, Summary, Undefined
from .verdict import Finding, GuardrailFinding, decide

Rows = dict[str, dict[str, Any]]
"""A row of the report per treatment."""

Role = Literal["primary", "secondary", "guardrail"]


def results(
    design: Design,
    data: Mapping[str, MetricData],
    counts: Mapping[str, int],
    *,
    planned: int,
    look: Look | None = None,
) -> dict[str, Any]:
    """All results: the metrics with their comparisons, and the verdict.

    The treatments on the primary metric are corrected by the design's correction.
    Secondary metrics are exploratory, corrected among themselves by
    Benjamini-Hochberg, unless the design corrects nothing. Guardrails are each tested
    at alpha, since all of them must rule out harm.

    Args:
        design: The experiment's design.
        data: Data of each metric.
        counts: Exposed units of each arm.
        planned: Planned units of the smallest arm.
        look: The look of a group-sequential design.

    Returns:
        `metrics` and `verdict`. No number is NaN or infinite: what is undefined is
        None, with a reason beside it.
    """
    metrics = [
        _metric_results(design, metric, data[metric.name], planned, look)
        for metric in design.metrics()
    ]
    _correct(
        [row for m in metrics if m["role"] == "secondary" for row in m["comparisons"].values()],
        _correction(design, "secondary"),
        design.alpha,
    )
    verdict = decide(
        metric=design.primary.name,
        better=design.primary.better,
        confidence=1 - design.alpha,
        sample_ratio=sample_ratio_p_value(counts, design.shares()),
        threshold=THRESHOLD,
        findings=[
            _finding(arm, row, _fewest_events(data[design.primary.name], design.control, arm))
            for arm, row in metrics[0]["comparisons"].items()
        ],
        guardrails=[
            GuardrailFinding(arm, m["metric"], row["kept"], row["harmed"], row["reason"])
            for m in metrics
            if m["role"] == "guardrail"
            for arm, row in m["comparisons"].items()
        ],
        unit="%" if design.effect == "relative" else "absolute",
    )
    return {"metrics": metrics, "verdict": verdict.to_dict()}


def _metric_results(
    design: Design, metric: Metric, data: MetricData, planned: int, look: Look | None
) -> dict[str, Any]:
    arms, narrowing = data.adjusted_arms()
    role: Role
    family = 1
    if isinstance(metric, Guardrail):
        role = "guardrail"
        rows = {
            treatment: check_guardrail(
                design, metric, arms, data, treatment, planned=planned, look=look
            )
            for treatment in design.treatments
        }
    else:
        role = "primary" if metric is design.primary else "secondary"
        family = len(design.treatments) * (1 if role == "primary" else len(design.secondary))
        alpha = interval_alpha(design.alpha, family, _correction(design, role))
        rows = compare_treatments(design, arms, data, alpha, planned=planned, look=look)
        if role == "primary":
            _correct(list(rows.values()), design.correction, design.alpha)
    result: dict[str, Any] = {
        "metric": metric.name,
        "kind": metric.kind,
        "role": role,
        "better": metric.better,
        "arms": {arm: _arm_row(arms.get(arm), data, arm) for arm in design.arms},
        "comparisons": rows,
        "beliefs": _bayesian_view(arms, design.control, metric),
        "family": family,
        "correction": _correction(design, role),
    }
    if narrowing is not None:
        result["cuped"] = {"days": metric.cuped_days, "interval_factor": narrowing}
    return result


def _correction(design: Design, role: Role) -> Correction:
    """How the comparisons of metrics of a role are corrected for their number."""
    if role == "guardrail" or design.correction == "none":
        return "none"
    return design.correction if role == "primary" else "benjamini-hochberg"


def _arm_row(
    arm: Summary | Clusters | Estimate | None, data: MetricData, name: str
) -> dict[str, Any]:
    undefined = data.why_undefined(name)
    if arm is not None:
        try:
            estimate = estimate_of(arm)
        except Undefined as reason:
            undefined = str(reason)
        else:
            row: dict[str, Any] = {
                "n": data.counts[name],
                **({"people": data.people[name]} if name in data.people else {}),
                "value": estimate.value,
                "standard_error": estimate.error,
                "interval": list(own_interval(arm)),
            }
            return row | ({"successes": arm.successes} if isinstance(arm, Proportion) else {})
    return {
        "n": data.counts.get(name, 0),
        "value": None,
        "standard_error": None,
        "undefined": undefined,
    }


def compare_treatments(
    design: Design,
    arms: Arms,
    data: MetricData,
    alpha: float,
    *,
    planned: int,
    look: Look | None,
) -> Rows:
    """Compare each treatment with the control, absolutely and relatively.

    P-values are not adjusted yet.

    Args:
        design: The experiment's design.
        arms: The arms' summaries, adjusted by their past where that applies.
        data: The metric's data.
        alpha: Error rate of each interval.
        planned: Planned units of the smallest arm.
        look: The look of a group-sequential design.
    """
    other: Effect = "relative" if design.effect == "absolute" else "absolute"
    rows: Rows = {}
    for treatment in design.treatments:
        row = rows[treatment] = {
            "effect": None,
            "interval": None,
            "p_value": None,
            "p_value_adjusted": None,
            "significant": False,
            "confidence": 1 - alpha,
            "scale": design.effect,
        }
        missing = [arm for arm in (design.control, treatment) if arm not in arms]
        if missing:
            row["undefined"] = f"{missing[0]}: {data.why_undefined(missing[0])}"
            continue
        pair = (arms[design.control], arms[treatment])
        units = data.counts[design.control] + data.counts[treatment]
        end = design.planned_units(planned, treatment)
        try:
            row |= _comparison_row(
                _compare_pair(design, pair, design.effect, alpha, units, end, look)
            )
        except Undefined as reason:
            row["undefined"] = str(reason)
        try:
            c = _compare_pair(design, pair, other, alpha, units, end, look)
            row[other] = {"effect": finite_or_none(c.effect), "interval": interval_ends(c)}
        except Undefined as reason:
            row[other] = {"effect": None, "interval": None, "undefined": str(reason)}
    return rows


def _correct(rows: list[dict[str, Any]], correction: Correction, alpha: float) -> None:
    """Fill in the rows' adjusted p-values and significance."""
    testable = [row for row in rows if row["p_value"] is not None]
    p_values = adjust([row["p_value"] for row in testable], correction)
    for row, p_value in zip(testable, p_values, strict=True):
        row["p_value_adjusted"], row["significant"] = p_value, p_value < alpha


def _compare_pair(
    design: Design,
    pair: tuple[Summary | Clusters | Estimate, Summary | Clusters | Estimate],
    effect: Effect,
    alpha: float,
    units: int,
    planned: int,
    look: Look | None,
) -> Comparison:
    """Control and treatment by the design's analysis."""
    control, treatment = pair
    if design.analysis == "always_valid":
        return always_valid.compare(
            control, treatment, units=units, planned=planned, effect=effect, alpha=alpha
        )
    if look is None:
        return compare(control, treatment, effect=effect, alpha=alpha)
    # A repeated confidence interval (Jennison & Turnbull 2000, ch. 9): the bound in
    # place of the single look's critical value. The p-value is the error rate at which
    # this look's bound would just be reached, so p < alpha means that it was crossed.
    # The bound is the primary metric's; a smaller error rate shrinks its level as much.
    planned_alpha = interval_alpha(design.alpha, len(design.treatments), design.correction)
    level = 2 * upper_tail(look.bound) * alpha / planned_alpha
    repeated = compare(control, treatment, effect=effect, alpha=max(level, 1e-300))
    p_value = min(1.0, repeated.p_value * alpha / level) if level > 0 else 1.0
    return replace(repeated, p_value=p_value, alpha=alpha)


def _comparison_row(c: Comparison) -> dict[str, Any]:
    return {
        "effect": finite_or_none(c.effect),
        "p_value": c.p_value,
        "statistic": finite_or_none(c.statistic),
        "interval": interval_ends(c),
        "test": c.method,
    }


def _fewest_events(data: MetricData, control: str, treatment: str) -> int | None:
    """Events in both arms, or units without one where these are fewer.

    None for what is not a proportion.
    """
    arms = [data.arms.get(control), data.arms.get(treatment)]
    rates = [arm for arm in arms if isinstance(arm, Proportion)]
    if not rates:
        return None
    events = sum(arm.successes for arm in rates)
    return min(events, sum(arm.n for arm in rates) - events)


def _finding(arm: str, row: Mapping[str, Any], events: int | None) -> Finding:
    if row["p_value"] is None:
        return Finding(arm, undefined=str(row.get("undefined", "no data")))
    interval = row["interval"]
    ends = None if interval is None or None in interval else (interval[0], interval[1])
    return Finding(
        arm,
        row["effect"] or 0.0,
        ends,
        row["p_value_adjusted"],
        row["significant"],
        events=events,
    )


def _bayesian_view(arms: Arms, control: str, metric: Metric) -> dict[str, Any] | None:
    """The Bayesian view, or None when it is undefined."""
    if len(arms) < 2 or control not in arms:
        return None
    try:
        posteriors = summarize_posteriors(
            arms, control, higher_is_better=metric.better == "increase"
        )
    except Undefined:
        return None
    return {
        arm: {
            "mean": p.mean,
            "interval": list(p.interval),
            "beats_control": p.beats_control,
            "best": p.best,
            "expected_loss": p.expected_loss,
        }
        for arm, p in posteriors.items()
    }
