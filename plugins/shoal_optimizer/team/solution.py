"""What a search for a team returns."""

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["optimal", "feasible", "infeasible", "unknown"]


@dataclass(frozen=True)
class Team:
    """A team for a task.

    Attributes:
        members: Columns of the staffing problem, by score; the lead comes first.
        objective: The value that was minimized.
    """

    members: tuple[int, ...]
    objective: float


@dataclass(frozen=True)
class TeamSolution:
    """The outcome of a search.

    Attributes:
        status: "optimal" and "infeasible" are proved. "feasible" is the best team when
            the time was up, "unknown" no team by then.
        team: The best team found.
        bound: No team has a lower objective.
        seconds: Wall time of the search.
    """

    status: Status
    team: Team | None
    bound: float | None
    seconds: float = field(default=0.0, compare=False)

    @property
    def gap(self) -> float | None:
        """Distance from objective to bound, relative to the objective."""
        if self.team is None or self.bound is None:
            return None
        return max(0.0, self.team.objective - self.bound) / max(abs(self.team.objective), 1e-9)
