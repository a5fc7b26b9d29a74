"""When cron jobs are due."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from shoal import Job
from shoal.runtime.schedules import last_due


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
