"""Why tasks of a plan have no team, in words."""

from .problem import Booleans, PlanProblem

MAX_RIVALS = 3
"""Tasks that are named as the reason why another is unassigned."""
BUSY = "everyone who could do it is busy until its deadline"


def rivals(problem: PlanProblem, teams: Booleans, t: int) -> str:
    """Which tasks occupy the people who could do this one, the most important first."""
    able = problem.has_time[t]
    if problem.tasks[t].skills:
        able = able & problem.covers[t].any(axis=0)
    if able.any() and (problem.pinned[t][able] < 0).all():
        return "everyone who could do it is pinned out of it"
    able = able & (problem.pinned[t] >= 0)
    occupied = (teams & able[None, :]).any(axis=1).nonzero()[0].tolist()
    costs = problem.unassigned_costs
    heavier = sorted((r for r in occupied if costs[r] >= costs[t]), key=lambda r: -costs[r])
    names = [problem.tasks[r].label for r in (heavier or occupied)[:MAX_RIVALS]]
    return f"{BUSY}, with {', '.join(names)}" if names else BUSY
