"""The verdict: ship, do not ship, inconclusive or invalid, with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .non_inferiority import Direction

Decision = Literal["ship", "do not ship", "inconclusive", "invalid"]


DECIDING_EVENTS = 5
"""Events of a proportion from which a verdict follows it.

At an uneven split, one event in the small arm can be significant. But one event may be
one person's, or a mistake in logging.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision, the variant to ship if there is one, and the reasons."""

    decision: Decision
    winner: str | None = None
    reasons: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"decision": self.decision, "winner": self.winner, "reasons": self.reasons}


@dataclass(frozen=True, slots=True)
class Finding:
    """What the primary metric says of one treatment, after correction.

    `undefined` is why it could not be tested, if so. `events` are those of a proportion
    in both arms, or the units without one where these are fewer.
    """

    arm: str
    effect: float = 0.0
    interval: tuple[float, float] | None = None
    p_value: float = 1.0
    significant: bool = False
    undefined: str = ""
    events: int | None = None

    @property
    def decides(self) -> bool:
        """Whether it is significant, and more than a few events say so."""
        return self.significant and (self.events is None or self.events >= DECIDING_EVENTS)


@dataclass(frozen=True, slots=True)
class GuardrailFinding:
    """What a guardrail says of one treatment.

    `ruled_out`: harm of the margin or more is ruled out. `harmed`: harm beyond the
    margin is shown. When neither is true, the data are not enough to tell.
    """

    arm: str
    metric: str
    ruled_out: bool
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
    guardrails: Sequence[GuardrailFinding],
    unit: str = "",
) -> Verdict:
    """Decide which treatment to ship, if any.

    The decision is `invalid` on a sample-ratio mismatch, `ship` for the best of the
    significantly better treatments for which every guardrail rules out harm,
    `do not ship` when every treatment is significantly worse or harms a guardrail, and
    `inconclusive` otherwise.

    Args:
        metric: Name of the primary metric.
        better: Which direction of it is good.
        confidence: Confidence of the findings' intervals.
        sample_ratio: P-value of the sample-ratio test.
        threshold: Below this p-value there is a mismatch.
        findings: The primary metric, by treatment.
        guardrails: The guardrails, by treatment.
        unit: How effects are written: "%" for relative ones.
    """
    if sample_ratio < threshold:
        return _mismatch(sample_ratio, threshold)
    reasons = [f"The arms' sizes match their allocation (p = {format_number(sample_ratio)})."]
    sign = 1.0 if better == "increase" else -1.0
    winners, losers = [], []
    for finding in findings:
        own = [g for g in guardrails if g.arm == finding.arm]
        reasons.append(_describe(finding, metric, sign, confidence, unit))
        reasons += [g.reason for g in own]
        is_better = finding.decides and sign * finding.effect > 0
        if is_better and all(g.ruled_out for g in own):
            winners.append(finding)
        is_worse = finding.decides and not is_better
        if is_worse or any(g.harmed for g in own if not g.ruled_out):
            losers.append(finding)
    if winners:
        best = max(winners, key=lambda f: sign * f.effect)
        return Verdict("ship", best.arm, [*reasons, f"Ship {best.arm}."])
    if findings and len(losers) == len(findings):
        return Verdict(
            "do not ship",
            None,
            [*reasons, "Ship no treatment: each is worse, or harms a guardrail."],
        )
    return Verdict(
        "inconclusive",
        None,
        [
            *reasons,
            "No treatment is significantly better with harm ruled out on every guardrail.",
        ],
    )


def _mismatch(p_value: float, threshold: float) -> Verdict:
    return Verdict(
        "invalid",
        None,
        [
            "The arms' sizes do not match their allocation (sample-ratio mismatch, "
            f"p = {format_number(p_value)}, below {threshold:g}): something biased which units "
            "were counted, so no other result can be trusted."
        ],
    )


def pending_verdict(missing: Sequence[str]) -> Verdict:
    """The verdict of a fixed-horizon experiment before its registered end."""
    return Verdict(
        "inconclusive",
        None,
        [
            "The registered end is not reached. Effects and p-values are shown only then, "
            "so that nobody stops at a lucky moment.",
            *missing,
        ],
    )


def _describe(finding: Finding, metric: str, sign: float, confidence: float, unit: str) -> str:
    if finding.undefined:
        return f"{finding.arm}: {metric} could not be tested: {finding.undefined}."
    interval = ""
    if finding.interval is not None:
        low, high = (format_number(end, unit) for end in finding.interval)
        interval = f", {100 * confidence:g} % interval {low} to {high}"
    if not finding.significant:
        result = "no significant difference"
    elif not finding.decides:
        result = (
            f"significant, but too few to decide on ({finding.events} of the {DECIDING_EVENTS} "
            "events that a verdict needs)"
        )
    else:
        result = "significantly better" if sign * finding.effect > 0 else "significantly worse"
    return (
        f"{finding.arm}: {metric} {format_number(finding.effect, unit)}{interval}, "
        f"p = {format_number(finding.p_value)} after correction: {result}."
    )


def format_number(value: float, unit: str = "") -> str:
    """A number for people, with three significant digits.

    Effects (any `unit`) have a sign, and are in percent for the unit "%".
    """
    value += 0.0  # of -0, 0
    if unit == "%":
        return f"{100 * value:+.3g} %"
    if unit:
        return f"{value:+.4g}"
    return "below 0.0001" if 0 <= value < 0.0001 else f"{value:.3g}"
