"""What the operations answer, for OpenAPI."""

from typing import Literal, NotRequired

from pydantic import BaseModel, ConfigDict, with_config
from typing_extensions import TypedDict

from .records import Outcome, Person, Task
from .skills import How
from .team.conflicts import Conflict
from .team.relaxations import Relaxation
from .team.rules import Violation
from .team.solution import Status


class Body(BaseModel):
    """An answer, which has no other fields."""

    model_config = ConfigDict(extra="forbid")


class People(Body):
    people: list[Person]
    cursor: str | None


class Outcomes(Body):
    outcomes: list[Outcome]
    cursor: str | None


class Tasks(Body):
    tasks: list[Task]
    cursor: str | None


class SkillFitRow(Body):
    """How somebody meets a requirement; `found` is their skill, null without one."""

    required: str
    needed_level: float
    level: float
    enough: bool
    found: str | None
    how: How | None
    similarity: float


class CandidateRow(Body):
    """A person's score for a task, in [0, 1] like its parts; `workload` in percent."""

    person: str
    name: str
    score: float
    skill_match: float
    availability: float
    past_success: float
    experience: float
    workload: float
    skills: list[SkillFitRow]


class Candidates(Body):
    task: str
    candidates: list[CandidateRow]
    total: int
    cursor: str | None


class Member(CandidateRow):
    """A member of a team; `hours` are theirs of the task, workloads are in percent."""

    role: Literal["lead", "support"]
    covers: list[str]
    hours: float
    workload_after: float | None
    similar_tasks: int
    days_early: float
    reasons: list[str]


class Coverage(Body):
    """A required skill, and who in the team has it."""

    skill: str
    level: float
    people: int
    by: list[str]


class Amount(Body):
    value: float
    unit: str


class TeamWorkload(Body):
    """Workloads after the assignment: mean, highest, and highest minus lowest.

    Null where a team was assigned by hand and somebody has no time in the window.
    """

    combined: float | None
    highest: float | None
    spread: float | None
    unit: str


class Collaborators(Amount):
    """Pairs who have worked together, `of` all pairs."""

    of: int


class Overlap(Amount):
    """Working hours that all share on each of `days` days."""

    days: int


class Criteria(Body):
    cost: Amount
    workload: TeamWorkload
    collaborators: Collaborators
    score: Amount
    overlap: Overlap


class PairHistory(Body):
    people: list[str]
    tasks: int


class TeamHistory(Body):
    similar_tasks: int
    days_early: float
    together: list[PairHistory]


class NotChosen(Body):
    person: str
    score: float
    why: str


class TradeOff(Body):
    """A criterion's value for the team, and the best that a team of its size has."""

    criterion: Literal["cost", "workload", "score"]
    value: float
    best_alone: float
    unit: str


class Repairs(Body):
    """The team that a broken assignment has, and who leaves and joins it."""

    team: list[str]
    leave: list[str]
    join: list[str]


@with_config(ConfigDict(extra="forbid"))
class Recommendation(TypedDict):
    """A recommended team, and the decision on it.

    With a team it has `lead` to `trade_offs`, in an impossible task `conflict` and
    `relaxations`, after a decision `decided`, `by` and `committed` (person → hours),
    and after a manual assignment `violations`, `override` and `reason`. `root` is the
    first of its alternatives, and `number` counts them. `include` and `exclude` are the
    people who had to be, and not to be, in the team. A repair of a broken assignment
    has `repairs`.
    """

    id: str
    task: str
    state: Literal["proposed", "accepted", "assigned"]
    created: str
    status: Status
    objective: float | None
    bound: float | None
    gap: float | None
    team: list[str]
    seconds: float
    root: str
    include: list[str]
    exclude: list[str]
    number: NotRequired[int]
    lead: NotRequired[str]
    members: NotRequired[list[Member]]
    coverage: NotRequired[list[Coverage]]
    criteria: NotRequired[Criteria]
    history: NotRequired[TeamHistory]
    sentences: NotRequired[list[str]]
    left_out: NotRequired[list[NotChosen]]
    trade_offs: NotRequired[list[TradeOff]]
    conflict: NotRequired[Conflict | None]
    relaxations: NotRequired[list[Relaxation]]
    repairs: NotRequired[Repairs]
    decided: NotRequired[str]
    by: NotRequired[str | None]
    committed: NotRequired[dict[str, float]]
    violations: NotRequired[list[Violation]]
    override: NotRequired[bool]
    reason: NotRequired[str]


