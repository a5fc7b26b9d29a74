"""A design's guardrails: tested at a look, and watched while the experiment runs."""

from __future__ import annotations

from typing import Any

from . import always_valid
from .comparison import finite_or_none
from .design import Design
from .looks import Look, upper_tail
from .metric_data import Arms, MetricData
from .metrics import SERVICE, Guardrail
from .non_inferiority import GuardrailResult, non_inferiority
from .summaries import Undefined
from .verdict import format_number


def check_guardrail(
    design: Design,
    metric: Guardrail,
    arms: Arms,
    data: MetricData,
    treatment: str,
    *,
    planned: int,
    look: Look | None,
) -> dict[str, Any]:
    """Test one guardrail of one treatment for non-inferiority.

    Args:
        design: The experiment's design.
        metric: The guardrail.
        arms: The arms' summaries, adjusted by their past where that applies.
        data: The metric's data.
        treatment: The treatment to compare with the control.
        planned: Planned units of the smallest arm.
        look: The look of a group-sequential design.

    Returns:
        The row of the report, with a `reason` for the verdict.
    """
    row: dict[str, Any] = {
        "margin": metric.margin,
        "scale": metric.margin_scale,
        "harm": None,
        "worst": None,
        "p_value": None,
        "kept": False,
        "harmed": False,
    }
    try:
        if not data.has_events:
            raise Undefined(f"no {metric.name} was logged since the start, which shows nothing")
        for arm in (design.control, treatment):
            if arm not in arms:
                raise Undefined(f"{arm}: {data.why_undefined(arm)}")
        units = data.counts[design.control] + data.counts[treatment]
        alpha = guardrail_alpha(design, metric, treatment, units, planned, look)
        result = non_inferiority(
            arms[design.control],
            arms[treatment],
            margin=metric.margin,
            better=metric.better,
            scale=metric.margin_scale,
            alpha=alpha,
        )
    except Undefined as reason:
        row["undefined"] = str(reason)
        row["reason"] = (
            f"{treatment}: guardrail {metric.name}: harm not ruled out "
            f"(it could not be tested: {reason})."
        )
        return row
    harmed = not result.ruled_out and result.harm > metric.margin and result.p_value > 1 - alpha
    return row | {
        "harm": finite_or_none(result.harm),
        "worst": None if result.worst is None else finite_or_none(result.worst),
        "p_value": min(1.0, result.p_value * design.alpha / alpha),
        "kept": result.ruled_out,
        "harmed": harmed,
        "reason": _reason(metric, treatment, result, harmed),
        "test": result.method,
    }


def _reason(metric: Guardrail, treatment: str, result: GuardrailResult, harmed: bool) -> str:
    if result.ruled_out:
        state = "harm ruled out"
    else:
        state = "harm beyond the margin is shown" if harmed else "harm not ruled out"
    unit = "%" if metric.margin_scale == "relative" else "absolute"
    worst = "" if result.worst is None else f", at worst {format_number(result.worst, unit)}"
    return (
        f"{treatment}: guardrail {metric.name}: {state} (harm {format_number(result.harm, unit)}"
        f"{worst}, margin {format_number(metric.margin, unit)})."
    )


def guardrail_alpha(
    design: Design,
    metric: Guardrail,
    treatment: str,
    units: int,
    planned: int,
    look: Look | None,
) -> float:
    """One-sided error rate of a guardrail's test at one look.

    Over all looks together, the error rate is alpha.

    Args:
        design: The experiment's design.
        metric: The guardrail.
        treatment: The treatment that is compared with the control.
        units: Units in the two arms so far.
        planned: Planned units of the smallest arm.
        look: The look of a group-sequential design.
    """
    if look is not None:
        return max(upper_tail(look.guardrail_bound), 1e-300)
    if design.analysis == "always_valid":
        planned_units = _planned_units(design, metric, treatment, planned)
        return upper_tail(always_valid.radius(max(units, 1), planned_units, 2 * design.alpha))
    return design.alpha


def _planned_units(design: Design, metric: Guardrail, treatment: str, planned: int) -> int:
    """Units in two arms at which a guardrail's confidence sequence is narrowest.

    For the router's request metrics these are a day's minutes.
    """
    if metric.event.startswith(SERVICE):
        return 2 * 24 * 60
    return design.planned_units(planned, treatment)


def check_for_harm(
    design: Design, metric: Guardrail, data: MetricData, planned: int
) -> dict[str, dict[str, Any]]:
    """Check by a sequential test, at any time, whether a guardrail is harmed.

    Harm is shown when the confidence sequence excludes "no harm" and the estimate is
    beyond the margin. Estimates themselves are not returned. Each guardrail and
    treatment is tested at alpha over their number.

    Args:
        design: The experiment's design.
        metric: One of its guardrails.
        data: The metric's data.
        planned: Planned units of the smallest arm.

    Returns:
        By treatment: `harm_shown`, and why it is `waiting` when it cannot be tested.
    """
    arms, _ = data.adjusted_arms()
    alpha = design.alpha / (len(design.treatments) * max(len(design.guardrails), 1))
    return {
        treatment: _check_treatment(design, metric, arms, data, treatment, planned, alpha)
        for treatment in design.treatments
    }


def _check_treatment(
    design: Design,
    metric: Guardrail,
    arms: Arms,
    data: MetricData,
    treatment: str,
    planned: int,
    alpha: float,
) -> dict[str, Any]:
    if not data.has_events:
        return {"harm_shown": False, "waiting": f"no {metric.name} was logged since the start"}
    for arm in (treatment, design.control):
        if arm not in arms:
            return {"harm_shown": False, "waiting": data.why_undefined(arm)}
    units = [data.counts[design.control], data.counts[treatment]]
    pair = arms[design.control], arms[treatment]
    if waiting := always_valid.what_is_missing(pair, units):
        return {"harm_shown": False, "waiting": waiting}
    try:
        c = always_valid.compare(
            *pair,
            units=sum(units),
            planned=_planned_units(design, metric, treatment, planned),
            effect=metric.margin_scale,
            alpha=2 * alpha,
        )
    except Undefined as reason:
        return {"harm_shown": False, "waiting": str(reason)}
    if c.interval is None:
        return {"harm_shown": False, "waiting": "the control may be zero, so no harm is relative"}
    sign = 1.0 if metric.better == "decrease" else -1.0
    least_harm = c.interval[0] if sign > 0 else -c.interval[1]
    return {"harm_shown": bool(least_harm > 0 and sign * c.effect > metric.margin)}
