"""Plans and one-to-one assignment, in process: 200 tasks × 100 people, 1000 × 1000, and
how time grows.

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
from shoal_optimizer.plan.greedy import greedy_plan
from shoal_optimizer.plan.problem import build_plan_problem
from shoal_optimizer.plan.solve import plan_objective, solve_plan
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


def people(count: int, seed: int = 1) -> list[Person]:
    rng = random.Random(seed)
    return [
        Person(
            id=f"p{n}", skills={skill: rng.randint(1, 5) for skill in rng.sample(SKILLS, 4)}, workload=rng.randint(0, 90),
            time_zone=rng.choice(ZONES), cost_per_hour=rng.randint(20, 150),
        )
        for n in range(count)
    ]  # fmt: skip


def tasks(
    count: int, seed: int = 2, skills: tuple[int, int] = (1, 3), hours: tuple[int, int] = (4, 40)
) -> list[Task]:
    rng = random.Random(seed)
    return [
        Task(
            id=f"t{n}", estimated_hours=rng.randint(*hours), deadline=NOW + timedelta(days=rng.randint(5, 40)), priority=rng.randint(1, 5),
            skills=[{"skill": skill, "level": rng.randint(1, 3)} for skill in rng.sample(SKILLS, rng.randint(*skills))],
        )
        for n in range(count)
    ]  # fmt: skip


def one_task(count: int) -> tuple[list[float], int]:
    everybody, took, proved = people(count), [], 0
    for task in tasks(20, skills=(5, 5), hours=(60, 60)):
        began = time.perf_counter()
        problem = StaffingProblem.build(task, everybody, Matcher(), History(), PARAMETERS, NOW)
        found = find_team(
            problem,
            Constraints.from_task(task, PARAMETERS),
            ObjectiveWeights.from_parameters(PARAMETERS),
        )
        took.append(time.perf_counter() - began)
        proved += found.status in ("optimal", "infeasible")
    return took, proved


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    print(machine())
    one_task(50)

    growth = {}
    for count in (100, 300, 1000, 3000):
        took, proved = one_task(count)
        growth[count] = 1000 * statistics.median(took)
        p95 = 1000 * float(np.quantile(took, 0.95))
        print(
            f"one task, 5 skills, {count:>5} people: p50 {growth[count]:6.1f} ms, p95 {p95:6.1f} ms, {proved} of {len(took)} proved"
        )

    for hours in ((2, 12), (4, 40)):
        began = time.perf_counter()
        problem = build_plan_problem(
            tasks(200, hours=hours), people(100), Matcher(), History(), PARAMETERS, NOW
        )
        first = greedy_plan(problem)
        seconds = time.perf_counter() - began
        found = solve_plan(problem, time_limit=20)
        assert found.gap is not None and found.teams is not None
        print(
            f"200 tasks of {hours[0]} to {hours[1]} hours × 100 people: first plan {plan_objective(problem, first):.1f} after {seconds:.2f} s; "
            f"{found.status} {found.objective:.1f} after {time.perf_counter() - began:.1f} s, gap {100 * found.gap:.2f} %, "
            f"{int((~found.teams.any(axis=1)).sum())} left out"
        )

    by_tasks = {}
    for count in (25, 50, 100, 200, 400):
        began = time.perf_counter()
        problem = build_plan_problem(
            tasks(count), people(100), Matcher(), History(), PARAMETERS, NOW
        )
        greedy_plan(problem)
        first_after = time.perf_counter() - began
        found = solve_plan(problem, time_limit=20)
        by_tasks[count] = (first_after, time.perf_counter() - began)
        print(
            f"{count:>4} tasks × 100 people: first plan after {first_after:.2f} s, {found.status} after {by_tasks[count][1]:.1f} s, "
            f"gap {100 * (found.gap or 0):.2f} %, "
            f"{int((~found.teams.any(axis=1)).sum())} left out"
        )

    cost = np.random.default_rng(0).random((1000, 1000))
    took = []
    for _ in range(5):
        began = time.perf_counter()
        solve_assignment(cost, np.ones_like(cost), np.ones(1000))
        took.append(time.perf_counter() - began)
    print(f"one-to-one 1000 × 1000: {statistics.median(took):.3f} s")

    if options.plot:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, (team, plan) = pyplot.subplots(1, 2, figsize=(11, 4))
        team.loglog(list(growth), list(growth.values()), marker="o")
        team.yaxis.set_minor_formatter("{x:g}")
        team.set(
            xlabel="people",
            ylabel="ms (median)",
            title="The best team for one task with five skills, proved",
        )
        plan.loglog(
            list(by_tasks),
            [first for first, _ in by_tasks.values()],
            marker="o",
            label="first plan",
        )
        plan.loglog(
            list(by_tasks),
            [whole for _, whole in by_tasks.values()],
            marker="s",
            label="proved, or the limit of 20 s",
        )
        plan.set(xlabel="tasks", ylabel="s", title="A plan of many tasks for 100 people")
        plan.legend()
        for axes, ticks in ((team, growth), (plan, by_tasks)):
            axes.set_xticks(list(ticks), [f"{tick:,}" for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.grid(True, which="both", alpha=0.3)
        figure.tight_layout()
        figure.savefig(options.plot, metadata={"Date": None})


if __name__ == "__main__":
    main()
