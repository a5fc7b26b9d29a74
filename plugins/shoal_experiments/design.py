"""What an experiment says of itself before it starts. Starting freezes it and keeps its
hash (pre-registration).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shoal import Condition, ExperimentRecord, Holdout, Variant

from .comparison import Effect
from .correction import Correction
from .guardrail import Direction
from .sample_size import NEAREST, days, mean_sample_size, proportion_sample_size, too_near

OUTCOME = "experiment.outcome"
"""The event type of outcomes that were posted to an experiment rather than logged for
other reasons as well.
"""

RAMP = "~ramp"
"""Ends the id under which a winner's ramp is assigned and exposed."""

MOST_DAYS = 730
"""That an experiment may take."""

SERVICE = "service."
"""Metrics whose event is `service.error_rate`, `service.latency_p50` or
`service.latency_p95` come from the router's account.
"""
SERVICE_LEVELS = ("service.error_rate", "service.latency_p50", "service.latency_p95")

Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\s\x00-\x1f\x7f]+$")]
Kind = Literal["proportion", "mean", "ratio", "quantile", "retention"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Model):
    """Which events count, and for how much."""

    event: str = Field(OUTCOME, min_length=1, max_length=512)
    value: str = Field(
        "value",
        description="Field of the event's data that holds the number; a.b is a field of an object.",
    )
    where: dict[str, str | int | float | bool] = Field(
        {}, description="Fields of the event's data that must have these values."
    )


