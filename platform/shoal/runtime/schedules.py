"""When a cron job is due."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

from shoal.contract.capability import Job


def last_due(job: Job, default_zone: ZoneInfo, now: datetime) -> datetime | None:
    """When a job was last due, at or before `now`.

    Args:
        job: Its `cron` is read in its `timezone`.
        default_zone: The time zone of jobs that have none.
        now: A time with a zone.

    Returns:
        The time in the job's zone; None for a job without a schedule.
    """
    if job.cron is None:
        return None
    local = now.astimezone(ZoneInfo(job.timezone) if job.timezone else default_zone)
    due: datetime = croniter(job.cron, local + timedelta(microseconds=1)).get_prev(datetime)
    return due
