"""Working time and shared time, against a walk through time by quarters of an hour."""

import importlib.util
import random
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_optimizer.records import Leave, Person, WorkingHours
from shoal_optimizer.shared_time import overlap, share_enough
from shoal_optimizer.working_time import Shift, capacity_hours

_spec = importlib.util.spec_from_file_location("checker", Path(__file__).with_name("checker.py"))
assert _spec and _spec.loader
checker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checker)

# Each zone with a day near which its clocks change, or its date jumps.
ZONES = {
    "UTC": date(2026, 3, 1),
    "Europe/London": date(2026, 3, 29),
    "Europe/Berlin": date(2026, 10, 25),
    "Europe/Lisbon": date(2026, 3, 29),
    "America/New_York": date(2026, 3, 8),
    "America/Los_Angeles": date(2026, 11, 1),
    "America/St_Johns": date(2026, 11, 1),
    "America/Sao_Paulo": date(2018, 11, 4),
    "America/Santiago": date(2026, 4, 5),
    "America/Havana": date(2026, 3, 8),
    "Africa/Cairo": date(2026, 4, 24),
    "Africa/Casablanca": date(2026, 3, 22),
    "Asia/Tokyo": date(2026, 1, 1),
    "Asia/Kolkata": date(2026, 5, 1),
    "Asia/Kathmandu": date(2026, 5, 1),
    "Asia/Beirut": date(2026, 3, 29),
    "Australia/Lord_Howe": date(2026, 4, 5),
    "Pacific/Chatham": date(2026, 9, 27),
    "Pacific/Apia": date(2011, 12, 30),
    "Pacific/Honolulu": date(2026, 7, 1),
}


def at(quarter: int) -> time:
    return time(quarter // 4, quarter % 4 * 15)


stretches = st.lists(
    st.tuples(st.integers(0, 95), st.integers(0, 95))
    .filter(lambda pair: pair[0] != pair[1])
    .map(lambda pair: WorkingHours(start=at(pair[0]), end=at(pair[1]))),
    min_size=1,
    max_size=3,
)


def person(draw: Any, zone: str, near: date, id: str = "p") -> Person:
    away = draw(st.lists(st.tuples(st.integers(-8, 8), st.integers(0, 3)), max_size=2))
    from_day = draw(st.none() | st.integers(-8, 3))
    return Person(
        id=id,
        time_zone=zone,
        working_hours=tuple(draw(stretches)),
        working_days=draw(st.frozensets(st.integers(1, 7), min_size=1)),
        leave=tuple(
            Leave(start=near + timedelta(first), end=near + timedelta(first + days))
            for first, days in away
        ),
        available_from=None if from_day is None else near + timedelta(from_day),
    )


def window(draw: Any, near: date) -> tuple[datetime, datetime]:
    midnight = datetime.combine(near, time(), UTC)
    start = midnight + draw(st.integers(-5 * 96, 96)) * timedelta(minutes=15)
    return start, start + draw(st.integers(1, 6 * 96)) * timedelta(minutes=15)


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=6)
@given(data=st.data())
def test_capacity_is_what_a_walk_through_time_counts(zone: str, data: Any) -> None:
    someone, (start, end) = person(data.draw, zone, ZONES[zone]), window(data.draw, ZONES[zone])
    expected = checker.free_hours(someone, start, end)
    assert capacity_hours(someone, start, end) == pytest.approx(expected)


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=6)
@given(data=st.data())
def test_shared_hours_are_what_a_walk_through_time_counts(zone: str, data: Any) -> None:
    near = ZONES[zone]
    others = data.draw(st.lists(st.sampled_from(list(ZONES)), min_size=1, max_size=2))
    team = [person(data.draw, name, near, f"p{n}") for n, name in enumerate([zone, *others])]
    start, end = window(data.draw, near)
    shifts = [Shift.of(each) for each in team]
    found = overlap(frozenset(shifts), start, end)
    assert found.days == len(checker.days_in_common(team, start, end)[0])
    assert found.hours == pytest.approx(checker.common_hours(team, start, end))
    distinct = list(dict.fromkeys(shifts))
    enough, some = share_enough(distinct, start, end, 4)
    for a, one in enumerate(distinct):
        for b, other in enumerate(distinct):
            pair = [team[shifts.index(one)], team[shifts.index(other)]]
            days, within = checker.days_in_common(pair, start, end)
            assert enough[a, b] == (checker.common_hours(pair, start, end) >= 4)
            assert some[a, b] == (min(within, max(days.values(), default=0.0)) >= 4)


