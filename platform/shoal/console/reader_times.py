"""Times as the reader of a page has them: in the time zone of the browser.

The script of every page puts the browser's zone into a cookie, and loads the page once
more where it was drawn for another.
"""

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

ZONE_COOKIE = "shoal_zone"
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")


def reader_zone(name: str | None) -> ZoneInfo:
    """The zone with an IANA name; UTC where there is no such zone."""
    if name is not None and _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, KeyError):  # a folder, or no zone's file; or none
            pass
    return ZoneInfo("UTC")


def describe_zone(zone: tzinfo, now: datetime | None = None) -> str:
    """A zone's name with its offset now: "Europe/Warsaw (UTC+01:00)"."""
    if str(zone) == "UTC":
        return "UTC"
    offset = f"{(now or datetime.now(UTC)).astimezone(zone):%z}"
    return f"{zone} (UTC{offset[:3]}:{offset[3:5]})"


def format_time(time: str | datetime | None, zone: tzinfo, now: datetime | None = None) -> str:
    """A moment in a zone, to the minute: "28 Nov, 14:05"; with its year unless this.

    Args:
        time: With an offset: a datetime, or its text of RFC 3339. None gives "".
        zone: The reader's.
        now: What this year is measured by.
    """
    if not time:
        return ""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    local = moment.astimezone(zone)
    is_this_year = local.year == (now or datetime.now(UTC)).astimezone(zone).year
    day = f"{local.day} {local:%b}" if is_this_year else f"{local.day} {local:%b %Y}"
    return f"{day}, {local:%H:%M}"
