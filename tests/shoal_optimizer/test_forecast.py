"""The forecast of load: every hour of work is counted once, in the right week."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_optimizer.calendar import Calendar
from shoal_optimizer.forecast import Grouping, forecast
from shoal_optimizer.records import Person, Task

NOW = datetime(2026, 6, 3, 8, tzinfo=UTC)  # a Wednesday
windows = st.tuples(st.integers(1, 40), st.integers(0, 20), st.integers(1, 20))


def task(id: str, hours: float, start: float, days: float, **fields: object) -> Task:
    window = {"start": NOW + timedelta(days=start), "deadline": NOW + timedelta(days=start + days)}
    return Task.model_validate({"id": id, "estimated_hours": hours, **window, **fields})


@pytest.mark.parametrize("by", get_args(Grouping))
@settings(max_examples=20)
@given(rows=st.lists(windows, max_size=6))
def test_all_hours_are_in_some_week(by: Grouping, rows: list[tuple[int, int, int]]) -> None:
    people = [Person(id="ana", workload=20, skills={"Go": 3}), Person(id="bo", skills={"Go": 2})]
    team = {"state": "assigned", "team": ["ana", "bo"], "assigned_at": NOW}
    tasks = [task(f"t{n}", *row, **team) for n, row in enumerate(rows)]
    waiting = [task(f"u{n}", *row, skills=["go"]) for n, row in enumerate(rows)]
    found = forecast(Calendar(people, tasks, NOW), waiting, 8, by)
    hours = sum(row[0] for row in rows)
    assert len(found) == 8 * (2 if by == "person" else 1)
    assert sum(row["committed_hours"] for row in found) == pytest.approx(hours, abs=0.2)
    waited = 0 if by == "person" else hours
    assert sum(row["open_hours"] for row in found) == pytest.approx(waited, abs=0.2)


def test_a_week_has_its_hours() -> None:
    work = task("t", 10, 5, 7, state="assigned", team=["ana"], assigned_at=NOW)  # Mon 8 to Mon 8
    calendar = Calendar([Person(id="ana", workload=10)], [work], NOW)
    first, second, third = forecast(calendar, [], 3, "person")
    assert (first["week"], second["week"]) == ("2026-06-01", "2026-06-08")
    assert (first["capacity_hours"], second["capacity_hours"]) == (24, 40)
    assert (second["committed_hours"], third["committed_hours"]) == (10, 0)
    assert (first["load"], second["load"]) == (10, 35)
