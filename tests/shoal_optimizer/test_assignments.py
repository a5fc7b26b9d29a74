"""Marks of broken assignments: true breaks only, whenever they are looked at."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_optimizer.assignments import broken_rules
from shoal_optimizer.calendar import Calendar
from shoal_optimizer.parameters import OptimizerParameters
from shoal_optimizer.records import Person, Task
from shoal_optimizer.skills import Matcher
from shoal_optimizer.tasks import with_team
from shoal_optimizer.team.rules import find_violations

NOW = datetime.now(UTC)
MONDAY = (NOW + timedelta(days=7 - NOW.weekday())).replace(hour=9, minute=0)
PARAMETERS = OptimizerParameters()
PEOPLE = {person.id: person for person in (Person(id="ana"), Person(id="bo", workload=30))}


def task(n: int, hours: float, start: datetime, days: int, **fields: Any) -> Task:
    window = {"start": start, "deadline": start + timedelta(days=days)}
    return Task.model_validate({"id": f"t{n}", "estimated_hours": hours} | window | fields)


offers = st.tuples(
    st.integers(1, 12),
    st.sampled_from((0, 0, 0, 24)),
    st.integers(1, 4),
    st.sampled_from((["ana"], ["bo"], ["ana", "bo"])),
    st.sampled_from((0, 1, 2.5, 5, 24)),
)


@settings(max_examples=60)
@given(rows=st.lists(offers, min_size=2, max_size=10))
def test_accepting_what_fits_later_breaks_nothing_accepted_before(rows: list[Any]) -> None:
    assigned: list[Task] = []
    moment = MONDAY
    for n, (hours, wait, days, team, passed) in enumerate(rows):
        moment += timedelta(hours=passed)
        new = task(n, hours, moment + timedelta(hours=wait), days)
        theirs = [other for other in assigned if not set(other.team).isdisjoint(team)]
        calendar = Calendar([PEOPLE[id] for id in team], theirs, moment)
        if not find_violations(new, calendar, Matcher(), PARAMETERS):
            assigned.append(with_team(new, team, moment))
    live = [each for each in assigned if each.deadline > moment]
    marks = {each.id: broken_rules(each, PEOPLE, assigned, PARAMETERS) for each in live}
    assert not any(marks.values())


def test_work_beyond_what_remains_later_breaks_the_earlier() -> None:
    first = with_team(task(0, 6, MONDAY, 1), ["ana"], MONDAY)
    moment = MONDAY + timedelta(hours=2)
    second = with_team(task(1, 2, moment, 1), ["ana"], moment)
    forced = with_team(task(2, 2, moment, 1), ["ana"], moment, waived=["workload:ana"])
    marks = [broken_rules(t, PEOPLE, [first, second, forced], PARAMETERS) for t in (first, second)]
    assert broken_rules(first, PEOPLE, [first], PARAMETERS) == ()
    assert all(marks)


@pytest.mark.parametrize("accept_similar", [False, True])
def test_skills_break_nothing_where_similar_ones_are_accepted(accept_similar: bool) -> None:
    """Whether two are near takes embeddings, which a later check does not have."""
    parameters = OptimizerParameters(accept_similar=accept_similar)
    people = {"ana": Person(id="ana", skills={"French": 4})}
    german = with_team(task(0, 6, MONDAY, 2, skills=["German"]), ["ana"], MONDAY)
    broken = broken_rules(german, people, [german], parameters)
    assert [("German" in message) for message in broken] == ([] if accept_similar else [True])
    grown = german.model_copy(update={"estimated_hours": 60.0})
    assert any("limit" in message for message in broken_rules(grown, people, [grown], parameters))
    assert broken_rules(german, {}, [german], parameters) == ("ana was deleted",)
