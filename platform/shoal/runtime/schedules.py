"""When a cron job is due.

At changes of the clock it is as with Debian's cron. A job whose minutes or hours begin
with `*` is due by the time that passes: every ten minutes is 138 times on a day of 23
hours and 150 times on one of 25. Any other is due once for each time on the clock: at
the end of an hour that is left out, in the first of two that are equal.
"""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from shoal.contract.capability import Job

NEAR = timedelta(hours=3)
"""More than any zone's clock is changed by."""


def last_due(job: Job, default_zone: ZoneInfo, now: datetime) -> datetime | None:
    """When a job was last due, at or before `now`.

    Args:
        job: Its `cron` is read in its `timezone`.
        default_zone: The time zone of jobs that have none.
        now: A time with a zone.

    Returns:
        The time in the job's zone; None for a job without a schedule.

    Raises:
        ValueError: The schedule cannot be read, or is never due.
    """
    if job.cron is None:
        return None
    zone = ZoneInfo(job.timezone) if job.timezone else default_zone
    now = now.astimezone(UTC)
    clock = now.astimezone(zone).replace(tzinfo=None)
    is_near = (now - NEAR).astimezone(zone).utcoffset() != (now + NEAR).astimezone(zone).utcoffset()
    try:
        if len(job.cron.split()) != 5:
            raise ValueError
        # Backwards from the minute after, since `now` may be the time that is sought.
        start = clock + (NEAR if is_near else timedelta(0)) + timedelta(microseconds=1)
        for time in (times := CronSim(job.cron, start, reverse=True)):
            if due := [at for at in _due_at(time, job.cron, zone) if at <= now]:
                if is_near:  # one earlier on the clock may have been later
                    least = time - NEAR
                    for other in takewhile(least.__lt__, times):
                        due += [at for at in _due_at(other, job.cron, zone) if at <= now]
                return max(due).astimezone(zone)
        raise ValueError
    except (CronSimError, ValueError):
        raise ValueError(
            f"cron {job.cron!r} cannot be read, or is never due; write five fields"
        ) from None


def _due_at(time: datetime, cron: str, zone: ZoneInfo) -> list[datetime]:
    """When a time on the clock is, in UTC: at a change of it that may be twice."""
    both = [time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    exist = [at for at in both if at.astimezone(zone).replace(tzinfo=None) == time]
    minutes, hours = cron.split()[:2]
    if minutes.startswith("*") or hours.startswith("*"):
        return exist
    return exist[:1] or [_end_of_gap(both[1], zone)]


def _end_of_gap(before: datetime, zone: ZoneInfo) -> datetime:
    """The first minute after a clock was put forward, soon after a time in UTC."""
    offset, at = before.astimezone(zone).utcoffset(), before.replace(second=0)
    while at.astimezone(zone).utcoffset() == offset:
        at += timedelta(minutes=1)
    return at


def check_schedule(cron: str | None) -> None:
    """Raise ValueError for a schedule that cannot be read, or is never due."""
    job = Job("check", lambda _: None, cron=cron)
    last_due(job, ZoneInfo("UTC"), datetime(2026, 1, 1, tzinfo=UTC))