class Metric(Source):
    """One number per unit, made from the unit's events after its exposure, and one
    number per arm made from those.

    kind        one unit's number                        one arm's number
    proportion  1 if it has any event, else 0            their share
    mean        its events' values, by `aggregate`       their mean
    ratio       its values' sum, over that of `per`      sum over sum (delta method)
    quantile    its events' values, by `aggregate`       their `quantile`
    retention   1 if it has an event in the window       their share
    """

    name: Name
    kind: Kind = "proportion"
    better: Direction = "increase"
    aggregate: Literal["sum", "mean", "max", "count"] = "sum"
    per: Source | None = Field(None, description="A ratio's denominator.")
    quantile: float | None = Field(None, gt=0, lt=1)
    window_days: float | None = Field(
        None,
        gt=0,
        le=365,
        description="Only events this long after the exposure count, and only units that have had as long.",
    )
    from_day: float = Field(
        0,
        ge=0,
        le=365,
        description="Only events at least this long after the exposure count (retention).",
    )
    winsorize: float | None = Field(
        None, gt=0.5, lt=1, description="Cap units' numbers at this quantile over all arms."
    )
    cuped_days: int | None = Field(
        None, ge=1, le=90, description="Adjust by the same number over these days before the start."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        wants = {"per": self.kind == "ratio", "quantile": self.kind == "quantile"}
        for field, wanted in wants.items():
            if wanted and getattr(self, field) is None:
                raise ValueError(f"a metric of kind {self.kind} needs `{field}`")
            if not wanted and getattr(self, field) is not None:
                raise ValueError(f"`{field}` does not belong to a metric of kind {self.kind}")
        if self.kind == "retention" and self.window_days is None:
            raise ValueError("a retention metric needs `window_days`, its last day")
        if self.window_days is not None and self.from_day >= self.window_days:
            raise ValueError("from_day must be below window_days")
        if self.winsorize is not None and self.kind != "mean":
            raise ValueError("only means are winsorised")
        if self.cuped_days is not None and not (
            self.kind == "proportion"
            or (self.kind == "mean" and self.aggregate in ("sum", "count"))
        ):
            raise ValueError(
                "only proportions and means of sums or counts are adjusted by their past"
            )
        if self.event.startswith(SERVICE) and (
            self.event not in SERVICE_LEVELS
            or self.kind != "mean"
            or self.where
            or self.window_days
            or self.winsorize
            or self.cuped_days
        ):
            raise ValueError(
                f"a metric of the router's account is a plain mean of one of {', '.join(SERVICE_LEVELS)}"
            )
        if self.kind == "ratio" and self.aggregate != "sum":
            raise ValueError("a ratio is of sums")
        return self

    @property
    def binary(self) -> bool:
        return self.kind in ("proportion", "retention")

    def sources(self) -> Iterator[tuple[str, Source]]:
        """(component, source): the metric itself, and a ratio's denominator."""
        yield self.name, self._named(self)
        if self.per is not None:
            yield f"{self.name}/per", self._named(self.per)

    def _named(self, source: Source) -> Source:
        """Posted outcomes say which metric they are of."""
        if source.event != OUTCOME or "metric" in source.where:
            return source
        return Source(
            event=OUTCOME, value=source.value, where={**source.where, "metric": self.name}
        )


class Guardrail(Metric):
    """A metric that must not get worse by `margin` or more: a share of the control's
    value, or absolute.
    """

    margin: float = Field(gt=0, allow_inf_nan=False)
    margin_scale: Effect = "relative"


class Layer(_Model):
    """Experiments in one layer exclude each other; this one takes `percent` of the
    layer's units.
    """

    name: Name
    percent: float = Field(gt=0, le=100)


class Design(_Model):
    """The whole plan. The first variant is the control unless `control` names another."""

    hypothesis: str = Field(min_length=1, max_length=4000)
    capability: str | None = None
    unit: Literal["user", "tenant", "session"] = "user"
    variants: tuple[Variant, ...] = Field(min_length=2)
    control: str = ""
    primary: Metric
    secondary: tuple[Metric, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    minimum_effect: Finite = Field(
        description="The smallest effect on the primary metric worth finding, in the terms of `effect`."
    )
    effect: Effect = "absolute"
    baseline: Finite | None = Field(
        None, description="The primary metric's value today; from history when not given."
    )
    variance: Finite | None = Field(
        None, gt=0, description="Variance between units, for means; from history when not given."
    )
    alpha: float = Field(0.05, gt=0, lt=0.5)
    power: float = Field(0.8, gt=0.5, lt=1)
    correction: Correction = Field(
        "bonferroni", description="Over the comparisons of the primary metric."
    )
    analysis: Literal["fixed", "group_sequential", "always_valid"] = "fixed"
    looks: tuple[float, ...] = Field(
        (0.25, 0.5, 0.75, 1.0),
        max_length=100,
        description="Group-sequential: shares of the sample at which one looks.",
    )
    spending: Literal["obrien-fleming", "pocock"] = "obrien-fleming"
    duration_days: float | None = Field(None, ge=0, le=MOST_DAYS)
    units_per_day: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="For the duration; from history when not given.",
    )
    minimum_sample_size: int | None = Field(
        None, ge=2, description="Units per arm; computed from effect and power when not given."
    )
    traffic: float = Field(100, gt=0, le=100)
    layer: Layer | None = None
    holdout: Holdout | None = None
    targeting: tuple[Condition, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _default_control(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("control") and values.get("variants"):
            first = values["variants"][0]
            name = first.get("name") if isinstance(first, dict) else getattr(first, "name", "")
            values = {**values, "control": name or ""}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        ExperimentRecord(id="check", variants=self.variants)  # allocations, names
        if self.control not in self.arms:
            raise ValueError(
                f"the control {self.control!r} is not among the variants {', '.join(self.arms)}"
            )
        empty = [v.name for v in self.variants if v.allocation < 0.01]
        if empty:
            raise ValueError(
                f"every variant needs at least 0.01 percent of the units: {', '.join(empty)}"
            )
        names = [m.name for m in self.metrics()]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(
                f"metric names must differ: {', '.join(repeated)} occurs more than once"
            )
        if self.minimum_effect == 0:
            raise ValueError("minimum_effect must not be zero")
        if self.effect == "relative" and self.baseline is not None and self.baseline <= 0:
            raise ValueError("a relative effect needs a baseline above zero")
        if self.capability is None and any(m.event.startswith(SERVICE) for m in self.metrics()):
            raise ValueError("the router's account is of a capability, but none is named")
        if self.primary.event.startswith(SERVICE):
            raise ValueError("the primary metric is of units, not of the router's account")
        if self.capability is None and any(v.parameters for v in self.variants):
            raise ValueError("variants override parameters, but no capability is named")
        if (
            not self.looks
            or self.looks[-1] != 1
            or list(self.looks) != sorted({*self.looks})
            or self.looks[0] <= 0
        ):
            raise ValueError("looks must be above 0, increase, and end with 1")
        if too_near(self.looks):
            raise ValueError(f"looks must be at least {NEAREST:g} apart")
        return self

    @property
    def arms(self) -> list[str]:
        return [v.name for v in self.variants]

    @property
    def treatments(self) -> list[str]:
        return [name for name in self.arms if name != self.control]

    def metrics(self) -> list[Metric]:
        return [self.primary, *self.secondary, *self.guardrails]

    def hash(self) -> str:
        """SHA-256 of the design as canonical JSON."""
        text = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def record(
        self, id: str, *, status: str, layer_range: tuple[int, int] | None = None
    ) -> ExperimentRecord:
        """What the router needs of it."""
        return ExperimentRecord.model_validate(
            {
                "id": id,
                "capability": self.capability,
                "unit": self.unit,
                "status": status,
                "variants": self.variants,
                "traffic": self.traffic,
                "layer": self.layer.name if self.layer and layer_range else None,
                "layer_range": layer_range,
                "holdout": self.holdout,
                "targeting": self.targeting,
            }
        )

    def shares(self) -> dict[str, float]:
        return ExperimentRecord(id="shares", variants=self.variants).shares()

    def reach(self) -> float:
        """The share of all units that take part."""
        layer = self.layer.percent / 100 if self.layer else 1.0
        holdout = 1 - self.holdout.percent / 100 if self.holdout else 1.0
        return self.traffic / 100 * layer * holdout

    def weeks(self, per_arm: int, units_per_day: float) -> float | None:
        """Days until the smallest arm is full, in whole weeks, since weekdays differ;
        None when nobody takes part.
        """
        share = min(self.shares().values()) * self.reach()
        return float(7 * math.ceil(days(per_arm, share, units_per_day) / 7)) if share > 0 else None

    def sample_size(
        self, baseline: float | None = None, variance: float | None = None
    ) -> int | None:
        """Units that the smallest arm needs; None when the primary metric's baseline or
        variance is not known.

        Each comparison is planned at its corrected alpha, between the control and the
        smaller of the treatments. A sequential design needs somewhat more at the most;
        the factor is applied. An always-valid one shows nothing below 100 units per
        arm, and so needs them.
        """
        baseline = self.baseline if self.baseline is not None else baseline
        variance = self.variance if self.variance is not None else variance
        effect = self.minimum_effect
        if self.effect == "relative":
            if baseline is None:
                return None
            effect *= baseline
        alpha = self.alpha if self.correction == "none" else self.alpha / len(self.treatments)
        shares = self.shares()
        ratio = min(shares[t] for t in self.treatments) / shares[self.control]
        if self.primary.binary:
            if baseline is None:
                return None
            n = proportion_sample_size(baseline, effect, alpha=alpha, power=self.power, ratio=ratio)
        else:
            if variance is None:
                return None
            n = mean_sample_size(effect, variance, alpha=alpha, power=self.power, ratio=ratio)
        return max(
            100 if self.analysis == "always_valid" else 2,
            math.ceil(n * min(1.0, ratio) * self.inflation(alpha)),
        )

    def inflation(self, alpha: float) -> float:
        """By how much a sequential plan's largest sample exceeds that of a single look."""
        from . import always_valid, group_sequential as gs  # noqa: I001

        from scipy.special import ndtri

        single = float(ndtri(1 - alpha / 2) + ndtri(self.power))
        if self.analysis == "group_sequential":
            bounds = gs.spending_bounds(self.looks, alpha, spending=self.spending)
            return (gs.drift_for_power(bounds.times, bounds.z, self.power) / single) ** 2
        if self.analysis == "always_valid":
            return ((always_valid.radius(1, 1, alpha) + float(ndtri(self.power))) / single) ** 2
        return 1.0
