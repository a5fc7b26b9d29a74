"""Committed work over time, against a linear program and by examples."""

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_optimizer.calendar import Calendar
from shoal_optimizer.records import Person, Task

_spec = importlib.util.spec_from_file_location("checker", Path(__file__).with_name("checker.py"))
assert _spec and _spec.loader
checker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checker)

NOW = datetime(2026, 6, 1, tzinfo=UTC)  # a Monday
LIMIT = 80.0


def assigned(id: str, hours: float, start: float, end: float, **fields: Any) -> Task:
    """A task of `ana`; start and end in days from 1 June."""
    return Task.model_validate(
        {
            "id": id,
            "estimated_hours": hours,
            "start": NOW + timedelta(days=start),
            "deadline": NOW + timedelta(days=end),
            "state": "assigned",
            "team": ["ana"],
            "assigned_at": NOW,
        }
        | fields
    )


def free(calendar: Calendar, start: float, end: float) -> float:
    window = [NOW + timedelta(days=start)], [NOW + timedelta(days=end)]
    return float(calendar.free_hours(*window, LIMIT)[0, 0, 0])


def load(calendar: Calendar, start: float, end: float) -> float:
    return float(calendar.loads(NOW + timedelta(days=start), NOW + timedelta(days=end), LIMIT)[0])


spans = st.tuples(st.integers(0, 12), st.integers(1, 8)).map(lambda s: (s[0], s[0] + s[1]))
jobs = st.lists(st.tuples(st.integers(1, 20), spans), max_size=4)


@settings(max_examples=60)
@given(jobs=jobs, span=spans, workload=st.sampled_from((0, 30, 90)))
def test_the_room_beside_commitments_is_what_a_linear_program_finds(
    jobs: list[tuple[int, tuple[int, int]]], span: tuple[int, int], workload: int
) -> None:
    ana = Person(id="ana", workload=workload)
    work = [assigned(f"t{n}", hours, *window) for n, (hours, window) in enumerate(jobs)]
    calendar = Calendar([ana], work, NOW)
    start, end = (NOW + timedelta(days=days) for days in span)
    held = [(task.start, task.deadline, task.estimated_hours) for task in work]
    expected = checker.room(ana, held, start, end, LIMIT)
    if expected is None:  # the commitments alone are too much
        return
    assert max(0.0, free(calendar, *span)) == pytest.approx(expected, abs=1e-6)
    hours = float(calendar.capacity(start, end)[0])
    if hours > 0 and workload < LIMIT:
        # What fits by hours is what fits by percent.
        room = (LIMIT - load(calendar, *span)) / 100 * hours
        assert room == pytest.approx(free(calendar, *span), abs=1e-6)


def test_work_of_another_week_takes_no_time() -> None:
    calendar = Calendar([Person(id="ana")], [assigned("t", 30, 0, 5)], NOW)
    assert load(calendar, 0, 5) == pytest.approx(75)
    assert (load(calendar, 7, 12), free(calendar, 7, 12)) == (0, 32)


def test_work_that_can_wait_leaves_room_before() -> None:
    calendar = Calendar([Person(id="ana")], [assigned("t", 40, 0, 12)], NOW)
    assert free(calendar, 0, 5) == pytest.approx(64 - 40)
    assert load(calendar, 0, 5) == pytest.approx(20)
    assert load(calendar, 0, 12) == pytest.approx(50)


def test_half_of_the_time_gone_leaves_half_of_the_work() -> None:
    later = NOW + timedelta(days=7)
    calendar = Calendar([Person(id="ana")], [assigned("t", 40, 0, 12)], later)
    [left] = calendar.commitments(0)
    assert left.hours == pytest.approx(20)
    gone = Calendar([Person(id="ana")], [assigned("t", 40, 0, 12)], NOW + timedelta(days=13))
    assert not gone.commitments(0)


def test_hours_are_shared_by_the_team_and_leave_makes_them_denser() -> None:
    leave = [{"from": "2026-06-03", "to": "2026-06-05"}]
    ana = Person.model_validate({"id": "ana", "leave": leave})
    calendar = Calendar([ana], [assigned("t", 20, 0, 5, team=["ana", "bo"])], NOW)
    assert load(calendar, 0, 5) == pytest.approx(100 * 10 / 16)
