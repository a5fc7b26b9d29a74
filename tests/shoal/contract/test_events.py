import pytest
from pydantic import ValidationError

from shoal import Event

FIRST, LAST = "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"


@pytest.mark.parametrize("time", [LAST + "-00:01", LAST + "-14:00", FIRST + "+00:01"])
def test_a_time_outside_the_calendar_in_utc_is_refused(time: str) -> None:
    with pytest.raises(ValidationError, match="between the years 1 and 9999 in UTC"):
        Event(type="a", time=time)  # type: ignore[arg-type]


@pytest.mark.parametrize("time", [LAST + "Z", LAST + "9Z", FIRST + "Z", LAST + "+14:00"])
def test_the_ends_of_the_calendar_are_accepted(time: str) -> None:
    assert Event(type="a", time=time).time.isoformat()[:10] == time[:10]  # type: ignore[arg-type]
