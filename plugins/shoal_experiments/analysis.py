"""From sufficient statistics to results: what is compared with what, at which error
rate, and shown when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import always_valid, cuped
from . import group_sequential as gs
from .aggregation import MetricData
from .bayes import beliefs
from .comparison import Comparison, Effect, compare, estimate_of, own_interval, quantile
from .correction import Correction, adjust, interval_alpha
from .design import SERVICE, Design, Guardrail, Metric
from .guardrail import non_inferiority
from .mismatch import THRESHOLD, sample_ratio_p_value
from .summaries import Estimate, Proportion, Summary, Undefined
from .verdict import Finding, Kept, Verdict, decide, number


@dataclass(frozen=True, slots=True)
class Look:
    """The look of a group-sequential test that is being analysed: its information time,
    its bound on |z| for the primary metric, and the one-sided bound for guardrails.
    """

    time: float
    bound: float
    guard: float = 0.0


def results(
    design: Design,
    data: Mapping[str, MetricData],
    counts: Mapping[str, int],
    *,
    planned: int,
    look: Look | None = None,
) -> dict[str, Any]:
    """Everything that may be shown once it may be shown: metrics with comparisons, and
    the verdict. No number is NaN or infinite; what is undefined is null, with a reason
    beside it.

    `data` by metric, `counts` of exposed units by arm, `planned` units per arm. The
    primary family (treatments on the primary metric) is corrected by the design's
    correction; secondary metrics are exploratory, corrected among themselves by
    Benjamini-Hochberg; guardrails are each tested at alpha, since all of them must be
    kept (over all looks together, where the design looks more than once).
    """
    ratio = sample_ratio_p_value(counts, design.shares())
    metrics, findings, kept = [], [], []
    secondary: list[dict[str, Any]] = []
    for metric in design.metrics():
        arms, narrowing = adjusted(data[metric.name])
        role = (
            "primary"
            if metric is design.primary
            else "guardrail"
            if isinstance(metric, Guardrail)
            else "secondary"
        )
        shown: dict[str, Any] = {
            "metric": metric.name,
            "kind": metric.kind,
            "role": role,
            "better": metric.better,
            "arms": {arm: describe(arms.get(arm), data[metric.name], arm) for arm in design.arms},
            "comparisons": {},
            "beliefs": believe(arms, design.control, metric),
        }
        if narrowing is not None:
            shown["cuped"] = {"days": metric.cuped_days, "interval_factor": narrowing}
        family = len(design.treatments)
        if role == "primary":
            rows = compare_all(
                design,
                metric,
                arms,
                data[metric.name],
                design.correction,
                planned=planned,
                look=look,
            )
            findings = [finding(arm, row, design.effect) for arm, row in rows.items()]
        elif role == "guardrail":
            assert isinstance(metric, Guardrail)
            rows = {
                t: guard(design, metric, arms, data[metric.name], t, planned=planned, look=look)
                for t in design.treatments
            }
            kept += [
                Kept(arm, metric.name, row["kept"], row["harmed"], row["reason"])
                for arm, row in rows.items()
            ]
        else:
            rows = compare_all(
                design, metric, arms, data[metric.name], "none", planned=planned, look=look
            )
            family = len(design.treatments) * len(design.secondary)
            secondary += rows.values()
        shown["comparisons"] = rows
        shown["family"] = family
        metrics.append(shown)
    testable = [row for row in secondary if row["p_value"] is not None]
    for row, p in zip(
        testable, adjust([row["p_value"] for row in testable], "benjamini-hochberg"), strict=True
    ):
        row["p_value_adjusted"], row["significant"] = p, p < design.alpha
    verdict = decide(
        metric=design.primary.name,
        better=design.primary.better,
        confidence=1 - design.alpha,
        sample_ratio=ratio,
        threshold=THRESHOLD,
        findings=findings,
        guardrails=kept,
        unit="%" if design.effect == "relative" else "absolute",
    )
    return {"metrics": metrics, "verdict": as_json(verdict)}


def as_json(verdict: Verdict) -> dict[str, Any]:
    return {"decision": verdict.decision, "winner": verdict.winner, "reasons": verdict.reasons}


def adjusted(data: MetricData) -> tuple[dict[str, Summary | Estimate], float | None]:
    """The arms' summaries, adjusted by their past when they have one, and the factor by
    which that narrows intervals.
    """
    if len(data.pairs) < 2 or data.undefined:
        return dict(data.arms), None
    return dict(cuped.adjust(data.pairs)), cuped.narrowing(data.pairs)


def describe(arm: Summary | Estimate | None, data: MetricData, name: str) -> dict[str, Any]:
    if arm is None:
        return {
            "n": data.counts.get(name, 0),
            "value": None,
            "standard_error": None,
            "undefined": data.undefined.get(name, "no units"),
        }
    try:
        estimate = estimate_of(arm)
    except Undefined as reason:
        return {
            "n": data.counts.get(name, 0),
            "value": None,
            "standard_error": None,
            "undefined": str(reason),
        }
    low, high = own_interval(arm)
    row: dict[str, Any] = {
        "n": data.counts[name],
        "value": estimate.value,
        "standard_error": estimate.error,
        "interval": [low, high],
    }
    if isinstance(arm, Proportion):
        row["successes"] = arm.successes
    return row


def compare_all(
    design: Design,
    metric: Metric,
    arms: Mapping[str, Summary | Estimate],
    data: MetricData,
    correction: Correction,
    *,
    planned: int,
    look: Look | None,
) -> dict[str, dict[str, Any]]:
    """Each treatment against the control, in the design's terms and in the others."""
    alpha = interval_alpha(design.alpha, len(design.treatments), correction)
    rows: dict[str, dict[str, Any]] = {}
    for arm in design.treatments:
        row = rows[arm] = {
            "effect": None,
            "interval": None,
            "p_value": None,
            "p_value_adjusted": None,
            "significant": False,
            "confidence": 1 - alpha,
            "scale": design.effect,
        }
        missing = [a for a in (design.control, arm) if a not in arms]
        if missing:
            row["undefined"] = f"{missing[0]}: {data.undefined.get(missing[0], 'no units')}"
            continue
        other: Effect = "relative" if design.effect == "absolute" else "absolute"
        units = data.counts[design.control] + data.counts[arm]
        try:
            row |= shown(one(design, arms, arm, design.effect, alpha, units, planned, look))
        except Undefined as reason:
            row["undefined"] = str(reason)
        try:
            row[other] = {
                k: v
                for k, v in shown(
                    one(design, arms, arm, other, alpha, units, planned, look)
                ).items()
                if k in ("effect", "interval")
            }
        except Undefined as reason:
            row[other] = {"effect": None, "interval": None, "undefined": str(reason)}
    testable = [row for row in rows.values() if row["p_value"] is not None]
    for row, p in zip(
        testable, adjust([row["p_value"] for row in testable], correction), strict=True
    ):
        row["p_value_adjusted"], row["significant"] = p, p < design.alpha
    return rows


