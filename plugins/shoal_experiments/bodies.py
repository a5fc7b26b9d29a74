"""What the operations answer, for OpenAPI."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from .analysis import Role
from .contrast import Effect
from .correction import Correction
from .metrics import Kind
from .non_inferiority import Direction
from .repository import ExperimentFields, Status
from .verdict import Verdict

Ends = tuple[float | None, float | None]
"""Of an interval; null where it is unbounded."""
Values = Annotated[
    dict[str, Any], Field(description="Parameters of the capability with the variant's values.")
]


class Body(BaseModel):
    """An answer, which has no other fields."""

    model_config = ConfigDict(extra="forbid")


class SampleSize(Body):
    """Units of the control and of a treatment, rounded up, and of all arms."""

    per_arm: int
    treatment: int
    total: int
    exact: float


class Power(Body):
    """The power of `true_effect`, and the smallest effects that are detected.

    An effect is null where the units detect none in that direction.
    """

    power: float | None
    increase: float | None
    decrease: float | None


class SampleRatio(Body):
    p_value: float
    mismatch: bool


class Difference(Body):
    effect: float
    interval: Ends | None
    p_value: float
    p_value_adjusted: float
    significant: bool
    test: str


class ArmValue(Body):
    value: float
    interval: Ends


class Analysis(Body):
    """Each treatment against the control, by its name; intervals have `confidence`."""

    effect: Effect
    confidence: float
    correction: Correction
    comparisons: dict[str, Difference]
    arms: dict[str, ArmValue]
    sample_ratio: SampleRatio


class LookBound(Body):
    """The bound on |z| at an information time, and the alpha spent until then."""

    time: float
    z: float
    spent: float


class Bounds(Body):
    looks: list[LookBound]
    drift: float
    sample_size_factor: float


class Summary(Body):
    id: str
    status: Status
    hypothesis: str
    capability: str | None
    unit: str
    variants: list[str]
    primary: str
    analysis: str
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    stopped_at: AwareDatetime | None


class Experiments(Body):
    experiments: list[Summary]
    cursor: str | None


class Experiment(ExperimentFields):
    """An experiment, with its registered end once it has started."""

    ends_at: AwareDatetime | None


class StartedExperiment(Experiment):
    """An experiment that was started, with what may be wrong about it."""

    warnings: list[str]


class Deleted(Body):
    deleted: str


class Assignment(Body):
    """A unit's variant, null when it does not take part."""

    experiment: str
    unit: str
    variant: str | None
    parameters: Values
    status: Status


class ExcludedUnits(Body):
    units: int
    note: str


class Days(Body):
    elapsed: float
    planned: float


class SmallestArm(Body):
    smallest: int
    planned: int


@with_config(ConfigDict(extra="forbid"))
class HarmCheck(TypedDict):
    """Whether harm is shown; `waiting` is why it cannot be tested yet."""

    harm_shown: bool
    waiting: NotRequired[str]


class ServiceLevels(Body):
    """Requests, the share of errors, and latencies in milliseconds."""

    requests: float | None
    error_rate: float | None
    latency_p50: float | None
    latency_p95: float | None


class Health(Body):
    """What is shown at any time; guardrails are by their name and then by treatment."""

    units: dict[str, int]
    sample_ratio: SampleRatio
    crossovers: ExcludedUnits
    unknown_variants: ExcludedUnits
    days: Days
    units_per_arm: SmallestArm
    guardrails: dict[str, dict[str, HarmCheck]]
    service: dict[str, ServiceLevels]
    no_events: list[str]
    unreadable: dict[str, int]
    unusable_exposures: int


@with_config(ConfigDict(extra="forbid"))
class ArmRow(TypedDict):
    """An arm's value; `undefined` is why it has none."""

    n: int
    people: NotRequired[int]
    value: float | None
    standard_error: float | None
    interval: NotRequired[Ends]
    successes: NotRequired[int]
    undefined: NotRequired[str]


@with_config(ConfigDict(extra="forbid"))
class OtherScale(TypedDict):
    effect: float | None
    interval: Ends | None
    undefined: NotRequired[str]


@with_config(ConfigDict(extra="forbid"))
class ComparisonRow(TypedDict):
    """A treatment against the control, and the same on the other scale."""

    effect: float | None
    interval: Ends | None
    p_value: float | None
    p_value_adjusted: float | None
    significant: bool
    confidence: float
    scale: Effect
    statistic: NotRequired[float | None]
    test: NotRequired[str]
    undefined: NotRequired[str]
    absolute: NotRequired[OtherScale]
    relative: NotRequired[OtherScale]


@with_config(ConfigDict(extra="forbid"))
class GuardrailRow(TypedDict):
    """Whether harm of the margin is ruled out (`kept`), or harm beyond it is shown."""

    margin: float
    scale: Effect
    harm: float | None
    worst: float | None
    p_value: float | None
    kept: bool
    harmed: bool
    reason: str
    test: NotRequired[str]
    undefined: NotRequired[str]


class Belief(Body):
    """The Bayesian view of an arm: its posterior, and the chance to be the best."""

    mean: float
    interval: Ends
    beats_control: float | None
    best: float
    expected_loss: float


class Cuped(Body):
    days: int
    interval_factor: float


@with_config(ConfigDict(extra="forbid"))
class MetricResults(TypedDict):
    """A metric by arm and by treatment.

    `family` counts the comparisons that `correction` covers, with those of the other
    secondary metrics.
    """

    metric: str
    kind: Kind
    role: Role
    better: Direction
    arms: dict[str, ArmRow]
    comparisons: dict[str, ComparisonRow | GuardrailRow]
    beliefs: dict[str, Belief] | None
    family: int
    correction: Correction
    cuped: NotRequired[Cuped]


class Heterogeneity(Body):
    """Whether the effect differs between groups (Cochran's Q)."""

    groups: int
    p_value: float | None
    p_value_adjusted: float | None
    significant: bool


class GroupResults(Body):
    value: str
    units: dict[str, int]
    arms: dict[str, float | None]
    comparisons: dict[str, ComparisonRow]


class AttributeResults(Body):
    """The groups of an attribute, and by treatment whether they differ."""

    attribute: str
    groups: list[GroupResults]
    heterogeneity: dict[str, Heterogeneity]


class Breakdowns(Body):
    """The primary metric by attributes; p-values are corrected over the family."""

    warning: str
    family: int
    correction: Correction
    attributes: list[AttributeResults]


class DailyEffect(Body):
    effect: float | None
    interval: Ends | None


class DailyResults(Body):
    day: str
    units: dict[str, int]
    comparisons: dict[str, DailyEffect]


class Look(Body):
    time: float
    information: float
    bound: float
    at: AwareDatetime


class FirstLook(Body):
    at: AwareDatetime
    smallest: int
    verdict: Verdict


class RampStep(Body):
    """The units first exposed in a step, and their values by metric and arm."""

    percent: float
    since: AwareDatetime
    units: dict[str, int]
    values: dict[str, dict[str, float | None]]


@with_config(ConfigDict(extra="forbid"))
class Results(TypedDict):
    """Health, and what the registered plan allows to be shown: null until then."""

    experiment: str
    status: Status
    analysis: Literal["fixed", "group_sequential", "always_valid"]
    design_hash: str | None
    as_of: AwareDatetime
    health: Health
    complete: bool
    metrics: list[MetricResults] | None
    breakdowns: Breakdowns | None
    timeline: list[DailyResults] | None
    verdict: Verdict
    looks: NotRequired[list[Look]]
    first_look: NotRequired[FirstLook]
    ramp: NotRequired[list[RampStep]]
