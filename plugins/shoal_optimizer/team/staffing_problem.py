"""One task and the people who might do it, as arrays.

The model, the conflict search and the explanation all read from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..candidates import Candidate, score_candidates
from ..hours import Overlap, Schedule, capacity_hours, overlap
from ..parameters import OptimizerParameters
from ..records import Person, Task
from ..skills import Matcher
from ..success import History

MAX_TEAM = 50


@dataclass(frozen=True)
class Constraints:
    """The hard constraints on a team; a constraint that is None is not applied.

    Attributes:
        levels: The lowest level for each requirement of the task.
        people: How many must reach it, for each requirement (0: not required).
        workload_limit: Percent that nobody may exceed after the assignment.
        overlap_hours: Working hours a day that the whole team must share.
        min_size: The smallest team.
        max_size: The largest team.
        availability: Whether leave counts as time off.
    """

    levels: tuple[float, ...]
    people: tuple[int, ...]
    workload_limit: float | None
    overlap_hours: float | None
    min_size: int
    max_size: int
    availability: bool = True

    @classmethod
    def from_task(cls, task: Task, parameters: OptimizerParameters) -> "Constraints":
        """The constraints of a task under the tenant's parameters."""
        return cls(
            levels=tuple(requirement.level for requirement in task.skills),
            people=tuple(requirement.people for requirement in task.skills),
            workload_limit=parameters.workload_limit,
            overlap_hours=parameters.overlap_hours or None,
            min_size=task.team_size.least,
            max_size=task.team_size.most,
        )

    def without_skill(self, index: int) -> "Constraints":
        """The same without one requirement."""
        return replace(self, people=(*self.people[:index], 0, *self.people[index + 1 :]))


@dataclass(frozen=True, eq=False)
class StaffingProblem:
    """A task at a moment, with everyone scored for it.

    People are the columns of every array, in the order of `candidates`.
    """

    task: Task
    now: datetime
    candidates: tuple[Candidate, ...]
    history: History
    parameters: OptimizerParameters

    @classmethod
    def build(
        cls,
        task: Task,
        people: Sequence[Person],
        matcher: Matcher,
        history: History,
        parameters: OptimizerParameters,
        now: datetime,
    ) -> "StaffingProblem":
        """Score the people for the task.

        Args:
            task: The task to staff.
            people: Everyone who might do it.
            matcher: Matches required skills with those people have.
            history: Past success, and who has worked with whom.
            parameters: The tenant's parameters.
            now: The moment from which working time counts.
        """
        scored = score_candidates(task, people, matcher, history, parameters)
        return cls(task, now, tuple(scored), history, parameters)

    def with_deadline(self, deadline: datetime) -> "StaffingProblem":
        """The same problem with another deadline."""
        task = self.task.model_copy(update={"deadline": deadline})
        return StaffingProblem(task, self.now, self.candidates, self.history, self.parameters)

    @cached_property
    def people(self) -> list[Person]:
        return [candidate.person for candidate in self.candidates]

    @cached_property
    def index(self) -> dict[str, int]:
        """Person id → column."""
        return {candidate.person.id: n for n, candidate in enumerate(self.candidates)}

    @cached_property
    def window(self) -> tuple[datetime, datetime]:
        """When the task can be worked on."""
        return self.task.window(self.now)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        return np.array([candidate.score for candidate in self.candidates])

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Cost per hour."""
        return np.array([person.cost_per_hour for person in self.people], dtype=float)

    @cached_property
    def workloads(self) -> NDArray[np.float64]:
        """Percent of capacity that is committed already."""
        return np.array([person.workload for person in self.people], dtype=float)

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """Level of the matching skill, 0 without one: shape (requirements, people)."""
        rows = [
            [skill.level if skill.match else 0.0 for skill in candidate.skills]
            for candidate in self.candidates
        ]
        return np.array(rows, dtype=float).reshape(len(self.candidates), len(self.task.skills)).T

    @cached_property
    def hours(self) -> NDArray[np.float64]:
        """Hours of each person's capacity in the task's window, without leave."""
        # People with the same regular hours and no leave have the same share of the
        # window, so it is computed once for each schedule.
        regular: dict[int, float] = {}
        hours = np.empty(len(self.candidates))
        for n, person in enumerate(self.people):
            if person.has_absences:
                hours[n] = capacity_hours(person, *self.window)
                continue
            s = int(self.schedule_of[n])
            if s not in regular:
                regular[s] = capacity_hours(person, *self.window) / person.capacity_hours
            hours[n] = regular[s] * person.capacity_hours
        return hours

    @cached_property
    def hours_ignoring_leave(self) -> NDArray[np.float64]:
        bare = {"leave": (), "available_from": None, "available_until": None}
        return np.array(
            [capacity_hours(person.model_copy(update=bare), *self.window) for person in self.people]
        )

    @cached_property
    def _schedules_of_people(self) -> list[Schedule]:
        return [Schedule.of(person) for person in self.people]

    @cached_property
    def schedules(self) -> tuple[Schedule, ...]:
        """The distinct regular working hours."""
        return tuple(dict.fromkeys(self._schedules_of_people))

    @cached_property
    def schedule_of(self) -> NDArray[np.int64]:
        """Each person's index in `schedules`."""
        index = {schedule: n for n, schedule in enumerate(self.schedules)}
        return np.array([index[schedule] for schedule in self._schedules_of_people], np.int64)

    @cached_property
    def collaborators(self) -> NDArray[np.int64]:
        """Pairs of people who have worked together: shape (pairs, 2)."""
        index = self.index
        pairs = [
            (index[a], index[b]) for a, b in self.history.together if a in index and b in index
        ]
        return np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)

    @cached_property
    def _workloads_after(self) -> dict[tuple[int, bool], NDArray[np.float64]]:
        return {}

    def workloads_after(self, size: int, availability: bool = True) -> NDArray[np.float64]:
        """Everyone's workload with their share of the task.

        Args:
            size: The team's size, which decides each member's share.
            availability: Whether leave counts as time off.

        Returns:
            Percent, shape (people,); +inf for people without time in the window.
        """
        key = (size, availability)
        if key not in self._workloads_after:
            hours = self.hours if availability else self.hours_ignoring_leave
            with np.errstate(divide="ignore"):
                added = 100 * np.where(hours > 0, self.hours_each(size) / hours, np.inf)
            self._workloads_after[key] = np.asarray(self.workloads + added)
        return self._workloads_after[key]

    def hours_each(self, size: int) -> float:
        """Hours of each member of a team of this size."""
        return self.task.estimated_hours / size

    def covers(self, constraints: Constraints) -> NDArray[np.bool_]:
        """Who has each required skill at its level: shape (requirements, people)."""
        needed = np.array(constraints.levels).reshape(-1, 1)
        return np.asarray((self.levels >= needed) & (self.levels > 0))

    def overlap(self, members: Sequence[int]) -> Overlap:
        """The working time that these people share in the task's window."""
        return overlap(
            frozenset(self.schedules[self.schedule_of[n]] for n in members), *self.window
        )

    def sizes(self, constraints: Constraints) -> range:
        """The sizes a team may have."""
        largest = min(constraints.max_size, len(self.candidates), MAX_TEAM)
        return range(constraints.min_size, largest + 1)