def one(
    design: Design,
    arms: Mapping[str, Summary | Estimate],
    arm: str,
    effect: Effect,
    alpha: float,
    units: int,
    planned: int,
    look: Look | None,
) -> Comparison:
    control, treatment = arms[design.control], arms[arm]
    if design.analysis == "always_valid":
        return always_valid.compare(
            control, treatment, units=units, planned=2 * planned, effect=effect, alpha=alpha
        )
    plain = compare(control, treatment, effect=effect, alpha=alpha)
    if look is None:
        return plain
    # A repeated confidence interval (Jennison & Turnbull 2000, ch. 9): the bound in
    # place of the single look's critical value. The p-value is the error rate at which
    # this look's bound would just be reached, so p < alpha means crossed.
    level = 2 * quantile_tail(look.bound)
    wide = compare(control, treatment, effect=effect, alpha=max(level, 1e-300))
    p = min(1.0, plain.p_value * alpha / level) if level > 0 else 1.0
    return Comparison(wide.effect, wide.interval, p, wide.statistic, effect, alpha)


def quantile_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def shown(c: Comparison) -> dict[str, Any]:
    return {
        "effect": finite(c.effect),
        "p_value": c.p_value,
        "statistic": finite(c.statistic),
        "interval": None if c.interval is None else [finite(c.interval[0]), finite(c.interval[1])],
    }


def finite(value: float) -> float | None:
    """None where a bound is infinite: the data bound the effect from the other side
    only.
    """
    return value if math.isfinite(value) else None


def finding(arm: str, row: Mapping[str, Any], scale: Effect) -> Finding:
    if row["p_value"] is None:
        return Finding(arm, undefined=str(row.get("undefined", "no data")))
    interval = row["interval"]
    ends = None if interval is None or None in interval else (interval[0], interval[1])
    return Finding(arm, row["effect"] or 0.0, ends, row["p_value_adjusted"], row["significant"])


