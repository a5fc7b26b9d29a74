"""Plans: they respect starts and deadlines, checked without checkpoints."""

import threading
from datetime import UTC, datetime, timedelta

import ortools.sat.python.cp_model  # noqa: F401  (its import should not count as planning)
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_optimizer.calendar import Calendar
from shoal_optimizer.parameters import OptimizerParameters
from shoal_optimizer.plan.bound import plan_bound
from shoal_optimizer.plan.greedy import greedy_plan
from shoal_optimizer.plan.neighborhoods import NeighborhoodSearch
from shoal_optimizer.plan.problem import PlanProblem, build_plan_problem
from shoal_optimizer.plan.report import make_plan
from shoal_optimizer.plan.solve import solve_plan
from shoal_optimizer.records import Person, Requirement, Task, TeamSize
from shoal_optimizer.skills import Matcher
from shoal_optimizer.success import History
from shoal_optimizer.team.rules import find_violations
from shoal_optimizer.working_time import capacity_hours

NOW = datetime(2026, 6, 1, 8, tzinfo=UTC)  # a Monday
PARAMETERS = OptimizerParameters()


def task(id: str, hours: float, start: float | None, end: float) -> Task:
    """A task for one; start and end in days from the morning of 1 June."""
    begins = None if start is None else NOW + timedelta(days=start)
    return Task.model_validate(
        {
            "id": id,
            "estimated_hours": hours,
            "start": begins,
            "deadline": NOW + timedelta(days=end),
            "team_size": 1,
        }
    )


def problem(tasks: list[Task], people: list[Person]) -> PlanProblem:
    calendar = Calendar(people, [], NOW)
    return build_plan_problem(tasks, calendar, Matcher(), History(), PARAMETERS)


def test_a_task_is_not_worked_on_before_its_start() -> None:
    ana = [Person(id="ana")]
    assert not solve_plan(
        problem([task("t", 30, 11, 12)], ana)
    ).teams.any()  # eight hours between the two
    early, a, b = task("early", 1, None, 10), task("a", 6, 11, 12), task("b", 6, 11, 12)
    case = problem([early, a, b], ana)
    for teams in (greedy_plan(case), solve_plan(case).teams):
        assert teams is not None and teams[0].any() and teams[1:].sum() == 1


windows = st.tuples(st.integers(1, 12), st.none() | st.integers(0, 18), st.integers(1, 14))


@settings(max_examples=60)
@given(rows=st.lists(windows, min_size=1, max_size=30), points=st.sampled_from((3, 12)))
def test_nobody_works_more_hours_than_they_have_between_dates(
    rows: list[tuple[int, int | None, int]], points: int
) -> None:
    """That is necessary and sufficient for work that can be interrupted."""
    people = [Person(id="ana"), Person(id="bo", workload=30, time_zone="Asia/Tokyo")]
    tasks = [
        task(f"t{n}", hours, start, (start or 0) + days)
        for n, (hours, start, days) in enumerate(rows)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shoal_optimizer.plan.problem.CHECKPOINTS", points)
        case = problem(tasks, people)
    for teams in (greedy_plan(case), solve_plan(case, time_limit=1).teams):
        assert teams is not None
        for p, person in enumerate(people):
            mine = [
                (*tasks[t].window(NOW), tasks[t].estimated_hours)
                for t in range(len(tasks))
                if teams[t, p]
            ]
            for since in {start for start, _, _ in mine}:
                for until in {end for _, end, _ in mine if end > since}:
                    lie = sum(
                        hours for start, end, hours in mine if start >= since and end <= until
                    )
                    assert (
                        lie
                        <= capacity_hours(person, since, until) * (80 - person.workload) / 100
                        + 1e-6
                    )


def test_contradicting_pins_are_named_within_the_time_limit() -> None:
    people = [Person(id=f"p{n}") for n in range(100)]
    tasks = [task(f"t{n}", 20, None, 20) for n in range(100)]
    pins = [{"task": f"t{n}", "person": f"p{n}", "pin": "in"} for n in range(100)] + [
        {"task": "t0", "person": "p1", "pin": "in"}
    ]

    def contradiction(limit: float) -> list[dict[str, str]]:
        options = {"pins": pins, "time_limit": limit}
        answer = make_plan(
            tasks,
            Calendar(people, [], NOW),
            Matcher(),
            History(),
            PARAMETERS,
            options,
            lambda objective, bound: None,
            threading.Event(),
        )
        assert answer["status"] == "infeasible"
        return list(answer["contradiction"])

    assert contradiction(60) == [{"task": "t0", "person": "p0"}, {"task": "t0", "person": "p1"}]
    assert {"task": "t0", "person": "p0"} in contradiction(0.5)


def test_equal_tasks_are_spread_over_equal_people() -> None:
    people = [Person(id=f"p{n}") for n in range(3)]
    tasks = [task(f"t{n}", 4, None, 20) for n in range(12)]
    found = solve_plan(problem(tasks, people), time_limit=10)
    assert found.teams is not None and found.teams.sum(axis=0).tolist() == [4, 4, 4]


def test_neighbourhoods_improve_the_greedy_plan_within_the_bound() -> None:
    people = [
        Person(id=f"p{n}", skills={"a": 3} if n % 2 else {"b": 3}, cost_per_hour=n)
        for n in range(14)
    ]
    wanted = (["a"], ["b"], ["a", "b"])
    tasks = [
        task(f"t{n}", 20 + n % 7, None, 4 + n % 3).model_copy(
            update={
                "skills": tuple(Requirement(skill=skill) for skill in wanted[n % 3]),
                "team_size": TeamSize(least=1, most=5),
                "priority": 1 + n % 5,
            }
        )
        for n in range(30)
    ]
    case = problem(tasks, people)
    search = NeighborhoodSearch(case, greedy_plan(case))
    before = search.objective()
    for _ in range(6):
        search.step()
    search.fill()
    assert plan_bound(case, 60) <= search.objective() < before
    for t, team in enumerate(search.teams):
        members = [people[p] for p in team.nonzero()[0]]
        if members:
            calendar = Calendar(members, [], NOW)
            assert find_violations(tasks[t], calendar, Matcher(), PARAMETERS) == []
