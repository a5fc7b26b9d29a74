"""What the operations answer, for OpenAPI."""

from typing import Literal, NotRequired

from pydantic import BaseModel, ConfigDict, with_config
from typing_extensions import TypedDict

from .records import Person, Task
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
    workload_after: float
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
    """Workloads after the assignment: mean, highest, and highest minus lowest."""

    combined: float
    highest: float
    spread: float
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
    first of its alternatives, and `number` counts them. A repair of a broken assignment
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


class PlanState(Body):
    id: str
    state: Literal["running", "cancelling", "done", "cancelled", "failed"]
