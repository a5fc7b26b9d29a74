"""Teams: small problems against enumeration, by an independent checker."""

import importlib.util
from collections.abc import Set
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal_optimizer.calendar import Calendar
from shoal_optimizer.parameters import OptimizerParameters
from shoal_optimizer.records import Person, Task, TeamSize
from shoal_optimizer.skills import Matcher
from shoal_optimizer.success import History
from shoal_optimizer.team.conflicts import find_conflict
from shoal_optimizer.team.objective import ObjectiveWeights
from shoal_optimizer.team.relaxations import find_relaxations
from shoal_optimizer.team.rules import find_violations
from shoal_optimizer.team.search import find_team
from shoal_optimizer.team.staffing_problem import Constraints, StaffingProblem
from shoal_optimizer.team.why import explain_absence

_spec = importlib.util.spec_from_file_location("checker", Path(__file__).with_name("checker.py"))
assert _spec and _spec.loader
checker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checker)

NOW = datetime(2026, 3, 23, 0, 0, tzinfo=UTC)  # a Monday; Europe's clocks change on the 29th
PARAMETERS = OptimizerParameters()
SKILLS = ("python", "rust", "design")

people = st.lists(
    st.builds(
        dict,
        skills=st.dictionaries(st.sampled_from(SKILLS), st.integers(1, 5), max_size=3),
        workload=st.integers(0, 90),
        time_zone=st.sampled_from(
            ("Europe/Lisbon", "America/New_York", "Asia/Tokyo", "Europe/Berlin")
        ),
        working_hours=st.sampled_from((("09:00", "17:00"), ("07:00", "15:30"), ("12:00", "20:00"))),
        cost_per_hour=st.integers(0, 200),
        leave=st.sampled_from(
            (
                (),
                ({"from": "2026-03-24", "to": "2026-03-26"},),
                ({"from": "2026-03-01", "to": "2026-05-01"},),
            )
        ),
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: [Person.model_validate(row | {"id": f"p{n}"}) for n, row in enumerate(rows)])
tasks = st.builds(
    lambda hours, days, skills, size: Task.model_validate(
        {
            "id": "t",
            "estimated_hours": hours,
            "deadline": NOW + timedelta(days=days),
            "skills": skills,
            "team_size": {"min": min(size), "max": max(size)},
        }
    ),
    st.integers(1, 60),
    st.integers(2, 9),
    st.lists(
        st.fixed_dictionaries(
            {
                "skill": st.sampled_from(SKILLS),
                "level": st.integers(1, 4),
                "people": st.integers(1, 2),
            }
        ),
        max_size=2,
        unique_by=lambda need: need["skill"],
    ),
    st.tuples(st.integers(1, 3), st.integers(1, 4)),
)
known = st.sets(
    st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda pair: pair[0] < pair[1]),
    max_size=4,
)


def staffing_problem(
    task: Task,
    team: list[Person],
    together: Set[tuple[int, int]] = frozenset(),
) -> StaffingProblem:
    ids = {person.id for person in team}
    pairs = {(f"p{a}", f"p{b}"): 1 for a, b in together if {f"p{a}", f"p{b}"} <= ids}
    return StaffingProblem.build(
        task, Calendar(team, [], NOW), Matcher(), History(together=pairs), PARAMETERS
    )


wishes = st.dictionaries(st.integers(0, 4), st.booleans(), max_size=2)
"""The place of a person → whether they must, or must not, be in the team."""


def wished(task: Task, team: list[Person], wishes: dict[int, bool]) -> Constraints:
    include, exclude = (
        frozenset(n for n, wish in wishes.items() if wish == wanted and n < len(team))
        for wanted in (True, False)
    )
    constraints = Constraints.from_task(task, PARAMETERS)
    return replace(constraints, include=include, exclude=exclude)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(team=people, task=tasks, together=known, wishes=wishes)