def guard(
    design: Design,
    metric: Guardrail,
    arms: Mapping[str, Summary | Estimate],
    data: MetricData,
    arm: str,
    *,
    planned: int,
    look: Look | None,
) -> dict[str, Any]:
    """One treatment's guardrail by the non-inferiority test, as a row and a sentence."""
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
        missing = [a for a in (design.control, arm) if a not in arms]
        if missing:
            raise Undefined(f"{missing[0]}: {data.undefined.get(missing[0], 'no units')}")
        units = data.counts[design.control] + data.counts[arm]
        level = guard_level(design, metric, units, planned, look)
        found = non_inferiority(
            arms[design.control],
            arms[arm],
            margin=metric.margin,
            better=metric.better,
            scale=metric.margin_scale,
            alpha=level,
        )
    except Undefined as reason:
        row["undefined"] = str(reason)
        row["reason"] = (
            f"{arm}: guardrail {metric.name} could not be tested: {reason}; it does not count as kept."
        )
        return row
    p_value = min(1.0, found.p_value * design.alpha / level)
    row |= {
        "harm": finite(found.harm),
        "worst": None if found.worst is None else finite(found.worst),
        "p_value": p_value,
        "kept": found.kept,
    }
    row["harmed"] = not found.kept and found.harm > metric.margin and found.p_value > 1 - level
    unit = "%" if metric.margin_scale == "relative" else "absolute"
    worst = "" if found.worst is None else f", at worst {number(found.worst, unit)}"
    state = (
        "kept"
        if found.kept
        else "broken: harm beyond the margin is shown"
        if row["harmed"]
        else "not kept: harm beyond the margin is not excluded"
    )
    row["reason"] = (
        f"{arm}: guardrail {metric.name} {state} (harm {number(found.harm, unit)}{worst}, margin {number(metric.margin, unit)})."
    )
    return row


def guard_level(
    design: Design, metric: Guardrail, units: int, planned: int, look: Look | None
) -> float:
    """One-sided error rate of a guardrail's test at this look: alpha for a single look;
    for several, what the bound leaves it.
    """
    if look is not None:
        return max(quantile_tail(look.guard), 1e-300)
    if design.analysis == "always_valid":
        return quantile_tail(
            always_valid.radius(max(units, 1), _foreseen(metric, planned), 2 * design.alpha)
        )
    return design.alpha


def _foreseen(metric: Guardrail, planned: int) -> int:
    """Units in two arms at which a guardrail's confidence sequence is narrowest; for
    the router's account, a day of minutes in each.
    """
    return 2 * (24 * 60 if metric.event.startswith(SERVICE) else planned)


def harm_now(
    design: Design, metric: Guardrail, data: MetricData, planned: int
) -> dict[str, dict[str, Any]]:
    """While it runs: is harm shown, by a confidence sequence that may be looked at any
    time, and is it estimated beyond the margin? No estimate is given away. Each
    guardrail and treatment is tested at alpha over their number.
    """
    arms, _ = adjusted(data)
    found: dict[str, dict[str, Any]] = {}
    alpha = design.alpha / (len(design.treatments) * max(len(design.guardrails), 1))
    sign = 1.0 if metric.better == "decrease" else -1.0
    for arm in design.treatments:
        row = found[arm] = {"harm_shown": False}
        if design.control not in arms or arm not in arms:
            row["waiting"] = (
                data.undefined.get(arm) or data.undefined.get(design.control) or "no units"
            )
            continue
        smallest = min(data.counts[design.control], data.counts[arm])
        if smallest < always_valid.MINIMUM:
            row["waiting"] = (
                f"{smallest} of the {always_valid.MINIMUM} units per arm that a look needs"
            )
            continue
        try:
            c = always_valid.compare(
                arms[design.control],
                arms[arm],
                units=data.counts[design.control] + data.counts[arm],
                planned=_foreseen(metric, planned),
                effect=metric.margin_scale,
                alpha=2 * alpha,
            )
        except Undefined as reason:
            row["waiting"] = str(reason)
            continue
        assert c.interval is not None
        least = c.interval[0] if sign > 0 else -c.interval[1]
        row["harm_shown"] = bool(least > 0 and sign * c.effect > metric.margin)
    return found


def believe(
    arms: Mapping[str, Summary | Estimate], control: str, metric: Metric
) -> dict[str, Any] | None:
    """The Bayesian view, or None when it is undefined."""
    if len(arms) < 2 or control not in arms:
        return None
    try:
        found = beliefs(arms, control, higher_is_better=metric.better == "increase")
    except Undefined:
        return None
    return {
        arm: {
            "mean": b.mean,
            "interval": list(b.interval),
            "beats_control": b.beats_control,
            "best": b.best,
            "expected_loss": b.expected_loss,
        }
        for arm, b in found.items()
    }


def next_look(design: Design, information: float, taken: list[float]) -> Look | None:
    """The look to take at this share of the planned sample, after those taken; None
    when the next one is not due yet.

    A look past the end counts as the end: all of alpha is spent there, and the
    correlation follows the real information.
    """
    due = [
        t
        for t in design.looks
        if t <= information + 1e-12 and all(t > past + 1e-12 for past in taken)
    ]
    if not due:
        return None
    last = information >= 1
    times = [*taken, 1.0 if last else information]
    real = [*taken, information]
    alpha = interval_alpha(design.alpha, len(design.treatments), design.correction)
    bounds = gs.spending_bounds(
        times, alpha, spending=design.spending, information=real if last else None
    )
    guards = gs.spending_bounds(
        times, design.alpha, sided=1, spending=design.spending, information=real if last else None
    )
    return Look(times[-1], bounds.z[-1], guards.z[-1])


__all__ = ["Look", "as_json", "harm_now", "next_look", "quantile", "results"]
