"""The verdict: ship, do not ship, inconclusive or invalid, and why, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .guardrail import Direction

Decision = Literal["ship", "do not ship", "inconclusive", "invalid"]


@dataclass(frozen=True, slots=True)
class Verdict:
    decision: Decision
    winner: str | None = None
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the primary metric says of one treatment, after correction. `undefined` says
    why it could not be tested.
    """

    arm: str
    effect: float = 0.0
    interval: tuple[float, float] | None = None
    p_value: float = 1.0
    significant: bool = False
    undefined: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """Whether a guardrail is kept by one treatment; `harmed` when harm beyond the
    margin is shown, not only not excluded.
    """

    arm: str
    metric: str
    kept: bool
    harmed: bool = False
    reason: str = ""


def decide(
    *,
    metric: str,
    better: Direction,
    confidence: float,
    sample_ratio: float,
    threshold: float,
    findings: Sequence[Finding],
    guardrails: Sequence[Kept],
    unit: str = "",
) -> Verdict:
    """Ship the treatment with the largest good effect among those that are
    significantly better and keep every guardrail.

    Invalid on a sample-ratio mismatch, whatever else. Do not ship when every treatment
    is significantly worse, or harms a guardrail. Inconclusive otherwise.
    """
    if sample_ratio < threshold:
        return Verdict(
            "invalid",
            None,
            [
                f"The arms' sizes do not fit their allocation (sample-ratio mismatch, p = {number(sample_ratio)}, below "
                f"{threshold:g}): something biased who was counted, so no other number can be trusted."
            ],
        )
    reasons = [f"The arms' sizes fit their allocation (p = {number(sample_ratio)})."]
    sign = 1.0 if better == "increase" else -1.0
    winners, losers = [], []
    for finding in findings:
        reasons.append(_primary(finding, metric, sign, confidence, unit))
        broken = [g for g in guardrails if g.arm == finding.arm and not g.kept]
        reasons += [g.reason for g in guardrails if g.arm == finding.arm]
        good = finding.significant and sign * finding.effect > 0
        if good and not broken:
            winners.append(finding)
        if (finding.significant and not good) or any(g.harmed for g in broken):
            losers.append(finding)
    if winners:
        best = max(winners, key=lambda f: sign * f.effect)
        return Verdict("ship", best.arm, [*reasons, f"Ship {best.arm}."])
    if findings and len(losers) == len(findings):
        return Verdict(
            "do not ship",
            None,
            [*reasons, "No treatment may ship: each is worse, or harms a guardrail."],
        )
    return Verdict(
        "inconclusive",
        None,
        [*reasons, "No treatment is shown to be better with every guardrail kept."],
    )


def _primary(finding: Finding, metric: str, sign: float, confidence: float, unit: str) -> str:
    if finding.undefined:
        return f"{finding.arm}: {metric} could not be tested: {finding.undefined}."
    between = (
        ""
        if finding.interval is None
        else (
            f", {100 * confidence:g} % interval {number(finding.interval[0], unit)} to {number(finding.interval[1], unit)}"
        )
    )
    if not finding.significant:
        known = "no significant difference"
    else:
        known = "significantly better" if sign * finding.effect > 0 else "significantly worse"
    return f"{finding.arm}: {metric} {number(finding.effect, unit)}{between}, p = {number(finding.p_value)} after correction: {known}."


def number(value: float, unit: str = "") -> str:
    """A number as a person writes it: three significant digits; effects with their
    sign, and in percent when relative.
    """
    if unit == "%":
        return f"{100 * value:+.3g} %"
    if unit:
        return f"{value:+.4g}"
    return "below 0.0001" if 0 <= value < 0.0001 else f"{value:.3g}"


def running(missing: Mapping[str, str]) -> Verdict:
    """Before its registered end a fixed-horizon experiment has no verdict but this."""
    return Verdict(
        "inconclusive",
        None,
        [
            "It still runs; p-values and effects are shown at the registered end, and not before, so that nobody stops at a lucky moment.",
            *missing.values(),
        ],
    )
