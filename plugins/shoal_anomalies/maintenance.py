"""Maintenance windows: when, and for which series, notices are suppressed."""

from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from .points import Labels

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Glob = Annotated[str, Field(min_length=1, max_length=200)]


class Match(BaseModel):
    """The series that a window or a rule covers.

    metric, labels: globs (`*`, `?`, `[…]`), all of which must match. A missing label
        matches no glob.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )

    metric: Glob = "*"
    labels: dict[Annotated[str, Field(max_length=100)], Glob] = Field(
        default_factory=dict, max_length=50
    )

    def covers(self, metric: str, labels: Labels) -> bool:
        """Whether all globs match."""
        return fnmatchcase(metric, self.metric) and all(
            key in labels and fnmatchcase(labels[key], glob) for key, glob in self.labels.items()
        )


class Repeat(BaseModel):
    """When a window recurs: at the same local time on these days of the week.

    until: no window starts at or after this time; None for no end.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )

    timezone: str = Field(max_length=64)
    days: tuple[Day, ...] = Field(DAYS, max_length=7)
    until: AwareDatetime | None = None

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"{name!r} is not an IANA time zone, such as Europe/Berlin")
        return name


class MaintenanceWindow(BaseModel):
    """A time in which notices of some series are suppressed.

    It lasts from `from` to `to` (exclusive), and with `repeat` recurs at the same
    wall-clock time: in the night in which clocks skip an hour, 02:00 to 04:00 lasts one
    hour, and in the one that repeats it, three.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        json_schema_serialization_defaults_required=True,
    )

    start: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    match: Match = Match()
    repeat: Repeat | None = None
    reason: str = Field("", max_length=500)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            start, end = self.start.isoformat(), self.end.isoformat()
            raise ValueError(f"the window ends ({end}) before it starts ({start})")
        if self.repeat and self.end - self.start > timedelta(days=7):
            raise ValueError("a repeating window may last at most a week")
        if self.repeat and self.repeat.until and self.repeat.until <= self.start:
            raise ValueError("the window stops repeating before it starts")
        return self

    def is_active(self, at: datetime) -> bool:
        """Whether the window is active at a time with an offset."""
        return self.occurrence(at) is not None

    def occurrence(self, at: datetime) -> tuple[datetime, datetime] | None:
        """Start and end of the occurrence that is active at a time, or None."""
        if not self.repeat:
            return (self.start, self.end) if self.start <= at < self.end else None
        zone = ZoneInfo(self.repeat.timezone)
        first, last = self.start.astimezone(zone), self.end.astimezone(zone)
        span = (last.date() - first.date()).days
        today = at.astimezone(zone).date()
        for back in range(span + 1):
            day = today - timedelta(days=back)
            start, end = self._occurrence_on(day, first, last, span, zone)
            if (
                day >= first.date()
                and DAYS[day.weekday()] in self.repeat.days
                and start <= at < end
            ):
                return None if self.repeat.until and start >= self.repeat.until else (start, end)
        return None

    @staticmethod
    def _occurrence_on(
        day: date, first: datetime, last: datetime, span: int, zone: ZoneInfo
    ) -> tuple[datetime, datetime]:
        """Start and end, in UTC: times of one zone would compare by their wall clocks.

        An ambiguous start is the earlier time, an ambiguous end the later.
        """
        start = datetime.combine(day, first.time().replace(fold=0), zone)
        end = datetime.combine(day + timedelta(days=span), last.time().replace(fold=1), zone)
        return start.astimezone(UTC), end.astimezone(UTC)

    def covers(self, metric: str, labels: Labels, at: datetime) -> bool:
        """Whether the window suppresses notices of a series at a time."""
        return self.match.covers(metric, labels) and self.is_active(at)
