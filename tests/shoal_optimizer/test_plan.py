"""Plans: they respect starts and deadlines, checked without checkpoints."""

import itertools
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import ortools.sat.python.cp_model  # noqa: F401  (its import should not count as planning)
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_optimizer.calendar import Calendar
from shoal_optimizer.parameters import OptimizerParameters
from shoal_optimizer.plan.bound import plan_bound
from shoal_optimizer.plan.greedy import greedy_plan
from shoal_optimizer.plan.neighborhoods import NeighborhoodSearch, plan_objective
from shoal_optimizer.plan.problem import PlanProblem, build_plan_problem
from shoal_optimizer.plan.report import make_plan
from shoal_optimizer.plan.solve import solve_one_each, solve_plan
from shoal_optimizer.plan.terms import compare, plan_terms, totals
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


def test_room_is_counted_while_tasks_can_be_worked_on() -> None:
    """The same week a year later has the same plan."""
    people = [Person(id="ba"), Person(id="bb", cost_per_hour=5), Person(id="bc", cost_per_hour=90)]
    plans = []
    for start in (0, 364):
        tasks = [task(f"t{n}", 8, start, start + 5) for n in range(4)]
        found = solve_plan(problem(tasks, people), time_limit=10)
        assert found.teams is not None
        plans.append((round(found.objective or 0, 6), found.teams.sum(axis=0).tolist()))
    assert plans[0] == plans[1]
    gap = [task("a", 8, 0, 5), task("b", 8, 364, 369)]
    week = problem([task("t", 8, 0, 5)], people).room
    assert problem(gap, people).room == pytest.approx(2 * week)


rows = st.lists(st.tuples(st.integers(1, 20), st.integers(2, 9)), min_size=1, max_size=4)
hours = st.lists(st.tuples(st.integers(8, 40), st.integers(0, 100)), min_size=1, max_size=4)


@settings(max_examples=40)
@given(rows=rows, workers=hours)
def test_one_each_is_the_best_of_all_such_plans(
    rows: list[tuple[int, int]], workers: list[tuple[int, int]]
) -> None:
    people = [
        Person(id=f"p{n}", capacity_hours=capacity, cost_per_hour=rate)
        for n, (capacity, rate) in enumerate(workers)
    ]
    case = problem([task(f"t{n}", *row[:1], None, row[1]) for n, row in enumerate(rows)], people)
    found = solve_one_each(case)
    best = float("inf")
    for chosen in itertools.product([None, *range(len(people))], repeat=len(rows)):
        members = [p for p in chosen if p is not None]
        teams = np.zeros(case.eligible.shape, bool)
        for t, p in enumerate(chosen):
            if p is not None:
                teams[t, p] = True
        if len(set(members)) == len(members) and not np.any(teams & ~case.eligible):
            best = min(best, plan_objective(case, teams))
    assert found.objective == pytest.approx(best) and found.bound == found.objective


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 3)), min_size=1, max_size=5),
    data=st.data(),
)
def test_the_terms_of_a_plan_add_up(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    people = [Person(id=f"p{n}", cost_per_hour=9 * n, workload=10 * n) for n in range(4)]
    tasks = [
        task(f"t{n}", hours, None, 9).model_copy(update={"team_size": TeamSize(least=1, most=most)})
        for n, (hours, most) in enumerate(rows)
    ]
    previous = {"t0": ["p0", "p1"], "t1": ["p2"]}
    history = History(together={("p0", "p1"): 1})
    calendar = Calendar(people, [], NOW)
    case = build_plan_problem(tasks, calendar, Matcher(), history, PARAMETERS, previous=previous)

    def drawn() -> Any:
        team = st.lists(st.booleans(), min_size=4, max_size=4)
        return np.array([data.draw(team) for _ in tasks])

    one, other = drawn(), drawn()
    assert all(type(value) is float for *_, value in plan_terms(case, one))
    now, before = totals(plan_terms(case, one)), totals(plan_terms(case, other))
    assert sum(now.values()) == pytest.approx(plan_objective(case, one))
    constraints, rows_ = compare(now, before)
    difference = plan_objective(case, one) - plan_objective(case, other)
    for listed in (constraints, rows_):
        assert sum(row["change"] for row in listed) == pytest.approx(difference)
    concealed = totals(plan_terms(case, one), {"t0"})
    assert sum(concealed.values()) == pytest.approx(sum(now.values()))
    assert all(key[1] != "t0" for key in concealed)


def test_a_plan_has_a_bound_however_short_the_time() -> None:
    people = [Person(id=f"p{n}", cost_per_hour=n) for n in range(10)]
    case = problem([task(f"t{n}", 6 + n % 5, None, 4 + n % 3) for n in range(40)], people)
    found = solve_plan(case, time_limit=0.01)
    assert found.bound is not None and found.objective is not None
    assert 0 < found.bound <= found.objective


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
