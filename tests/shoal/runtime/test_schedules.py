"""When cron jobs are due."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fastapi import APIRouter
from hypothesis import given
from hypothesis import strategies as st

from shoal import Capability, Job
from shoal.runtime.configuration import Config
from shoal.runtime.plugins import fault_of
from shoal.runtime.schedules import last_due
from shoal.runtime.stream_worker import Worker


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-23T02:59:00+00:00", "2026-11-23T03:00:00+01:00"),
        ("2026-11-23T01:59:59+00:00", "2026-11-22T03:00:00+01:00"),
        ("2026-11-23T02:00:00+00:00", "2026-11-23T03:00:00+01:00"),
        ("2026-07-01T01:30:00+00:00", "2026-07-01T03:00:00+02:00"),
    ],
)
def test_a_schedule_is_local_time_in_its_zone(now: str, expected: str) -> None:
    job = Job("x", lambda job: None, cron="0 3 * * *", timezone="Europe/Berlin")
    assert last_due(job, ZoneInfo("UTC"), datetime.fromisoformat(now)) == datetime.fromisoformat(
        expected
    )


def test_a_job_without_a_zone_uses_the_platforms() -> None:
    job = Job("x", lambda job: None, cron="0 3 * * *")
    when = last_due(job, ZoneInfo("Asia/Jerusalem"), datetime(2026, 11, 23, 12, tzinfo=UTC))
    assert when is not None and when.utcoffset() and when.hour == 3


def test_a_job_without_a_schedule_is_never_due() -> None:
    assert last_due(Job("x", lambda job: None), ZoneInfo("UTC"), datetime.now(UTC)) is None


CHANGES = {  # the clock is put forward, and back, on these days in 2026
    "Europe/Warsaw": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Africa/Cairo": ("2026-04-24", "2026-10-29"),
    "America/Santiago": ("2026-09-06", "2026-04-04"),
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),
}
MINUTE = timedelta(minutes=1)


def minutes_of(day: str, zone: ZoneInfo, days: int = 1) -> list[datetime]:
    """All minutes of a day, in UTC."""
    start = datetime.fromisoformat(day)
    at, end = (
        time.replace(tzinfo=zone).astimezone(UTC) for time in (start, start + timedelta(days))
    )
    return [at + n * MINUTE for n in range((end - at) // MINUTE)]


def runs(cron: str, day: str, name: str, every: int = 1) -> list[datetime]:
    """When a scheduler that looks every so many minutes starts a job, in UTC."""
    zone = ZoneInfo(name)
    job, started = Job("x", lambda _: None, cron=cron, timezone=name), list[datetime]()
    first, *others = minutes_of(day, zone)[::every]
    last: Any = last_due(job, zone, first - MINUTE)
    for now in [first, *others]:
        due = last_due(job, zone, now)
        assert due is not None and due <= now
        if due.timestamp() > last.timestamp():  # as `JobRuns.schedule` has it
            started.append(due.astimezone(UTC))
            last = due
    return started


@pytest.mark.parametrize("name", CHANGES)
def test_daily_jobs_run_once_at_changes_of_the_clock(name: str) -> None:
    for day in CHANGES[name]:
        for hour in range(24):
            assert len(runs(f"30 {hour} * * *", day, name, every=30)) == 1, (day, hour)


@pytest.mark.parametrize(
    ("name", "shift"), [(name, 60 - 30 * ("Howe" in name)) for name in CHANGES]
)
def test_jobs_of_every_ten_minutes_follow_passing_time(name: str, shift: int) -> None:
    forward, back = CHANGES[name]
    assert len(runs("*/10 * * * *", forward, name, every=10)) == (24 * 60 - shift) // 10
    assert len(runs("*/10 * * * *", back, name, every=10)) == (24 * 60 + shift) // 10
    assert len(runs("*/10 * * * *", "2026-06-10", name, every=10)) == 144


FIELD = st.one_of(
    st.just("*"),
    st.sampled_from(["*/2", "*/5", "*/7"]),
    st.sets(st.integers(0, 23), min_size=1, max_size=3).map(
        lambda found: ",".join(map(str, sorted(found)))
    ),
)


def values(field: str, end: int) -> set[int]:
    if field.startswith("*"):
        return set(range(0, end, int(field[2:] or 1)))
    return set(map(int, field.split(",")))


def expected(minute: str, hour: str, day: str, zone: ZoneInfo) -> list[datetime]:
    """All due times from a day before to a day after, minute by minute."""
    passing = minutes_of(str(datetime.fromisoformat(day) - timedelta(1))[:10], zone, 3)
    fits = {(h, m) for h in values(hour, 24) for m in values(minute, 60)}
    shown = [at.astimezone(zone).replace(tzinfo=None) for at in passing]
    if minute[0] == "*" or hour[0] == "*":
        return [
            at for at, time in zip(passing, shown, strict=True) if (time.hour, time.minute) in fits
        ]
    due = dict[datetime, datetime]()
    for before, at, time in zip([shown[0], *shown], passing, shown, strict=False):
        skipped = [before + n * MINUTE for n in range(1, max((time - before) // MINUTE, 1))]
        for each in [*skipped, time]:
            if (each.hour, each.minute) in fits:
                due.setdefault(each, at)
    return sorted(set(due.values()))


@given(FIELD, FIELD, st.sampled_from(list(CHANGES)), st.integers(0, 1), st.integers(0, 1439))
def test_due_times_are_those_of_brute_force(
    minute: str, hour: str, name: str, change: int, offset: int
) -> None:
    zone, day = ZoneInfo(name), CHANGES[name][change]
    job = Job("x", lambda _: None, cron=f"{minute} {hour} * * *", timezone=name)
    all_due = expected(minute, hour, day, zone)
    noon = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=zone).astimezone(UTC)
    for now in (noon + offset * MINUTE + timedelta(seconds=s) for s in (0, 59)):
        found = last_due(job, zone, now)
        assert found is not None
        assert found.astimezone(UTC) == max(due for due in all_due if due <= now)


def test_a_restart_in_the_repeated_hour_starts_nothing_again() -> None:
    job = Job("x", lambda _: None, cron="30 2 * * *", timezone="Europe/Warsaw")
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    for passed in (0, 20, 40, 60, 75, 600):
        found = last_due(job, ZoneInfo("UTC"), first + passed * MINUTE)
        assert found is not None and found.astimezone(UTC) == first


@pytest.mark.parametrize(
    "cron", ["", "x", "* * * *", "0 0 30 2 *", "61 * * * *", "* * * * * *", "@daily"]
)
def test_a_schedule_that_is_never_due_is_a_fault(cron: str) -> None:
    job = Job("bad", lambda _: None, cron=cron)
    assert "cannot be read" in (
        fault_of(Capability("x", "X.", routes=lambda _: APIRouter(), jobs=(job,))) or ""
    )
    with pytest.raises(ValueError, match="cannot be read"):
        last_due(job, ZoneInfo("UTC"), datetime(2026, 5, 5, tzinfo=UTC))


@pytest.mark.anyio
async def test_one_unreadable_schedule_does_not_stop_the_others() -> None:
    jobs = {
        "a.bad": Job("bad", lambda _: None, cron="0 0 30 2 *"),
        "a.zone": Job("zone", lambda _: None, cron="* * * * *", timezone="Mars/Base"),
        "b.good": Job("good", lambda _: None, cron="* * * * *"),
    }
    scheduled = []
    runs = SimpleNamespace(schedule=lambda name, due: scheduled.append(name))
    platform: Any = SimpleNamespace(
        job_runs=runs, event_log=None, config=Config(), jobs=lambda: jobs
    )
    worker = Worker(platform)
    for _ in range(2):
        await worker._schedule()
    assert scheduled == ["b.good"] * 2
