"""Times in the reader's zone, against the standard library's."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.console.reader_times import describe_zone, format_time, reader_zone

ZONES = ("America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Warsaw", "UTC")
MOMENTS = st.datetimes(
    datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.sampled_from([UTC, ZoneInfo(ZONES[2])])
)


@pytest.mark.parametrize(
    "name", [None, "", "Mars/Olympus", "../../etc/passwd", "America", "/etc/localtime", "a" * 500]
)
def test_an_unknown_zone_is_utc(name: str | None) -> None:
    assert str(reader_zone(name)) == "UTC"


@given(MOMENTS, st.sampled_from(ZONES))
def test_a_time_names_the_readers_minute(moment: datetime, zone: str) -> None:
    shown = format_time(moment.isoformat(), ZoneInfo(zone), now=datetime(1980, 1, 1, tzinfo=UTC))
    read = datetime.strptime(shown, "%d %b %Y, %H:%M")
    local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert timedelta(0) <= local - read < timedelta(minutes=1)


def test_this_year_is_left_out_by_the_readers_calendar() -> None:
    now = datetime(2026, 1, 1, 3, tzinfo=UTC)
    assert format_time(now, ZoneInfo("UTC"), now) == "1 Jan, 03:00"
    assert format_time("2025-12-31T12:00:00Z", ZoneInfo("UTC"), now) == "31 Dec 2025, 12:00"
    assert format_time("2025-12-31T12:00:00Z", ZoneInfo(ZONES[0]), now) == "31 Dec, 04:00"
    assert format_time(None, ZoneInfo("UTC")) == ""


def test_a_zone_is_named_with_its_offset_now() -> None:
    summer = datetime(2026, 7, 1, tzinfo=UTC)
    assert describe_zone(ZoneInfo("Europe/Warsaw"), summer) == "Europe/Warsaw (UTC+02:00)"
    assert describe_zone(ZoneInfo("Asia/Kolkata"), summer) == "Asia/Kolkata (UTC+05:30)"
    assert describe_zone(ZoneInfo("UTC")) == "UTC"
