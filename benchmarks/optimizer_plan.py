"""Teams, plans and one-to-one assignment in process, and how time grows.

python benchmarks/optimizer_plan.py [--plot docs/optimizer-growth.svg]
"""

import argparse
import random
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from common import machine

from shoal_optimizer import OptimizerParameters, solve_assignment
from shoal_optimizer.calendar import Calendar
from shoal_optimizer.plan.greedy import greedy_plan
from shoal_optimizer.plan.neighborhoods import plan_objective
from shoal_optimizer.plan.problem import build_plan_problem
from shoal_optimizer.plan.solve import solve_plan
from shoal_optimizer.records import Person, Task
from shoal_optimizer.skills import Matcher
from shoal_optimizer.success import History
from shoal_optimizer.team.objective import ObjectiveWeights
from shoal_optimizer.team.search import find_team
from shoal_optimizer.team.staffing_problem import Constraints, StaffingProblem

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
SKILLS = [f"skill {n}" for n in range(20)]
ZONES = (
    "Europe/London",
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "Asia/Kolkata",
    "Asia/Tokyo",
)
PARAMETERS = OptimizerParameters()


TIME_LIMIT = 20.0


def people(count: int, seed: int = 1) -> list[Person]:
    rng = random.Random(seed)
    return [
        Person(
            id=f"p{n}",
            skills={skill: rng.randint(1, 5) for skill in rng.sample(SKILLS, 4)},
            workload=rng.randint(0, 90),
            time_zone=rng.choice(ZONES),
            cost_per_hour=rng.randint(20, 150),
        )
        for n in range(count)
    ]


def tasks(
    count: int, seed: int = 2, skills: tuple[int, int] = (1, 3), hours: tuple[int, int] = (4, 40)
) -> list[Task]:
    rng = random.Random(seed)
    return [
        Task(
            id=f"t{n}",
            estimated_hours=rng.randint(*hours),
            deadline=NOW + timedelta(days=rng.randint(5, 40)),
            priority=rng.randint(1, 5),
            skills=[
                {"skill": skill, "level": rng.randint(1, 3)}
                for skill in rng.sample(SKILLS, rng.randint(*skills))
            ],
        )
        for n in range(count)
    ]


def find_teams(count: int) -> tuple[list[float], int]:
    """Seconds for each of 20 tasks among so many people, and how many were proved."""
    calendar, took, proved = Calendar(people(count), [], NOW), [], 0
    weights = ObjectiveWeights.from_parameters(PARAMETERS)
    for task in tasks(20, skills=(5, 5), hours=(60, 60)):
        began = time.perf_counter()
        problem = StaffingProblem.build(task, calendar, Matcher(), History(), PARAMETERS)
        found = find_team(problem, Constraints.from_task(task, PARAMETERS), weights)
        took.append(time.perf_counter() - began)
        proved += found.status in ("optimal", "infeasible")
    return took, proved


def measure_teams() -> dict[int, float]:
    """Print a row for each number of people; people → median milliseconds."""
    growth = {}
    for count in (100, 300, 1000, 3000):
        took, proved = find_teams(count)
        growth[count] = 1000 * statistics.median(took)
        p95 = 1000 * float(np.quantile(took, 0.95))
        print(
            f"one task, 5 skills, {count:>5} people: p50 {growth[count]:6.1f} ms, "
            f"p95 {p95:6.1f} ms, {proved} of {len(took)} proved"
        )
    return growth


def measure_plan(planned: list[Task], what: str, staff: int = 100) -> tuple[float, float, float]:
    """Plan and print a row; the objectives of first and last plan, and the bound."""
    began = time.perf_counter()
    calendar = Calendar(people(staff), [], NOW)
    problem = build_plan_problem(planned, calendar, Matcher(), History(), PARAMETERS)
    first = plan_objective(problem, greedy_plan(problem))
    first_after = time.perf_counter() - began
    found = solve_plan(problem, time_limit=TIME_LIMIT)
    last_after = time.perf_counter() - began
    assert found.gap is not None and found.teams is not None
    assert found.objective is not None and found.bound is not None
    print(
        f"{what} × {staff} people: first plan {first:.1f} after {first_after:.2f} s; "
        f"{found.status} {found.objective:.1f} after {last_after:.1f} s, bound {found.bound:.1f}, "
        f"gap {100 * found.gap:.2f} %, "
        f"{int((~found.teams.any(axis=1)).sum())} tasks unassigned"
    )
    return first, found.objective, found.bound


def measure_one_to_one() -> None:
    cost = np.random.default_rng(0).random((1000, 1000))
    took = []
    for _ in range(5):
        began = time.perf_counter()
        solve_assignment(cost, np.ones_like(cost), np.ones(1000))
        took.append(time.perf_counter() - began)
    print(f"one-to-one 1000 × 1000: {statistics.median(took):.3f} s")


def plot(
    growth: dict[int, float], by_tasks: dict[int, tuple[float, float, float]], path: Path
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (team, plan) = pyplot.subplots(1, 2, figsize=(11, 4))
    team.loglog(list(growth), list(growth.values()), marker="o")
    team.yaxis.set_minor_formatter("{x:g}")
    title = "The best team for one task with five skills, proved"
    team.set(xlabel="people", ylabel="ms (median)", title=title)
    for name, values in zip(
        ("greedy plan", f"best after {TIME_LIMIT:g} s", "bound"),
        zip(*by_tasks.values(), strict=True),
        strict=True,
    ):
        plan.loglog(list(by_tasks), values, marker="o", label=name)
    plan.set(xlabel="tasks", ylabel="objective", title="A plan of many tasks for 100 people")
    plan.legend()
    for axes, ticks in ((team, growth), (plan, by_tasks)):
        axes.set_xticks(list(ticks), [f"{tick:,}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(True, which="both", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    print(machine())
    find_teams(50)  # warm up
    growth = measure_teams()
    for hours in ((2, 12), (4, 40)):
        measure_plan(tasks(200, hours=hours), f"200 tasks of {hours[0]} to {hours[1]} hours")
    by_tasks = {
        count: measure_plan(tasks(count), f"{count:>4} tasks")
        for count in (50, 100, 200, 300, 400, 700, 1000)
    }
    measure_plan(tasks(1000), "1000 tasks", 300)
    measure_one_to_one()
    if options.plot:
        plot(growth, by_tasks, options.plot)


if __name__ == "__main__":
    main()