class ListedRecommendation(Body):
    id: str
    task: str
    state: Literal["proposed", "accepted", "assigned"]
    created: str
    status: Status
    team: list[str]
    objective: float | None
    decided: str | None
    by: str | None


class Recommendations(Body):
    recommendations: list[ListedRecommendation]
    cursor: str | None


class WhyTerm(Body):
    """What a criterion adds to the objective of the best team, and of the other."""

    term: Literal["score", "cost", "balance", "collaboration"]
    best: float
    team: float
    change: float


class Why(Body):
    """The best team, and the best that has a person; null where there is none."""

    person: str
    why: str
    best: list[str] | None
    team: list[str] | None
    terms: list[WhyTerm]
    conflict: Conflict | None
    relaxations: list[Relaxation]


class NoAlternative(Body):
    """There is no other team, or none was found in time."""

    id: str
    task: str
    root: str
    status: Literal["none", "unknown"]
    team: list[str]
    message: str


class Violations(Body):
    violations: list[Violation]


class Slot(Body):
    person: str
    start: str
    end: str


class Assignment(Body):
    """A task with its team, and when each of them works on it."""

    task: str
    title: str
    priority: int
    deadline: str
    team: list[str]
    hours_each: float
    start: str | None
    end: str | None
    slots: list[Slot]


class Unassigned(Body):
    task: str
    title: str
    priority: int
    why: str


class Workload(Body):
    """The hours of a person in the plan, and those that were free before it."""

    person: str
    name: str
    workload: float
    hours: float
    free_hours: float
    tasks: int


class PinnedPerson(Body):
    task: str
    person: str


class Changes(Body):
    kept: int
    dropped: int


@with_config(ConfigDict(extra="forbid"))
class Plan(TypedDict):
    """A plan; `tasks` and `people` are how many it was made for.

    `contradiction` has the pins that cannot all be met, where there is no plan, and
    `changes` counts those of the previous teams that it keeps.
    """

    id: str
    status: Status
    objective: float | None
    bound: float | None
    gap: float | None
    assignments: list[Assignment]
    left_out: list[Unassigned]
    workloads: list[Workload]
    contradiction: NotRequired[list[PinnedPerson]]
    changes: NotRequired[Changes]
    tasks: int
    people: int


@with_config(ConfigDict(extra="forbid"))
class FinishedPlan(Plan):
    state: Literal["done"]


class PlanFailure(Body):
    error: str


class Progress(Body):
    """The best plan so far; `gap` is a share of its objective."""

    objective: float
    bound: float | None
    gap: float | None
    seconds: float


class PlanRun(Body):
    id: str
    state: Literal["running", "done", "cancelled", "failed"]
    created: str
    progress: Progress | None
    result: Plan | PlanFailure | None


class ListedPlan(Body):
    id: str
    state: Literal["running", "done", "cancelled", "failed"]
    created: str
    by: str | None


class Plans(Body):
    plans: list[ListedPlan]
    cursor: str | None


@with_config(ConfigDict(extra="forbid"))
class ForecastRow(TypedDict):
    """Hours of a week, and the load in percent; null without capacity.

    `person` or `skill` is whose they are.
    """

    week: str
    person: NotRequired[str]
    skill: NotRequired[str]
    total: NotRequired[str]
    capacity_hours: float
    base_hours: float
    committed_hours: float
    open_hours: float
    load: float | None


class Forecast(Body):
    weeks: list[ForecastRow]
    total: int
    cursor: str | None


class Scenarios(Body):
    scenarios: list[str]


class ConstraintSum(Body):
    """What one constraint adds to the objective, and to that of the other plan."""

    constraint: Literal[
        "unassigned", "score", "rate", "workload", "collaboration", "changes", "balance"
    ]
    value: float
    before: float | None
    change: float | None


class ScoreTerm(ConstraintSum):
    """A part of it for one task, one person or both."""

    task: str | None
    person: str | None


class PlanScore(Body):
    plan: str
    against: str | None
    objective: float
    constraints: list[ConstraintSum]
    terms: list[ScoreTerm]
    total: int
    cursor: str | None


class RefusedTask(Body):
    task: str
    why: str


class AcceptedPlan(Body):
    """The tasks that have their teams now, and those that no longer fit."""

    plan: str
    accepted: list[str]
    refused: list[RefusedTask]


class PlanState(Body):
    id: str
    state: Literal["running", "cancelling", "done", "cancelled", "failed"]
