"""What the router must know of an experiment: who takes part, in which variant, with
which parameters.

Hypotheses, metrics and verdicts are the experiments capability's own; this record is
only what decides an assignment.
"""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

BUCKETS = 10_000
"""Every hash is taken modulo this: shares have a resolution of 0.01 %."""

Unit = Literal["user", "tenant", "session"]
Status = Literal["draft", "running", "stopped", "promoted"]

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\s\x00-\x1f\x7f]+$")]
"""A path segment. `/` is kept out because it separates the salts of the other hashes
from the id (see the router).
"""

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Frozen):
    """One arm: its share of the experiment's units in percent, and the parameter values
    it overrides.
    """

    name: Name
    allocation: Percent
    parameters: dict[str, Any] = {}


class Holdout(_Frozen):
    """Units kept out of every experiment that names this holdout, so that their joint
    effect can be measured.
    """

    name: Name
    percent: Percent


class Condition(_Frozen):
    """One requirement on the caller: the attribute's value (or one of its values) is,
    or is not, among `values`.
    """

    attribute: Name
    operator: Literal["in", "not_in"] = "in"
    values: tuple[str, ...] = Field(min_length=1)


class ExperimentRecord(_Frozen):
    """The part of an experiment that the router follows. `tenant` None means every
    tenant's requests take part.
    """

    id: Name
    tenant: str | None = None
    capability: str | None = None
    unit: Unit = "user"
    status: Status = "draft"
    variants: tuple[Variant, ...] = Field(min_length=2)
    traffic: Percent = 100.0
    layer: Name | None = None
    layer_range: tuple[int, int] | None = None
    """Half-open range of the layer's buckets that this experiment owns, within [0,
    10000].
    """
    holdout: Holdout | None = None
    targeting: tuple[Condition, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [variant.name for variant in self.variants]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"variant names must differ: {', '.join(repeated)} occurs more than once"
            )
        total = sum(variant.allocation for variant in self.variants)
        if abs(total - 100) > 1e-6:
            raise ValueError(f"the variants' allocations must sum to 100 percent, not {total:g}")
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

    def shares(self) -> dict[str, float]:
        """Exact share of the assigned units that each variant gets (allocations rounded
        to whole buckets).
        """
        edges = self.edges()
        return {
            variant.name: (edges[i + 1] - edges[i]) / BUCKETS
            for i, variant in enumerate(self.variants)
        }

    def edges(self) -> list[int]:
        """Bucket edges: variant i owns buckets edges[i] <= bucket < edges[i + 1].
        Length: variants + 1.
        """
        edges, cumulative = [0], 0.0
        for variant in self.variants:
            cumulative += variant.allocation
            edges.append(round(cumulative * BUCKETS / 100))
        return edges


def overlapping_experiments(records: list[ExperimentRecord]) -> list[tuple[str, str]]:
    """Pairs of ids in the same layer whose ranges meet: those experiments would not
    exclude each other.
    """
    placed = [(record, record.layer_range) for record in records if record.layer_range is not None]
    return [
        (a.id, b.id)
        for (a, x), (b, y) in combinations(placed, 2)
        if a.layer == b.layer and a.id != b.id and x[0] < y[1] and y[0] < x[1]
    ]
