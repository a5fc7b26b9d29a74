"""Metrics of an experiment: which events they count, and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shoal import Integer, Number, Text

from .contrast import Effect
from .non_inferiority import Direction

OUTCOME = "experiment.outcome"
"""Event type of outcomes that were posted to an experiment."""

VALUE = "value"
"""The field with an event's number, where a metric names no other."""

SERVICE = "service."
"""Prefix of the events that stand for the router's request metrics."""

SERVICE_EVENTS = ("service.error_rate", "service.latency_p50", "service.latency_p95")

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\s\x00-\x1f\x7f]+$")]
Scalar = Text | Integer | Number | bool
Kind = Literal["proportion", "mean", "ratio", "quantile", "retention"]


class FrozenModel(BaseModel):
    """A model that cannot be changed, and refuses unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )


class Source(FrozenModel):
    """Which events count, and with which value."""

    event: str = Field(OUTCOME, min_length=1, max_length=512)
    value: str = Field(
        VALUE,
        max_length=512,
        description="Field of the event's data with the number; a.b is a field of an object. "
        "An event without a field `value` counts 1; one without another field that is named "
        "here is left out, and reported.",
    )
    where: dict[Text, Scalar] = Field(
        {}, max_length=20, description="Fields of the event's data that must have these values."
    )


class Metric(Source):
    """One value per unit, from its events after its exposure, and one value per arm.

    kind        value of a unit                          value of an arm
    proportion  1 if it has any event, else 0            mean
    mean        its events' values, by `aggregate`       mean
    ratio       sum of its values, and of those of `per` sum over sum (delta method)
    quantile    its events' values, by `aggregate`       the `quantile`
    retention   1 if it has an event in the window       mean
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
        description="Only events this long after the exposure count, "
        "and only units whose window is over.",
    )
    from_day: float = Field(
        0,
        ge=0,
        le=365,
        description="Only events at least this long after the exposure count (retention).",
    )
    winsorize: float | None = Field(
        None, gt=0.5, lt=1, description="Cap units' values at this quantile over all arms."
    )
    cuped_days: int | None = Field(
        None, ge=1, le=90, description="Adjust by the same value over these days before the start."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        required = {"per": self.kind == "ratio", "quantile": self.kind == "quantile"}
        for field, is_required in required.items():
            is_given = getattr(self, field) is not None
            if is_required and not is_given:
                raise ValueError(f"a metric of kind {self.kind} needs `{field}`")
            if is_given and not is_required:
                raise ValueError(f"a metric of kind {self.kind} takes no `{field}`")
        if self.kind == "retention" and self.window_days is None:
            raise ValueError("a retention metric needs `window_days`, its last day")
        if self.window_days is not None and self.from_day >= self.window_days:
            raise ValueError("from_day must be below window_days")
        if self.winsorize is not None and self.kind != "mean":
            raise ValueError("only means can be winsorised")
        additive = self.kind == "mean" and self.aggregate in ("sum", "count")
        if self.cuped_days is not None and not (self.kind == "proportion" or additive):
            raise ValueError("only proportions and means of sums or counts can use `cuped_days`")
        if self.event.startswith(SERVICE) and (
            self.event not in SERVICE_EVENTS
            or self.kind != "mean"
            or self.where
            or self.window_days
            or self.winsorize
            or self.cuped_days
        ):
            raise ValueError(
                "a metric of the router's request metrics is a plain mean of one of "
                f"{', '.join(SERVICE_EVENTS)}"
            )
        if self.kind == "ratio" and self.aggregate != "sum":
            raise ValueError("a ratio must use the aggregate sum")
        return self

    @property
    def binary(self) -> bool:
        """Whether a unit's value is 0 or 1."""
        return self.kind in ("proportion", "retention")

    @property
    def reads_values(self) -> bool:
        """Whether a unit's value depends on its events' numbers."""
        return not self.binary and self.aggregate != "count"

    @property
    def needs_events(self) -> bool:
        """Whether a unit without any event has no value."""
        return self.kind in ("mean", "quantile") and self.aggregate in ("mean", "max")

    def sources(self) -> Iterator[tuple[str, Source]]:
        """Components with their sources: the metric, and a ratio's denominator."""
        yield self.name, self._for_metric(self)
        if self.per is not None:
            yield f"{self.name}/per", self._for_metric(self.per)

    def _for_metric(self, source: Source) -> Source:
        """The source, restricted to this metric where outcomes are posted."""
        if source.event != OUTCOME or "metric" in source.where:
            return source
        return Source(
            event=OUTCOME, value=source.value, where={**source.where, "metric": self.name}
        )


class Guardrail(Metric):
    """A metric that must not get worse by `margin` or more.

    The margin is absolute, or a share of the control's value.
    """

    margin: float = Field(gt=0, le=1e150)
    margin_scale: Effect = "relative"

    @model_validator(mode="after")
    def _check_margin(self) -> Self:
        if self.binary and self.margin_scale == "absolute" and self.margin >= 1:
            raise ValueError(
                "an absolute margin of a share must be below 1, or it rules nothing out: "
                "2 percentage points are 0.02"
            )
        return self
