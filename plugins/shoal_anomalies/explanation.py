"""Why a point is an anomaly: as data, and in one sentence."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .detector import Verdict
from .multivariate import Driver
from .timestamps import to_datetime

METHOD_OF_SIGNAL = {
    "value": "statistical",
    "level": "statistical",
    "variation": "statistical",
    "pattern": "statistical",
    "shape": "statistical",
    "season": "seasonal",
    "band": "seasonal",
    "combination": "multivariate",
}
MIN_NATS = 3.0  # from which a signal is named
MIN_SHARE = 0.2  # from which a driver is named
MIN_Z = 3.0
MIN_RARITY = 10  # points; rarer ones are described as such
_DESCRIPTIONS = {
    "value": "no similar value was seen before",
    "pattern": "no similar pattern of points was seen before",
    "shape": "its recent shape is new",
    "variation": "it varies more than before",
    "level": "its level has shifted",
    "season": "unlike this hour on any of the last 7 days",
    "band": "outside the usual band for this hour of the week",
    "combination": "an unusual combination of metrics",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known about an anomaly.

    methods: those that found it.
    signals: surprisal of each signal, in nats.
    expected, lower, upper: in the metric's unit, by the fitted season, else by the same
        time of the days before, or the values before; None without any.
    z: robust z-score against the values before.
    one_in: such a point is expected once in so many points.
    since: epoch seconds when the series left its usual range.
    with_it: metrics that turned unusual at the same time.
    drivers: metrics that make a combination unusual, by their share.
    """

    metric: str
    value: float
    time: float
    score: float
    methods: list[str]
    signals: dict[str, float]
    expected: float | None = None
    lower: float | None = None
    upper: float | None = None
    z: float | None = None
    one_in: float | None = None
    since: float | None = None
    with_it: list[str] = field(default_factory=list)
    drivers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The explanation in one sentence."""
        parts = [self._comparison()]
        strongest = sorted(
            (name for name, nats in self.signals.items() if nats >= MIN_NATS),
            key=lambda name: -self.signals[name],
        )[:2]
        if strongest:
            parts.append(" and ".join(_DESCRIPTIONS[name] for name in strongest))
        if self.drivers:
            leading = [d["metric"] for d in self.drivers if d["share"] >= MIN_SHARE]
            parts.append(f"driven by {' and '.join(leading)}")
        if self.one_in is not None and self.one_in >= MIN_RARITY:
            parts.append(f"rarer than 1 point in {format_number(min(self.one_in, 1e6))}")
        if self.with_it:
            parts.append(f"together with {', '.join(self.with_it[:3])}")
        return "; ".join(parts) + "."

    def _comparison(self) -> str:
        text = f"{self.metric} is {format_number(self.value)}"
        if self.expected is not None:
            text += f", expected {format_number(self.expected)}"
            if self.lower is not None and self.upper is not None:
                text += f" ({format_number(self.lower)} to {format_number(self.upper)})"
        if self.since is not None:
            text += f", since {to_datetime(self.since):%Y-%m-%d %H:%M} UTC"
        return text

    def to_dict(self) -> dict[str, Any]:
        """The fields and the sentence, as plain JSON."""
        return {**asdict(self), "sentence": self.sentence}


def explain(
    *,
    metric: str,
    value: float,
    time: float,
    verdict: Verdict,
    band: tuple[float, float, float] | None = None,
    z: float | None = None,
    since: float | None = None,
    with_it: Sequence[str] = (),
    drivers: Sequence[Driver] = (),
) -> Explanation:
    """Combine what the methods found about one point.

    Args:
        metric: The metric.
        value: Its value.
        time: Epoch seconds.
        verdict: The detector's result.
        band: (expected, lower, upper).
        z: Robust z-score.
        since: Epoch seconds when the series left its usual range.
        with_it: Other metrics that turned unusual at the same time.
        drivers: Metrics that make the combination unusual.
    """
    signals = verdict.signals
    methods = {METHOD_OF_SIGNAL[name] for name, nats in signals.items() if nats >= MIN_NATS}
    if z is not None and abs(z) > MIN_Z:
        methods.add("statistical")
    if "band" in signals and band is not None and not band[1] <= value <= band[2]:
        methods.add("seasonal")
    expected, lower, upper = band or (None, None, None)
    return Explanation(
        metric=metric,
        value=value,
        time=time,
        score=round(verdict.score, 4),
        methods=sorted(methods) or ["statistical"],
        signals={name: round(nats, 2) for name, nats in signals.items()},
        expected=expected,
        lower=lower,
        upper=upper,
        z=None if z is None else round(z, 2),
        one_in=round(math.exp(min(verdict.surprisal, 30.0)), 1),
        since=since,
        with_it=list(with_it),
        drivers=[asdict(driver) for driver in drivers],
    )


def format_number(value: float) -> str:
    """Three significant digits, with thousands separated."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