def test_the_team_found_is_the_best_of_all_teams(
    team: list[Person], task: Task, together: set[tuple[int, int]], wishes: dict[int, bool]
) -> None:
    case = staffing_problem(task, team, together)
    constraints = wished(task, team, wishes)
    found = find_team(case, constraints, ObjectiveWeights.from_parameters(PARAMETERS))
    every = [
        candidate
        for candidate in checker.teams(task, team, PARAMETERS, NOW)
        if all((team[n] in candidate) == wish for n, wish in wishes.items() if n < len(team))
    ]
    if not every:
        assert found.status == "infeasible" and found.team is None
        return
    pairs = {frozenset((f"p{a}", f"p{b}")) for a, b in together}
    best = min(checker.value(task, candidate, team, pairs, PARAMETERS, NOW) for candidate in every)
    assert found.status == "optimal" and found.team is not None and found.gap == 0
    mine = [team[n] for n in found.team.members]
    assert checker.allowed(task, mine, PARAMETERS, NOW)
    assert find_violations(task, Calendar(mine, [], NOW), Matcher(), PARAMETERS) == []
    assert found.team.objective == pytest.approx(
        checker.value(task, mine, team, pairs, PARAMETERS, NOW)
    )
    assert found.team.objective == pytest.approx(best, abs=2e-5)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(team=people, task=tasks)
def test_alternatives_list_every_team_once(team: list[Person], task: Task) -> None:
    case, constraints, shown = (
        staffing_problem(task, team),
        Constraints.from_task(task, PARAMETERS),
        [],
    )
    while (
        found := find_team(
            case, constraints, ObjectiveWeights.from_parameters(PARAMETERS), excluded=shown
        )
    ).team is not None:
        shown.append(frozenset(found.team.members))
    assert found.status == "infeasible"
    expected = {
        frozenset(person.id for person in candidate)
        for candidate in checker.teams(task, team, PARAMETERS, NOW)
    }
    assert sorted(
        map(sorted, ({case.people[n].id for n in members} for members in shown))
    ) == sorted(map(sorted, expected))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(team=people, task=tasks, wishes=wishes)
def test_a_conflict_means_no_team_and_relaxations_allow_one(
    team: list[Person], task: Task, wishes: dict[int, bool]
) -> None:
    case, constraints = staffing_problem(task, team), wished(task, team, wishes)
    clash = find_conflict(case, constraints)
    assert (clash is None) == any(
        all((team[n] in candidate) == wish for n, wish in wishes.items() if n < len(team))
        for candidate in checker.teams(task, team, PARAMETERS, NOW)
    )
    if clash is not None:
        assert clash.verified and clash.message
        for way in find_relaxations(case, constraints):
            if way.change == "workload_limit":
                loose = OptimizerParameters(workload_limit=way.amount)
                assert checker.allowed(task, [p for p in team if p.id in way.team], loose, NOW)
            if way.change == "deadline":
                later = task.model_copy(
                    update={"deadline": task.deadline + timedelta(days=way.amount)}
                )
                assert checker.allowed(
                    later, [p for p in team if p.id in way.team], PARAMETERS, NOW
                )


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(team=people, task=tasks, data=st.data())
def test_absence_is_explained_by_teams_that_are_the_best(
    team: list[Person], task: Task, data: st.DataObject
) -> None:
    case, constraints = staffing_problem(task, team), Constraints.from_task(task, PARAMETERS)
    person = data.draw(st.integers(0, len(team) - 1))
    answer = explain_absence(case, constraints, person)
    every = checker.teams(task, team, PARAMETERS, NOW)
    theirs = [each for each in every if team[person] in each]
    assert (answer["best"] is None, answer["team"] is None) == (not every, not theirs)
    if not theirs:
        assert answer["conflict"] or not case.candidates
        return

    def least(teams: list[tuple[Person, ...]]) -> float:
        return min(checker.value(task, each, team, set(), PARAMETERS, NOW) for each in teams)

    assert sum(row["best"] for row in answer["terms"]) == pytest.approx(least(every), abs=2e-5)
    assert sum(row["team"] for row in answer["terms"]) == pytest.approx(least(theirs), abs=2e-5)
    assert ("is in the best team" in answer["why"]) == (team[person].id in answer["best"])