def capacity_of(hours: list[tuple[int, int]], **fields: Any) -> float:
    """Hours of a capacity of 40 in a week from a Monday."""
    monday = datetime(2026, 6, 1, tzinfo=UTC)
    working = tuple(WorkingHours(start=time(a), end=time(b)) for a, b in hours)
    someone = Person(id="p", working_hours=working, **fields)
    return capacity_hours(someone, monday, monday + timedelta(days=7))


def test_overlapping_stretches_count_once() -> None:
    assert capacity_of([(9, 17), (10, 12)]) == pytest.approx(40)


def test_leave_counts_where_stretches_cover_the_whole_day() -> None:
    day = Leave(start=date(2026, 6, 3), end=date(2026, 6, 3))
    every = frozenset(range(1, 8))
    whole = capacity_of([(8, 20), (20, 8)], working_days=every)
    less = capacity_of([(8, 20), (20, 8)], working_days=every, leave=(day,))
    assert whole == pytest.approx(40) and less == pytest.approx(40 * 6 / 7)


def test_two_common_stretches_of_a_day_add_up() -> None:
    split = (WorkingHours(start=time(8), end=time(10)), WorkingHours(start=time(17), end=time(19)))
    pair = frozenset({Shift.of(Person(id="a", working_hours=split)), Shift.of(Person(id="b"))})
    monday = datetime(2026, 6, 1, tzinfo=UTC)
    assert overlap(pair, monday, monday + timedelta(days=5)).hours == 1
    same = frozenset({Shift.of(Person(id="a", working_hours=split))})
    assert overlap(same, monday, monday + timedelta(days=5)).hours == 4


def test_hours_outside_of_the_window_are_not_shared_in_it() -> None:
    def works(id: str, start: int, end: int) -> Shift:
        hours = (WorkingHours(start=time(start), end=time(end)),)
        return Shift.of(Person(id=id, working_hours=hours))

    pair = frozenset({works("a", 9, 17), works("b", 13, 21)})
    monday = datetime(2027, 3, 8, tzinfo=UTC)
    begin, end = monday + timedelta(hours=9), monday + timedelta(hours=13.5)
    assert overlap(pair, begin, end).hours == 0.5
    assert not np.any(share_enough(sorted(pair, key=repr), begin, end, 4)[1][0, 1])
    assert overlap(pair, begin, end + timedelta(days=1)).hours == 4


def test_people_never_there_together_share_nothing() -> None:
    monday = datetime(2026, 6, 1, tzinfo=UTC)
    first = Leave(start=date(2026, 6, 1), end=date(2026, 6, 2))
    rest = Leave(start=date(2026, 6, 3), end=date(2026, 6, 5))
    pair = {Shift.of(Person(id=id, leave=(leave,))) for id, leave in (("a", first), ("b", rest))}
    found = overlap(frozenset(pair), monday, monday + timedelta(days=5))
    assert (found.hours, found.days) == (0, 0)


@pytest.mark.parametrize("years", [1, 3, 40])
def test_work_years_ahead_is_counted(years: int) -> None:
    start = datetime(2026 + years, 6, 1, tzinfo=UTC)
    days = random.Random(years).randint(7, 40)
    end = start + timedelta(days=days)
    assert capacity_hours(Person(id="p"), start, end) == pytest.approx(
        checker.free_hours(Person(id="p"), start, end)
    )
