"""The part of an experiment that decides assignments.

Hypotheses, metrics and verdicts belong to the experiments capability.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from .bounds import Integer, JsonObject, Text
from .names import TenantId

BUCKETS = 10_000
"""Hashes are taken modulo this number, so shares have a resolution of 0.01 %."""

Unit = Literal["user", "tenant", "session"]
Status = Literal["draft", "running", "stopped", "promoted"]

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\s\x00-\x1f\x7f]+$")]
"""A path segment. It has no `/`, which separates the salts of hashes from the id."""

MAX_VARIANTS = 20
MAX_CONDITIONS = 10
MAX_ATTRIBUTE_VALUES = 200

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )


class Variant(_Frozen):
    """One variant, with its share of the units in percent and its parameter values."""

    name: Name
    allocation: Percent
    parameters: JsonObject = Field(default={}, description="Values of the capability's parameters.")


class Holdout(_Frozen):
    """Units excluded from all experiments that name this holdout.

    They are compared with the other units to measure the experiments' joint effect.
    """

    name: Name
    percent: Percent


class Condition(_Frozen):
    """A requirement on the caller: an attribute is, or is not, among `values`.

    An attribute with several values is among them if one of its values is.
    """

    attribute: Name
    operator: Literal["in", "not_in"] = "in"
    values: tuple[Text, ...] = Field(min_length=1, max_length=MAX_ATTRIBUTE_VALUES)


class Kept(_Frozen):
    """Units that have a variant because an earlier experiment gave it to them.

    They are those that take part in the earlier one by its traffic, layer and holdout,
    and are in its variant's buckets.
    """

    variant: Name
    experiment: Name
    buckets: tuple[Integer, Integer]
    traffic: Percent = 100.0
    layer: Name | None = None
    layer_range: tuple[Integer, Integer] | None = None
    holdout: Holdout | None = None


class ExperimentRecord(_Frozen):
    """The part of an experiment that decides assignments.

    If `tenant` is None, the requests of all tenants take part.
    """

    id: Name
    tenant: TenantId | None = None
    capability: Text | None = None
    unit: Unit = "user"
    status: Status = "draft"
    started_at: AwareDatetime | None = None
    """Exposures are logged once per unit and start: an id may be used again."""
    variants: tuple[Variant, ...] = Field(min_length=2, max_length=MAX_VARIANTS)
    traffic: Percent = 100.0
    layer: Name | None = None
    layer_range: tuple[Integer, Integer] | None = None
    """The layer's buckets that belong to this experiment: first, and last plus one."""
    holdout: Holdout | None = None
    targeting: tuple[Condition, ...] = Field(default=(), max_length=MAX_CONDITIONS)
    kept: Kept | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if repeated := repeated_names(variant.name for variant in self.variants):
            raise ValueError(
                f"variant names must differ: {', '.join(repeated)} occurs more than once"
            )
        total = sum(variant.allocation for variant in self.variants)
        if abs(total - 100) > 1e-6:
            raise ValueError(f"the variants' allocations must sum to 100 percent, not {total:g}")
        if self.kept is not None and self.kept.variant not in {v.name for v in self.variants}:
            raise ValueError(f"kept.variant {self.kept.variant!r} is not among the variants")
        if (self.layer is None) != (self.layer_range is None):
            raise ValueError("layer and layer_range go together")
        if (
            self.layer_range is not None
            and not 0 <= self.layer_range[0] < self.layer_range[1] <= BUCKETS
        ):
            raise ValueError(
                f"layer_range must satisfy 0 <= start < end <= {BUCKETS}, not {self.layer_range}"
            )
        return self

    def keeping(self, variant: str, earlier: ExperimentRecord) -> Self:
        """This record, where units keep a variant that `earlier` gave them."""
        index = [v.name for v in earlier.variants].index(variant)
        low, high = earlier.edges()[index : index + 2]
        kept = Kept(
            variant=variant,
            experiment=earlier.id,
            buckets=(low, high),
            traffic=earlier.traffic,
            layer=earlier.layer,
            layer_range=earlier.layer_range,
            holdout=earlier.holdout,
        )
        return self.model_copy(update={"kept": kept})

    def shares(self) -> dict[str, float]:
        """The exact share of units of each variant, in [0, 1].

        It differs from the allocation, which is rounded to whole buckets.
        """
        edges = self.edges()
        return {
            variant.name: (edges[i + 1] - edges[i]) / BUCKETS
            for i, variant in enumerate(self.variants)
        }

    def edges(self) -> list[int]:
        """The edges of the variants' buckets, one more than there are variants.

        A unit is in variant `i` if `edges[i] <= bucket < edges[i + 1]`.
        """
        edges, cumulative = [0], 0.0
        for variant in self.variants:
            cumulative += variant.allocation
            edges.append(round(cumulative * BUCKETS / 100))
        return edges


def repeated_names(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def overlapping_experiments(records: list[ExperimentRecord]) -> list[tuple[str, str]]:
    """Find experiments in the same layer that do not exclude each other.

    Returns:
        Pairs of the ids of experiments whose ranges overlap.
    """
    placed = [(record, record.layer_range) for record in records if record.layer_range is not None]
    return [
        (a.id, b.id)
        for (a, x), (b, y) in combinations(placed, 2)
        if a.layer == b.layer and a.id != b.id and x[0] < y[1] and y[0] < x[1]
    ]