def test_pairs_of_changes_are_as_small_as_they_can_be() -> None:
    """Two people have too few hours in the time, and nobody has the level."""
    team = [
        Person(id=f"p{n}", skills={"python": 3} if n < 2 else {}, workload=30) for n in range(6)
    ]
    task = Task.model_validate(
        {
            "id": "t",
            "estimated_hours": 40,
            "deadline": NOW + timedelta(days=2),
            "skills": [{"skill": "python", "level": 5, "people": 3}],
            "team_size": {"min": 1, "max": 2},
        }
    )
    case, constraints = staffing_problem(task, team), Constraints.from_task(task, PARAMETERS)
    ways = find_relaxations(case, constraints)
    assert ways and all(way.change == "several" for way in ways)
    messages = [way.message for way in ways]
    sizes = [size for size in range(3, 7) for text in messages if f"team of {size}" in text]
    for way in ways:
        assert len(way.team) <= 6 and "do without python" in way.message
    later = [text for text in messages if "deadline" in text]
    needed = next(
        days
        for days in range(1, 29)
        if checker.teams(
            task.model_copy(update={"skills": (), "deadline": NOW + timedelta(days=2 + days)}),
            team,
            PARAMETERS,
            NOW,
        )
    )
    day = NOW + timedelta(days=2 + needed)
    assert later and f"{day.day} {day:%b}" in later[0]
    smallest = next(
        size
        for size in range(3, 7)
        if checker.teams(
            task.model_copy(update={"skills": (), "team_size": TeamSize(least=1, most=size)}),
            team,
            PARAMETERS,
            NOW,
        )
    )
    assert sizes == [smallest]


def worker(id: str, zone: str) -> Person:
    return Person(id=id, time_zone=zone, skills={"python": 3})


@pytest.mark.parametrize(
    ("start", "expected"),
    [(datetime(2026, 3, 2, tzinfo=UTC), 3.0), (datetime(2026, 3, 16, tzinfo=UTC), 4.0)],
)
def test_shared_hours_follow_daylight_saving(start: datetime, expected: float) -> None:
    """Clocks change in New York before they do in London: an hour more is shared."""
    task = Task(
        id="t",
        estimated_hours=4,
        deadline=start + timedelta(days=4),
        team_size={"min": 2, "max": 2},
    )
    pair = [worker("a", "Europe/London"), worker("b", "America/New_York")]
    case = StaffingProblem.build(task, Calendar(pair, [], start), Matcher(), History(), PARAMETERS)
    assert case.overlap([0, 1]).hours == expected
    found = find_team(case, Constraints.from_task(task, PARAMETERS), ObjectiveWeights())
    assert (found.team is not None) == (expected >= 4)


def test_a_conflict_names_the_skill_and_the_limit() -> None:
    task = Task(id="t", estimated_hours=4, deadline=NOW + timedelta(days=4), skills=["Rust"])
    busy = [Person(id="a", skills={"Rust": 4}, workload=79), Person(id="b", skills={"Go": 4})]
    clash = find_conflict(staffing_problem(task, busy), Constraints.from_task(task, PARAMETERS))
    assert (
        clash is not None
        and clash.message == "nobody with Rust would stay below 80 % before 27 Mar 2026"
    )


def test_work_past_midnight_counts_on_the_day_it_begins() -> None:
    night = Person(id="n", working_hours=[{"start": time(22), "end": time(6)}], time_zone="UTC")
    task = Task(id="t", estimated_hours=4, deadline=NOW + timedelta(days=4))
    assert staffing_problem(task, [night]).overlap([0]).hours == 8
