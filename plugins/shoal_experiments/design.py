"""The design of an experiment: what is registered before it starts.

Starting an experiment freezes its design and stores the design's hash.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from shoal import Condition, ExperimentRecord, Holdout, Number, Text, Variant

from .attributes import Attribute
from .contrast import Effect
from .correction import Correction
from .metrics import SERVICE, FrozenModel, Guardrail, Metric, Name
from .people import People
from .sample_size import (
    MIN_SPACING,
    days_to_fill,
    has_close_looks,
)
from .specification import control_of, read_duration, read_metric, read_variants, spread_metrics

RAMP = "~ramp"
"""Suffix of the id under which a ramp is assigned and exposed."""

MAX_DAYS = 730
"""Longest duration of an experiment."""
MAX_VARIANTS = 20
MAX_METRICS = 50
"""Secondary metrics, and guardrails as many."""
MAX_CONDITIONS = 10
MAX_BREAKDOWNS = 5


class Layer(FrozenModel):
    """A layer, whose experiments exclude each other.

    This one takes `percent` of the layer's units.
    """

    name: Name
    percent: float = Field(gt=0, le=100)


class Design(FrozenModel):
    """The whole design. The first variant is the control unless `control` names one.

    Fields may also be written as `specification` reads them.
    """

    experiment_id: Text | None = Field(
        None, exclude=True, description="The experiment's id, if it is to be said here too."
    )
    breakdowns: tuple[Attribute, ...] = Field(
        (),
        max_length=MAX_BREAKDOWNS,
        description="Attributes of units by which the primary metric is broken down.",
    )
    hypothesis: str = Field(min_length=1, max_length=4000)
    capability: Text | None = None
    unit: Literal["user", "tenant", "session"] = "user"
    people: People | None = Field(
        None, description="Where units are companies or boards: who belongs to which."
    )
    variants: Annotated[tuple[Variant, ...], BeforeValidator(read_variants)] = Field(
        min_length=2, max_length=MAX_VARIANTS
    )
    control: Text = ""
    primary: Annotated[Metric, BeforeValidator(read_metric)]
    secondary: tuple[Annotated[Metric, BeforeValidator(read_metric)], ...] = Field(
        (), max_length=MAX_METRICS
    )
    guardrails: tuple[Guardrail, ...] = Field((), max_length=MAX_METRICS)
    minimum_effect: Number | None = Field(
        None,
        description="The smallest effect on the primary metric worth detecting, absolute or "
        "relative as `effect` says. It may be left out with a `minimum_sample_size`.",
    )
    effect: Effect = "absolute"
    baseline: Number | None = Field(
        None, description="The primary metric's value today; from history when not given."
    )
    variance: Number | None = Field(
        None, gt=0, description="Variance between units, for means; from history when not given."
    )
    alpha: float = Field(0.05, gt=0, lt=0.5)
    power: float = Field(0.8, gt=0.5, lt=1)
    correction: Correction = Field(
        "bonferroni", description="Over the comparisons of the primary metric."
    )
    analysis: Literal["fixed", "group_sequential", "always_valid"] = "fixed"
    looks: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.25, 0.5, 0.75, 1.0),
        max_length=100,
        description="Group-sequential: shares of the sample at which to look.",
    )
    spending: Literal["obrien-fleming", "pocock"] = "obrien-fleming"
    duration_days: Annotated[float | None, BeforeValidator(read_duration)] = Field(
        None,
        ge=0,
        le=MAX_DAYS,
        validation_alias=AliasChoices("duration_days", "duration"),
    )
    units_per_day: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="For the duration; from history when not given.",
    )
    minimum_sample_size: int | None = Field(
        None,
        ge=2,
        le=10**15,
        validation_alias=AliasChoices("minimum_sample_size", "min_sample_size"),
        description="Units per arm; computed from effect and power when not given.",
    )
    traffic: float = Field(100, gt=0, le=100)
    layer: Layer | None = None
    holdout: Holdout | None = None
    targeting: tuple[Condition, ...] = Field((), max_length=MAX_CONDITIONS)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if "metrics" in values:
            values = spread_metrics(values)
        if not values.get("control"):
            values = {**values, "control": control_of(values.get("variants"))}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        ExperimentRecord(id="check", variants=self.variants)  # checks allocations and names
        if self.control not in self.arms:
            raise ValueError(
                f"the control {self.control!r} is not among the variants {', '.join(self.arms)}"
            )
        self._check_targeting()
        if self.participation() < 1e-4:
            raise ValueError("traffic, layer and holdout leave less than 0.01 percent of the units")
        empty = [v.name for v in self.variants if v.allocation < 0.01]
        if empty:
            raise ValueError(
                f"every variant needs at least 0.01 percent of the units: {', '.join(empty)}"
            )
        self._check_metrics()
        self._check_people()
        self._check_looks()
        return self

    def _check_metrics(self) -> None:
        names = Counter(m.name for m in self.metrics())
        repeated = sorted(name for name, count in names.items() if count > 1)
        if repeated:
            raise ValueError(
                f"metric names must differ: {', '.join(repeated)} occurs more than once"
            )
        if self.minimum_effect is None and self.minimum_sample_size is None:
            raise ValueError("a design needs minimum_effect, or minimum_sample_size instead")
        if self.minimum_effect == 0:
            raise ValueError("minimum_effect must not be zero")
        self._check_effect()
        if self.capability is None and any(m.event.startswith(SERVICE) for m in self.metrics()):
            raise ValueError("request metrics belong to a capability, but none is named")
        if self.primary.event.startswith(SERVICE):
            raise ValueError("the primary metric cannot be one of the router's request metrics")

        attributes = Counter(a.name for a in self.breakdowns)
        if repeated := sorted(name for name, count in attributes.items() if count > 1):
            raise ValueError(f"breakdowns must differ: {', '.join(repeated)} occurs more than once")
        if self.capability is not None and any(a.event is None for a in self.breakdowns):
            raise ValueError(
                "a breakdown needs the `event` with the attribute: only in product experiments "
                "it may come with the assignment"
            )

    def _check_effect(self) -> None:
        primary, effect, baseline = self.primary, self.minimum_effect, self.baseline
        if effect is not None and (effect > 0) != (primary.better == "increase"):
            raise ValueError(
                f"minimum_effect is {effect:g}, but the primary metric is better when it "
                f"{primary.better}s: give {-effect:g}, or change `better`"
            )
        if self.effect == "relative" and baseline is not None and baseline <= 0:
            raise ValueError("a relative effect needs a baseline above zero")

    def _check_targeting(self) -> None:
        refused: dict[str, set[str]] = {}
        for condition in self.targeting:
            if condition.operator == "not_in":
                refused.setdefault(condition.attribute, set()).update(condition.values)
        for condition in self.targeting:
            values = {*condition.values}
            if condition.operator == "in" and values <= refused.get(condition.attribute, set()):
                raise ValueError(
                    f"targeting asks for {condition.attribute} in and not in "
                    f"{', '.join(sorted(values))}, so no unit can take part"
                )

    def _check_people(self) -> None:
        if self.people is None:
            return
        if self.capability is not None or self.unit != "user":
            raise ValueError(
                "people are observed in a product experiment, whose units the product names"
            )
        if wrong := [m.name for m in self.metrics() if m.kind == "quantile" or m.cuped_days]:
            raise ValueError(
                f"{', '.join(wrong)}: quantiles and `cuped_days` are not available with people"
            )

    def _check_looks(self) -> None:
        looks = list(self.looks)
        if not looks or looks[-1] != 1 or looks != sorted({*looks}) or looks[0] <= 0:
            raise ValueError("looks must be above 0, increase, and end with 1")
        if has_close_looks(looks):
            raise ValueError(f"looks must be at least {MIN_SPACING:g} apart")

    @property
    def arms(self) -> list[str]:
        return [v.name for v in self.variants]

    @property
    def treatments(self) -> list[str]:
        return [name for name in self.arms if name != self.control]

    def metrics(self) -> list[Metric]:
        """All metrics, the primary one first."""
        return [self.primary, *self.secondary, *self.guardrails]

    def hash(self) -> str:
        """SHA-256 of the design as canonical JSON, in hexadecimal."""
        text = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def record(
        self,
        id: str,
        *,
        status: str,
        started_at: datetime | None = None,
        layer_range: tuple[int, int] | None = None,
    ) -> ExperimentRecord:
        """What the router needs to know of the experiment.

        The parameters of a product experiment are the product's, so not those.

        Args:
            id: The experiment's id.
            status: Its status; the router assigns only to running ones.
            started_at: When it started.
            layer_range: Its buckets in its layer.
        """
        return ExperimentRecord.model_validate(
            {
                "id": id,
                "capability": self.capability,
                "unit": self.unit,
                "status": status,
                "started_at": started_at,
                "variants": [
                    {"name": v.name, "allocation": v.allocation}
                    | ({"parameters": v.parameters} if self.capability else {})
                    for v in self.variants
                ],
                "traffic": self.traffic,
                "layer": self.layer.name if self.layer and layer_range else None,
                "layer_range": layer_range,
                "holdout": self.holdout,
                "targeting": self.targeting,
            }
        )

    def shares(self) -> dict[str, float]:
        """Each arm's share of the units that take part."""
        return ExperimentRecord(id="shares", variants=self.variants).shares()

    def planned_units(self, per_arm: int, treatment: str) -> int:
        """Planned units of the control and a treatment together.

        Args:
            per_arm: Units that the smallest arm needs.
            treatment: The treatment.
        """
        shares = self.shares()
        both = shares[self.control] + shares[treatment]
        return math.ceil(per_arm * both / min(shares.values()))

    def participation(self) -> float:
        """The share of all units that take part."""
        layer = self.layer.percent / 100 if self.layer else 1.0
        holdout = 1 - self.holdout.percent / 100 if self.holdout else 1.0
        return self.traffic / 100 * layer * holdout

    def whole_weeks(self, per_arm: int, units_per_day: float) -> float | None:
        """Days until the smallest arm is full, rounded up to whole weeks.

        Whole weeks, because weekdays differ.

        Args:
            per_arm: Units that the smallest arm needs.
            units_per_day: All units per day, whether they take part or not.

        Returns:
            Days, or None when no unit takes part.
        """
        share = min(self.shares().values()) * self.participation()
        if share <= 0:
            return None
        return float(7 * math.ceil(days_to_fill(per_arm, share, units_per_day) / 7))
