"""One task and the people who might do it, as arrays.

The model, the conflict search and the explanation all read from here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..calendar import Calendar
from ..candidates import Candidate, score_candidates
from ..parameters import OptimizerParameters
from ..records import Person, Task
from ..shared_time import Overlap, overlap, share_enough
from ..skills import Matcher
from ..success import History
from ..working_time import Shift, days_around

MAX_TEAM = 50
T = TypeVar("T")


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
        include: The columns of people who must be in the team.
        exclude: The columns of people who must not be in it.
    """

    levels: tuple[float, ...]
    people: tuple[int, ...]
    workload_limit: float | None
    overlap_hours: float | None
    min_size: int
    max_size: int
    availability: bool = True
    include: frozenset[int] = frozenset()
    exclude: frozenset[int] = frozenset()

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
    """A task and a calendar, with everyone scored for the task.

    People are the columns of every array, in the order of `candidates`.
    """

    task: Task
    calendar: Calendar
    candidates: tuple[Candidate, ...]
    history: History
    parameters: OptimizerParameters

    @cached_property
    def is_kept(self) -> NDArray[np.bool_]:
        """Who is in the team that the task has already, shape (people,)."""
        team = self.task.team if self.task.state == "assigned" else ()
        return np.isin([person.id for person in self.people], list(team))

    @classmethod
    def build(
        cls,
        task: Task,
        calendar: Calendar,
        matcher: Matcher,
        history: History,
        parameters: OptimizerParameters,
    ) -> "StaffingProblem":
        """Score the people for the task.

        Args:
            task: The task to staff.
            calendar: Everyone who might do it, and the work that is committed; of this
                task, which might be assigned already, it does not count.
            matcher: Matches required skills with those people have.
            history: Past success, and who has worked with whom.
            parameters: The tenant's parameters.
        """
        calendar = calendar.without(task.id)
        scored = score_candidates(task, calendar, matcher, history, parameters)
        return cls(task, calendar, tuple(scored), history, parameters)

    def with_deadline(self, deadline: datetime) -> "StaffingProblem":
        """The same problem with another deadline."""
        task = self.task.model_copy(update={"deadline": deadline})
        return replace(self, task=task)

    @cached_property
    def people(self) -> list[Person]:
        return [candidate.person for candidate in self.candidates]

    @cached_property
    def index(self) -> dict[str, int]:
        """Person id → column."""
        return {candidate.person.id: n for n, candidate in enumerate(self.candidates)}

    def lead_first(self, members: Iterable[int]) -> tuple[int, ...]:
        """The members of a team by score, the lead first."""
        return tuple(sorted(members, key=lambda n: (-self.scores[n], self.people[n].id)))

    @cached_property
    def window(self) -> tuple[datetime, datetime]:
        """When the task can be worked on."""
        return self.task.window(self.calendar.now)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        return np.array([candidate.score for candidate in self.candidates])

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Cost per hour."""
        return np.array([person.cost_per_hour for person in self.people], dtype=float)

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """Level that counts for each requirement: shape (requirements, people)."""
        rows = [
            [skill.counted_level for skill in candidate.skills] for candidate in self.candidates
        ]
        return np.array(rows, dtype=float).reshape(len(self.candidates), len(self.task.skills)).T

    def hours(self, availability: bool = True) -> NDArray[np.float64]:
        """Hours of each person's capacity in the task's window, shape (people,)."""
        return self._cached(
            ("hours", availability),
            lambda: self.calendar.capacity(*self.window, absences=availability),
        )

    def shifts(self, availability: bool = True) -> tuple[list[Shift], NDArray[np.int64]]:
        """The distinct shifts in the window, and the index of each person's."""
        return self._cached(
            ("shifts", availability),
            lambda: self.calendar.distinct_shifts(
                *days_around(*self.window), absences=availability
            ),
        )

    def compatible(self, hours: float, availability: bool = True) -> NDArray[np.bool_]:
        """Whether two shifts share that many hours on some day: (shifts, shifts)."""
        return self._cached(
            ("compatible", hours, availability),
            lambda: share_enough(self.shifts(availability)[0], *self.window, hours)[1],
        )

    @cached_property
    def collaborators(self) -> NDArray[np.int64]:
        """Pairs of people who have worked together: shape (pairs, 2)."""
        index = self.index
        pairs = [
            (index[a], index[b]) for a, b in self.history.together if a in index and b in index
        ]
        return np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)

    def workloads_after(
        self, size: int, availability: bool = True, limit: float | None = None
    ) -> NDArray[np.float64]:
        """Everyone's load in the window with their share of the task.

        Args:
            size: The team's size, which decides each member's share.
            availability: Whether leave counts as time off.
            limit: Up to which committed work may be done outside of the window; by
                default the tenant's limit.

        Returns:
            Percent, shape (people,); +inf for people without time in the window.
        """
        limit = self.parameters.workload_limit if limit is None else limit
        hours = self.hours(availability)
        loads = self._cached(
            ("loads", availability, limit),
            lambda: self.calendar.loads(*self.window, limit, absences=availability),
        )
        with np.errstate(divide="ignore"):
            return np.asarray(
                loads + 100 * np.where(hours > 0, self.hours_each(size) / hours, np.inf)
            )

    def hours_each(self, size: int) -> float:
        """Hours of each member of a team of this size."""
        return self.task.estimated_hours / size

    def covers(self, constraints: Constraints) -> NDArray[np.bool_]:
        """Who has each required skill at its level: shape (requirements, people)."""
        needed = np.array(constraints.levels).reshape(-1, 1)
        return np.asarray((self.levels >= needed) & (self.levels > 0))

    def overlap(self, members: Sequence[int], availability: bool = True) -> Overlap:
        """The working time that these people share in the task's window."""
        shifts, shift_of = self.shifts(availability)
        return overlap(frozenset(shifts[shift_of[n]] for n in members), *self.window)

    def sizes(self, constraints: Constraints) -> range:
        """The sizes a team may have."""
        largest = min(constraints.max_size, len(self.candidates), MAX_TEAM)
        return range(constraints.min_size, largest + 1)

    def _cached(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        return cast(T, self._known[key])

    @cached_property
    def _known(self) -> dict[tuple[Any, ...], Any]:
        return {}
