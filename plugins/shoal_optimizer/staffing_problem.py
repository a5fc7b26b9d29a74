"""One task and everybody who might do it, as arrays: what the model, the checks and the
reasons all read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .candidates import Candidate, candidates
from .hours import Overlap, Schedule, capacity_hours, overlap
from .parameters import OptimizerParameters
from .records import Person, Task
from .skills import Matcher
from .success import History

MOST_TEAM = 50


@dataclass(frozen=True)
class Demands:
    """What a team must keep; None or empty where a demand is dropped.

    levels and people: per requirement of the task, the least level and how many must
    have it (0 drops it).
    """

    levels: tuple[float, ...]
    people: tuple[int, ...]
    workload_limit: float | None
    overlap_hours: float | None
    least: int
    most: int
    availability: bool = True

    @classmethod
    def of(cls, task: Task, parameters: OptimizerParameters) -> "Demands":
        return cls(
            levels=tuple(requirement.level for requirement in task.skills),
            people=tuple(requirement.people for requirement in task.skills),
            workload_limit=parameters.workload_limit,
            overlap_hours=parameters.overlap_hours or None,
            least=task.team_size.least,
            most=task.team_size.most,
        )

    def without_skill(self, index: int) -> "Demands":
        return replace(self, people=(*self.people[:index], 0, *self.people[index + 1 :]))


@dataclass(frozen=True, eq=False)
class Situation:
    """A task at a moment. People are columns of every array, in the order of `scored`."""

    task: Task
    now: datetime
    scored: tuple[Candidate, ...]
    history: History
    parameters: OptimizerParameters

    @classmethod
    def of(
        cls, task: Task, people: Sequence[Person], matcher: Matcher, history: History, parameters: OptimizerParameters,
        now: datetime,
    ) -> "Situation":  # fmt: skip
        return cls(
            task,
            now,
            tuple(candidates(task, people, matcher, history, parameters)),
            history,
            parameters,
        )

    def until(self, deadline: datetime) -> "Situation":
        """The same with another deadline."""
        return Situation(
            self.task.model_copy(update={"deadline": deadline}),
            self.now,
            self.scored,
            self.history,
            self.parameters,
        )

    @cached_property
    def people(self) -> list[Person]:
        return [candidate.person for candidate in self.scored]

    @cached_property
    def index(self) -> dict[str, int]:
        return {candidate.person.id: n for n, candidate in enumerate(self.scored)}

    @cached_property
    def window(self) -> tuple[datetime, datetime]:
        return self.task.window(self.now)

    @cached_property
    def score(self) -> NDArray[np.float64]:
        return np.array([candidate.score for candidate in self.scored])

    @cached_property
    def rate(self) -> NDArray[np.float64]:
        return np.array([candidate.person.cost_per_hour for candidate in self.scored], dtype=float)

    @cached_property
    def workload(self) -> NDArray[np.float64]:
        return np.array([candidate.person.workload for candidate in self.scored], dtype=float)

    @cached_property
    def level(self) -> NDArray[np.float64]:
        """Shape (requirements, people): the level of the skill that answers each
        requirement, 0 where none does.
        """
        rows = [
            [skill.level if skill.match else 0.0 for skill in candidate.skills]
            for candidate in self.scored
        ]
        return np.array(rows, dtype=float).reshape(len(self.scored), len(self.task.skills)).T

    @cached_property
    def hours(self) -> NDArray[np.float64]:
        """Hours of each person's capacity in the task's window, leave taken off."""
        regular: dict[
            int, float
        ] = {}  # who keeps the same hours and has no leave has the same share of the window
        found = np.empty(len(self.scored))
        for n, person in enumerate(self.people):
            if person.leave or person.available_from or person.available_until:
                found[n] = capacity_hours(person, *self.window)
                continue
            s = int(self.schedule[n])
            if s not in regular:
                regular[s] = capacity_hours(person, *self.window) / person.capacity_hours
            found[n] = regular[s] * person.capacity_hours
        return found

    @cached_property
    def hours_without_leave(self) -> NDArray[np.float64]:
        bare = {"leave": (), "available_from": None, "available_until": None}
        return np.array(
            [capacity_hours(person.model_copy(update=bare), *self.window) for person in self.people]
        )

    @cached_property
    def schedules(self) -> tuple[Schedule, ...]:
        """The different regular hours that people keep."""
        return tuple(dict.fromkeys(self._kept))

    @cached_property
    def _kept(self) -> list[Schedule]:
        return [Schedule.of(person) for person in self.people]

    @cached_property
    def schedule(self) -> NDArray[np.int64]:
        """Each person's index in `schedules`."""
        place = {schedule: n for n, schedule in enumerate(self.schedules)}
        return np.array([place[schedule] for schedule in self._kept], dtype=np.int64)

    @cached_property
    def collaborators(self) -> NDArray[np.int64]:
        """Pairs of people who have worked together: shape (pairs, 2)."""
        place = self.index
        pairs = [
            (place[a], place[b]) for a, b in self.history.together if a in place and b in place
        ]
        return np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)

    def share(self, size: int) -> float:
        """Hours of each member of a team of this size."""
        return self.task.estimated_hours / size

    @cached_property
    def _after(self) -> dict[tuple[int, bool], NDArray[np.float64]]:
        return {}

    def after(self, size: int, availability: bool = True) -> NDArray[np.float64]:
        """Everyone's workload in percent with their share of the task added; +inf for
        who has no time in its window.
        """
        if (size, availability) not in self._after:
            hours = self.hours if availability else self.hours_without_leave
            with np.errstate(divide="ignore"):
                added = 100 * np.where(hours > 0, self.share(size) / hours, np.inf)
            self._after[size, availability] = np.asarray(self.workload + added)
        return self._after[size, availability]

    def covers(self, demands: Demands) -> NDArray[np.bool_]:
        """Shape (requirements, people): who has each required skill at the demanded
        level.
        """
        needed = np.array(demands.levels).reshape(-1, 1)
        return np.asarray((self.level >= needed) & (self.level > 0))

    def overlap(self, members: Sequence[int]) -> Overlap:
        """The working time that these people (indices) share in the task's window."""
        return overlap(frozenset(self.schedules[self.schedule[n]] for n in members), *self.window)

    def sizes(self, demands: Demands) -> range:
        return range(demands.least, min(demands.most, len(self.scored), MOST_TEAM) + 1)
