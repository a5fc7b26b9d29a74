"""The search for the best team: each size on its own, the most promising first."""

import math
import time
from collections.abc import Sequence

from .model import SCALE, TeamModel
from .objective import ObjectiveWeights, size_bound
from .solution import Team, TeamSolution
from .staffing_problem import Constraints, StaffingProblem

MIN_SECONDS = 0.005
"""With less time than this left, a size is not started."""


def find_team(
    problem: StaffingProblem,
    constraints: Constraints,
    weights: ObjectiveWeights,
    *,
    excluded: Sequence[frozenset[int]] = (),
    sizes: Sequence[int] | None = None,
    time_limit: float = 5.0,
    any_team: bool = False,
) -> TeamSolution:
    """Find the best team that satisfies the constraints.

    Every size is solved on its own, which makes means linear. Sizes whose bound cannot
    beat the best team so far are skipped.

    Args:
        problem: The task and everyone scored for it.
        constraints: What the team must satisfy.
        weights: What is minimized.
        excluded: Teams that are not to be found again, as sets of columns.
        sizes: The sizes to try; by default every one that is allowed.
        time_limit: Seconds of wall time.
        any_team: Whether to stop at the first team.

    Returns:
        The best team with its bound, or that there is none.
    """
    started = time.monotonic()
    best: Team | None = None
    bound, complete = math.inf, True
    tried = problem.sizes(constraints) if sizes is None else sizes
    bounds = {size: size_bound(problem, constraints, weights, size) for size in tried}
    for size in sorted(bounds, key=lambda size: bounds[size]):
        if math.isinf(bounds[size]):
            continue
        if best is not None and bounds[size] >= best.objective - 1 / SCALE:
            continue
        left = time_limit - (time.monotonic() - started)
        if left <= MIN_SECONDS:
            complete, bound = False, min(bound, bounds[size])
            continue
        upper = best.objective if best else math.inf
        model = TeamModel(problem, constraints, weights, size, excluded, upper)
        status, team, its_bound = model.solve(left)
        if status == "infeasible":
            continue
        complete &= status == "optimal"
        bound = min(bound, its_bound)
        if team is not None and (best is None or team.objective < best.objective):
            best = team
            if any_team:
                break
    seconds = time.monotonic() - started
    if best is None:
        known = None if complete or math.isinf(bound) else bound
        return TeamSolution("infeasible" if complete else "unknown", None, known, seconds)
    if complete:
        return TeamSolution("optimal", best, best.objective, seconds)
    return TeamSolution("feasible", best, min(bound, best.objective), seconds)
