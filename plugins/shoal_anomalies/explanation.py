"""Why a point is an anomaly: as data, and in one sentence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from .multivariate import Driver

METHOD_OF_SIGNAL = {
    "value": "statistical", "level": "statistical", "variation": "statistical", "pattern": "statistical", "shape": "statistical",
    "season": "seasonal", "band": "seasonal", "combination": "multivariate",
}  # fmt: skip
SPEAKS = 3.0  # nats from which a signal is worth naming
_WORDS = {
    "value": "no value like it was seen before", "pattern": "the last few points follow no pattern seen before",
    "shape": "its outline of late is new", "variation": "it jumps more than it did", "level": "it has moved to another level",
    "season": "on none of the last seven days was it so at this time", "band": "it is outside the band learned for this hour of the week",
    "combination": "the metrics together make an odd combination",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known of why.

    expected, lower, upper: in the metric's unit, of the fitted season, else of the
    values before; None with neither. one_in: how many points one such is expected in (e
    to the surprise). since: when the series left its usual range, epoch seconds.
    with_it: metrics that turned odd at the same time.
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
        parts = [f"{self.metric} is {number(self.value)}"]
        if self.expected is not None:
            parts[0] += f" where {number(self.expected)} is expected"
            if self.lower is not None and self.upper is not None:
                parts[0] += f" ({number(self.lower)} to {number(self.upper)})"
        if self.since is not None:
            parts[0] += f", since {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M} UTC"
        strongest = sorted(
            (s for s in self.signals if self.signals[s] >= SPEAKS), key=lambda s: -self.signals[s]
        )[:2]
        if strongest:
            parts.append(" and ".join(_WORDS[s] for s in strongest))
        if self.drivers:
            led = [d["metric"] for d in self.drivers if d["share"] >= 0.2]
            parts.append(f"driven by {' and '.join(led)}")
        if self.one_in is not None and self.one_in >= 10:
            parts.append(f"about one point in {number(min(self.one_in, 1e6))} is so unusual")
        if self.with_it:
            parts.append(f"together with {', '.join(self.with_it[:3])}")
        return "; ".join(parts) + "."

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sentence": self.sentence}


def explain(
    *, metric: str, value: float, time: float, score: float, surprise: float, signals: Mapping[str, float],
    band: tuple[float, float, float] | None = None, z: float | None = None, since: float | None = None,
    with_it: Sequence[str] = (), drivers: Sequence[Driver] = (),
) -> Explanation:  # fmt: skip
    """Put together what the methods said of one point."""
    methods = {METHOD_OF_SIGNAL[name] for name, nats in signals.items() if nats >= SPEAKS}
    if z is not None and abs(z) > 3:
        methods.add("statistical")
    if "band" in signals and band is not None and not band[1] <= value <= band[2]:
        methods.add("seasonal")
    expected, lower, upper = band or (None, None, None)
    return Explanation(
        metric, value, time, round(score, 4), sorted(methods) or ["statistical"], {k: round(v, 2) for k, v in signals.items()},
        expected, lower, upper, None if z is None else round(z, 2), round(math.exp(min(surprise, 30.0)), 1), since,
        list(with_it), [asdict(d) for d in drivers],
    )  # fmt: skip


def number(value: float) -> str:
    """For reading: three significant digits, thousands apart."""
    if value != value or math.isinf(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
